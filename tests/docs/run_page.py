"""Runs one page of the documentation as a program: ``python run_page.py docs/tutorial.md``.

All Python blocks share one namespace, that of ``__main__``, as if they had been typed one after another. Profiles are made in
a folder of the run's own.
"""

from __future__ import annotations

import atexit
import contextlib
import doctest
import io
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
import types
from pathlib import Path

from pages import ROOT, Step, steps_of
from traitlets.config import Config, Configurable

_CHECKER = doctest.OutputChecker()


def main(page: str) -> int:
    path = ROOT / page
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    os.environ["IPYTHONDIR"] = tempfile.mkdtemp(prefix="eng-")
    atexit.register(shutil.rmtree, os.environ["IPYTHONDIR"], ignore_errors=True)
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    runners = {"python": _run_python, "ipython": _run_ipython, "config": _run_config, "console": _run_console}
    for step in steps_of(path.read_text(encoding="utf-8")):
        try:
            written = runners[step.kind](step, path, module)
        except BaseException:
            traceback.print_exc()
            sys.stderr.write(f"{page}:{step.line}: this example raises\n")
            return 1
        if step.wanted is not None and not _CHECKER.check_output(step.wanted, written, doctest.ELLIPSIS):
            sys.stderr.write(f"{page}:{step.line}: this example should write\n{step.wanted}\nand writes\n{written}\n")
            return 1
    return 0


def _run_python(step: Step, path: Path, module: types.ModuleType) -> str:
    written = io.StringIO()
    # As many empty lines as stand before it in the page, so that tracebacks name the page's own lines.
    source = "\n" * (step.line - 1) + step.text
    with contextlib.redirect_stdout(written):
        exec(compile(source, str(path), "exec"), module.__dict__)
    return written.getvalue()


def _run_ipython(step: Step, _path: Path, module: types.ModuleType) -> str:
    """A cell of a notebook."""
    # Half a second that one page needs.
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance(user_module=module, user_ns=module.__dict__)
    written = io.StringIO()
    with contextlib.redirect_stdout(written):
        shell.run_cell(step.text, store_history=True).raise_error()
    return written.getvalue()


def _run_config(step: Step, path: Path, _module: types.ModuleType) -> str:
    """A configuration file: each of its settings must be there, and take the value."""
    import enginery.cli.cluster_start
    import enginery.cli.ipcontroller
    import enginery.cli.ipengine  # noqa: F401 - imported so that their classes are known

    config = Config()
    exec(compile(step.text, str(path), "exec"), {"c": config})
    classes = {each.__name__: each for each in _subclasses(Configurable)}
    for name, section in config.items():
        traits = classes[name].class_traits(config=True)
        for trait, value in section.items():
            traits[trait]._validate(classes[name](), value)
    return ""


def _run_console(step: Step, _path: Path, _module: types.ModuleType) -> str:
    done = subprocess.run(
        ["sh", "-c", step.text], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise RuntimeError(f"{step.text!r} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def _subclasses(base: type) -> set[type]:
    return {base} | {each for child in base.__subclasses__() for each in _subclasses(child)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
