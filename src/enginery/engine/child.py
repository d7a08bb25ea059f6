"""The program an engine runs in where it was not forked: ``python -m enginery.engine.child``.

A host starts it and tells it everything over its standard input; see ``children.start_engine``.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from enginery.engine.begun import file_cell
from enginery.engine.channel import LENGTH
from enginery.engine.children import Order, run_and_exit, settle
from enginery.engine.options import EngineOptions
from enginery.engine.watch import LIFELINE, tie_to_parent

if TYPE_CHECKING:
    from enginery.engine.children import EngineMain


def main() -> int:
    """Read the order from standard input, then be that engine. Returns its exit code."""
    with open(0, "rb", buffering=0, closefd=False) as stdin:
        (size,) = LENGTH.unpack(_read(stdin.fileno(), LENGTH.size))
        order = msgspec.msgpack.decode(_read(stdin.fileno(), size), type=Order)
    tie_to_parent(order.host_pid)
    # The pipe lives on as the lifeline; user code that reads standard input finds it empty.
    LIFELINE.fd = os.dup(0)
    silent = os.open(os.devnull, os.O_RDONLY)
    os.dup2(silent, 0)
    os.close(silent)
    cell = file_cell(Path(order.cell))
    if sys.platform != "win32":
        Path(order.cell).unlink(missing_ok=True)
    options = EngineOptions.from_dict(order.options)
    settle(options)
    module, _, name = order.main.partition(":")
    run = cast("EngineMain", getattr(importlib.import_module(module), name))
    return run(options, uuid=order.uuid, begun=cell)


def _read(fd: int, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = os.read(fd, size - len(data))
        if not chunk:
            msg = "the host closed the pipe before it had said what to run; start engines with ipengine"
            raise SystemExit(msg)
        data += chunk
    return bytes(data)


if __name__ == "__main__":
    run_and_exit(main)
