"""The process of a command: what it leaves out at its beginning and at its end, for many of them are started."""

from __future__ import annotations

import atexit
import gc
import importlib
import logging
import os
import sys
from typing import Final

#: Objects made before the collector looks for cycles: more than imports make, which keep nearly all they make.
START_UP: Final = 100_000


def run_program(module: str) -> None:
    """Be the command whose ``main`` is in ``module``, until this process ends.

    Taking the interpreter apart object by object takes as long as a third of all imports, and the system does it anyhow.
    So when threads and exit handlers are done and streams flushed, the process just ends.
    """
    gc.set_threshold(START_UP, 20, 100)
    codes: list[int] = []
    # Before all handlers that the command brings, so that it runs after them.
    atexit.register(_leave, codes)
    try:
        importlib.import_module(module).main()
        codes.append(0)
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            codes.append(error.code or 0)
        raise


def _leave(codes: list[int]) -> None:
    """End with the code in ``codes``. Other ends, with words or by a signal, are the interpreter's to tell."""
    if not codes:
        return
    logging.shutdown()
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except Exception:
        # Nobody could be told: the interpreter has a code of its own for that.
        return
    os._exit(codes[0] & 0xFF)
