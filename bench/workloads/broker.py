"""What the machine allows: the round trip of 50 bytes through a minimal zmq broker written in Python.

client DEALER -> ROUTER broker ROUTER -> DEALER worker, and back; three processes, ipc
"""

from __future__ import annotations

import os
import tempfile

import zmq

from harness import Figures, median_and_p99, perform, time_each


def broker(folder: str) -> None:
    """Hand messages on between one client and one worker, for ever."""
    context = zmq.Context()
    front, back = context.socket(zmq.ROUTER), context.socket(zmq.ROUTER)
    front.bind(f"ipc://{folder}/front")
    back.bind(f"ipc://{folder}/back")
    worker, _ = back.recv_multipart()
    poller = zmq.Poller()
    poller.register(front, zmq.POLLIN)
    poller.register(back, zmq.POLLIN)
    client = b""
    while True:
        for socket, _ in poller.poll():
            sender, body = socket.recv_multipart()
            if socket is front:
                client = sender
                back.send_multipart([worker, body])
            else:
                front.send_multipart([client, body])


def echo(folder: str) -> None:
    """Send back what comes, for ever."""
    socket = zmq.Context().socket(zmq.DEALER)
    socket.connect(f"ipc://{folder}/back")
    socket.send(b"here")
    while True:
        socket.send(socket.recv())


def start(function: object, folder: str) -> int:
    """Run ``function(folder)`` in a forked process; return its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            function(folder)  # type: ignore[operator]
        finally:
            os._exit(1)
    return pid


def round_trip(_name: str, seconds: float) -> Figures:
    """Measure for ``seconds``; in milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        # Forked before this process has a zmq context of its own.
        pids = [start(broker, folder), start(echo, folder)]
        socket = zmq.Context().socket(zmq.DEALER)
        socket.connect(f"ipc://{folder}/front")
        message = b"x" * 50

        def trip() -> None:
            socket.send(message)
            socket.recv()

        median, p99 = median_and_p99(time_each(trip, seconds))
        for pid in pids:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        socket.close(linger=0)
    return {"balanced": median * 1e3, "balanced_p99": p99 * 1e3}


if __name__ == "__main__":
    perform(round_trip)
