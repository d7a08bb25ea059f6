"""A host with engines that only wait, started by test_host.py as a process of its own.

Arguments: a JSON object of engine options, with the controller's address under "url". An engine does what the
option "startup_command" says once it has said hello.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from pathlib import Path

from enginery.engine import host
from enginery.engine.options import EngineOptions
from enginery.engine.watch import host_gone_fd
from enginery.net import sockets
from enginery.net.connection_file import ConnectionInfo
from enginery.wire.messages import VERSION, EngineHello, encode


def pretend(options, *, uuid, begun):
    """Be an engine in so far as the host can tell."""
    begun.balanced, begun.direct = 41, (1 << 41) + 7
    # Also if it comes between two lines: a handler runs between instructions, and `select` below is one that waits.
    heard, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGUSR1, lambda *_: os._exit(77))
    if options.startup_command == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    channel = sockets.dial(options.connection)
    wanted = -1 if options.id is None else options.id
    channel.send(encode(EngineHello(VERSION, uuid, os.getpid(), str(Path.cwd()), wanted)), [])
    if options.startup_command.startswith("exit"):
        code = int(options.startup_command.split()[1])
        channel.close(1)
        return code
    # "hang" is an engine whose link does not look at the lifeline: only the kernel can end it.
    fd = host_gone_fd()
    lifeline = [fd] if fd >= 0 and options.startup_command != "hang" else []
    while True:
        ready = select.select([*lifeline, heard], [], [])[0]
        if fd in ready:
            return 0
        os.read(heard, 1)  # the handler runs now, and does not return


def main(text):
    plain = json.loads(text)
    connection = ConnectionInfo("engine", plain.pop("url"))
    for name in ("work_dir",):
        if name in plain:
            plain[name] = Path(plain[name])
    return host.run(EngineOptions(connection=connection, **plain), engine_main=pretend)


if __name__ == "__main__":
    # Started engines import their main function by the name of its module, as they do in earnest.
    import host_program

    pretend = host_program.pretend
    sys.exit(host_program.main(sys.argv[1]))
