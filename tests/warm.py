"""Commands that need not import anything: they are forked from a process that has imported all that they import.

Half of what a command's process does is to import the same 300 modules as hundreds before it in this suite. So a test may have
them forked, with arguments, environment and streams of their own, and as children of the test's process, which learns their
exit codes and notices those that stay. From there on a command is what ``python -m`` makes of it: its ``__main__`` is run, and its
end is the interpreter's. That commands start from nothing as well is shown by most of tests/cluster, by what ipcluster
starts, by the pages of the documentation, and by what tests start with paths of their own.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import json
import os
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading

#: What commands import, and what engines do when they look up the functions of a file of tests.
IMPORTED = (
    "enginery.cli.cluster_key",
    "enginery.cli.cluster_look",
    "enginery.cli.cluster_start",
    "enginery.cli.ipcluster",
    "enginery.cli.ipcontroller",
    "enginery.cli.ipengine",
    "enginery.cluster.launchers.local",
    "enginery.controller.program",
    "enginery.controller.remote",
    "enginery.engine.host",
    "enginery.net.reach",
    "numpy",
    "pytest",
)
#: numpy shall start no threads: a host forks its engines only where there are none.
ALONE = {"OPENBLAS_NUM_THREADS": "1"}
PR_SET_CHILD_SUBREAPER = 36
#: Longest order, in bytes: it goes in one packet.
MOST = 1 << 17


class Child:
    """A process that was forked; as much of ``subprocess.Popen`` as tests use."""

    def __init__(self, pid):
        self.pid = pid
        self.returncode = None
        self.stdin = None
        self._lock = threading.Lock()

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def poll(self):
        with self._lock:
            if self.returncode is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout=None):
        if self.poll() is None:
            end = os.pidfd_open(self.pid)
            try:
                select.select([end], [], [], timeout)
            finally:
                os.close(end)
            if self.poll() is None:
                raise subprocess.TimeoutExpired(f"pid {self.pid}", timeout)
        return self.returncode


class Warm:
    """The process that has imported everything. Thread-safe."""

    def __init__(self):
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MOST)
            self._process = subprocess.Popen(
                [sys.executable, "-u", __file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **ALONE},
                pass_fds=[theirs.fileno()],
            )

    def start(self, module, argv, environment, descriptors, *, session=False):
        """Start ``python -m module``, with ``descriptors`` by the numbers that they are to have; in a ``session`` of its own?"""
        order = {"module": module, "argv": argv, "environment": environment, "folder": os.getcwd(), "session": session}
        order["numbers"] = list(descriptors)
        with self._lock, adopting():
            socket.send_fds(self._control, [json.dumps(order).encode()], descriptors.values())
            answer = self._control.recv(100)
        assert answer, f"it ended with {self._process.wait()}"
        return Child(int(answer))

    def stop(self):
        self._control.close()
        self._process.wait()


@contextlib.contextmanager
def adopting():
    """Be the parent of processes whose own has ended. Only for a moment: what others leave behind belongs to init."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def serve(control):
    """Fork a process for each order. Returns in those: what they are to be."""
    for name in IMPORTED:
        __import__(name)
    gc.collect()
    gc.freeze()
    while True:
        order, received, _, _ = socket.recv_fds(control, MOST, 10)
        if not order:
            sys.exit()
        pid = fork_sibling()
        if pid == 0:
            control.close()
            return json.loads(order), received
        for fd in received:
            os.close(fd)
        control.send(str(pid).encode())


def fork_sibling():
    """Fork a child of our parent's, who adopts what a process between the two leaves behind. Returns its pid; 0 in itself."""
    reads, writes = os.pipe()
    between = os.fork()
    if between == 0:
        pid = os.fork()
        if pid == 0:
            os.close(reads)
            os.close(writes)
            return 0
        os.write(writes, str(pid).encode())
        os._exit(0)
    os.close(writes)
    os.waitpid(between, 0)  # from here on it is adopted
    pid = int(os.read(reads, 20))
    os.close(reads)
    return pid


def paths_in(environment):
    return list(filter(None, environment.get("PYTHONPATH", "").split(os.pathsep)))


def become(order, received):
    """Be a command in this process."""
    if order["session"]:
        os.setsid()
    highest = max(order["numbers"])
    apart = [fcntl.fcntl(fd, fcntl.F_DUPFD, highest + 1) for fd in received]  # lest one takes the other's number
    for fd in received:
        os.close(fd)
    for fd, number in zip(apart, order["numbers"], strict=True):
        os.dup2(fd, number)
        os.close(fd)
    os.chdir(order["folder"])
    before = paths_in(os.environ)
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.path[: 1 + len(before)] = [order["folder"], *paths_in(os.environ)]
    random.seed()
    sys.argv = ["-m", *order["argv"]]
    runpy.run_module(order["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    become(*serve(socket.socket(fileno=int(sys.argv[1]))))
