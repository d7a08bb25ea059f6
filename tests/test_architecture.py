"""The floors and nevers of ARCHITECTURE.md, read from the imports of every source file."""

from __future__ import annotations

import ast
import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "enginery"

#: Floor of each room. A file may import from its own room and from rooms on lower floors.
FLOORS = {
    "_version": 0,
    "descriptions": -1,  # with these two the errors are told
    "error_texts": -1,
    "errors": 0,
    "wire": 1,
    "net": 1,
    "core": 2,
    "engine": 3,
    "client": 3,
    "store": 3,
    "config": 4,
    "datapub": 4,
    "controller": 5,
    "cluster": 5,
    "notebook": 5,
    "dashboard": 5,
    "compat": 6,
    "integrations": 6,
    "cli": 6,
    "logger": 7,  # the command iplogger, by its module
    "testing": 6,
    "": 7,  # the face
}

#: room -> top-level modules it never imports
NEVER_OUTSIDE = {
    room: {"zmq", "threading", "asyncio", "time", "socket", "sqlite3", "logging", "random", "os"}
    for room in ("core", "wire")
}

#: room -> prefixes of our own modules that it never imports, whatever their floors
NEVER_INSIDE = {
    "wire": {"enginery.net"},
    "net": {"enginery.wire"},
    "core": {"enginery.wire.serialize", "enginery.wire.callables"},
    "controller": {"enginery.wire.serialize", "enginery.wire.callables", "enginery.engine", "enginery.client"},
    "engine": {"enginery.controller", "enginery.client"},
    "client": {"enginery.controller", "enginery.engine"},
    "cluster": {"enginery.controller", "enginery.engine"},
}

#: module outside -> prefixes of our modules that alone may import it
ONLY_IN = {
    "IPython": ("enginery.engine.shell", "enginery.notebook", "enginery.cli", "enginery.config"),
    "pickle": ("enginery.wire",),
    "cloudpickle": ("enginery.wire",),
    "dill": ("enginery.wire",),
    "marshal": ("enginery.wire",),
}

#: The files where zmq sockets are made: those of ours, and those of Jupyter.
SOCKETS = {"enginery.net.routed", "enginery.net.jupyter_ports"}

#: What `import enginery` must not load: each costs more than the whole face.
HEAVY = {"IPython", "asyncio", "multiprocessing", "numpy", "pandas", "psutil", "sqlite3", "tqdm", "traitlets", "zmq"}


@dataclass(frozen=True)
class Import:
    """One import of a source file: ``target`` is a module, or a name in a module."""

    file: SourceFile
    target: str
    line: int
    typing_only: bool
    in_function: bool

    def __str__(self) -> str:
        return f"{self.file.path.relative_to(SOURCE.parent)}:{self.line}: {self.file.lines[self.line - 1].strip()}"


@dataclass(frozen=True)
class SourceFile:
    path: Path
    module: str
    lines: tuple[str, ...]
    tree: ast.Module

    @property
    def room(self) -> str:
        # `__main__` files are command lines that happen to live beside what they start.
        if self.path.name == "__main__.py":
            return "cli"
        parts = self.module.split(".")
        return parts[1] if len(parts) > 1 else ""

    @functools.cached_property
    def imports(self) -> tuple[Import, ...]:
        return tuple(self._walk(self.tree, typing_only=False, in_function=False))

    def _walk(self, node: ast.AST, *, typing_only: bool, in_function: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import | ast.ImportFrom):
                for target in self._targets(child):
                    yield Import(self, target, child.lineno, typing_only, in_function)
            else:
                yield from self._walk(
                    child,
                    typing_only=typing_only
                    or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)),
                    in_function=in_function or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda),
                )

    def _targets(self, node: ast.Import | ast.ImportFrom) -> list[str]:
        if isinstance(node, ast.Import):
            return [alias.name for alias in node.names]
        base = node.module or ""
        if node.level:
            package = self.module if self.path.name == "__init__.py" else self.module.rpartition(".")[0]
            for _ in range(node.level - 1):
                package = package.rpartition(".")[0]
            base = f"{package}.{base}" if base else package
        return [f"{base}.{alias.name}" for alias in node.names]


def read(path: Path) -> SourceFile:
    parts = ("enginery", *path.relative_to(SOURCE).with_suffix("").parts)
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    text = path.read_text(encoding="utf-8")
    return SourceFile(path, module, tuple(text.splitlines()), ast.parse(text, filename=str(path)))


# When a test asks for them, not when they are collected: every process of a run collects all files.


@functools.cache
def files() -> list[SourceFile]:
    return [read(path) for path in sorted(SOURCE.rglob("*.py"))]


@functools.cache
def modules() -> dict[str, SourceFile]:
    return {file.module: file for file in files()}


@functools.cache
def imports() -> list[Import]:
    return [entry for file in files() for entry in file.imports]


@functools.cache
def ours() -> list[Import]:
    return [entry for entry in imports() if entry.target.split(".")[0] == "enginery"]


def room_of(target: str) -> str:
    parts = target.split(".")
    return parts[1] if len(parts) > 1 else ""


def within(target: str, prefixes: set[str] | tuple[str, ...]) -> bool:
    return any(target == prefix or target.startswith(prefix + ".") for prefix in prefixes)


def report(offenders: list[str]) -> str:
    return "\n".join(["", *offenders])


def test_every_room_has_a_floor():
    unknown = sorted({file.room for file in files()} - FLOORS.keys())
    assert not unknown, f"give each of these rooms a floor here and in ARCHITECTURE.md: {unknown}"


def test_imports_go_down_the_floors():
    bad = [
        f"{entry}   [{entry.file.room or 'face'} may not look at {room_of(entry.target) or 'the face'}]"
        for entry in ours()
        if (here := entry.file.room) != (there := room_of(entry.target)) and FLOORS.get(there, 99) >= FLOORS[here]
    ]
    assert not bad, report(bad)


def test_core_knows_messages_and_errors_only():
    allowed = ("enginery.core", "enginery.wire.messages", "enginery.errors")
    bad = [str(entry) for entry in ours() if entry.file.room == "core" and not within(entry.target, allowed)]
    assert not bad, report(bad)


@pytest.mark.parametrize("room", NEVER_OUTSIDE)
def test_pure_rooms_stay_pure(room):
    bad = [
        str(entry)
        for entry in imports()
        if entry.file.room == room and entry.target.split(".")[0] in NEVER_OUTSIDE[room]
    ]
    assert not bad, report(bad)


def test_records_and_queries_are_pure():
    pure = {f"enginery.store.{name}" for name in ("backlog", "batches", "interface", "memory", "queries", "records")}
    assert pure <= modules().keys()
    bad = [
        str(entry)
        for entry in imports()
        if entry.file.module in pure and entry.target.split(".")[0] in NEVER_OUTSIDE["core"]
    ]
    assert not bad, report(bad)


@pytest.mark.parametrize("room", NEVER_INSIDE)
def test_rooms_that_must_not_know_each_other(room):
    bad = [str(entry) for entry in ours() if entry.file.room == room and within(entry.target, NEVER_INSIDE[room])]
    assert not bad, report(bad)


@pytest.mark.parametrize("outside", ONLY_IN)
def test_modules_with_one_home(outside):
    bad = [
        str(entry)
        for entry in imports()
        if entry.target.split(".")[0] == outside
        and not within(entry.file.module, ONLY_IN[outside])
        and not within(f"enginery.{entry.file.room}", ONLY_IN[outside])
    ]
    assert not bad, report(bad)


def test_nobody_inside_imports_the_face():
    bad = [
        str(entry)
        for entry in ours()
        if entry.target == "enginery" or (entry.target.count(".") == 1 and entry.target not in modules())
    ]
    assert not bad, report(bad)


def test_zmq_sockets_are_made_in_two_files():
    bad = [
        f"{file.path.relative_to(SOURCE.parent)}:{node.lineno}: {file.lines[node.lineno - 1].strip()}"
        for file in files()
        if file.module not in SOCKETS
        for node in ast.walk(file.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and (
            (node.func.attr == "socket" and ast.unparse(node.func.value) not in {"socket", "sockets"})
            or ast.unparse(node.func) in {"zmq.Socket", "zmq.Context", "zmq.Context.instance"}
        )
    ]
    assert not bad, report(bad)


def test_there_is_no_import_circle():
    graph = {module: set() for module in modules()}
    for entry in ours():
        if entry.typing_only:
            continue
        target = entry.target if entry.target in modules() else entry.target.rpartition(".")[0]
        if target in modules() and target != entry.file.module:
            graph[entry.file.module].add(target)
    assert not (circle := find_circle(graph)), " -> ".join(circle)


def find_circle(graph: dict[str, set[str]]) -> list[str]:
    """Return the modules of one circle, first one repeated at the end; empty if there is none."""
    done: set[str] = set()
    path: list[str] = []

    def visit(module: str) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        path.append(module)
        for target in sorted(graph[module]):
            if circle := visit(target):
                return circle
        done.add(path.pop())
        return []

    return next((circle for module in sorted(graph) if (circle := visit(module))), [])


def test_a_circle_is_found_when_there_is_one():
    assert find_circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert find_circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_imports_inside_functions_say_why():
    bad = [str(entry) for entry in imports() if entry.in_function and not is_explained(entry)]
    assert not bad, report(bad)


def is_explained(entry: Import) -> bool:
    """Whether a comment stands on the line of the import, or above the block of imports it belongs to."""
    lines = entry.file.lines
    above = entry.line - 2
    while lines[above].strip().startswith(("import ", "from ")) and "#" not in lines[above]:
        above -= 1
    return "#" in lines[entry.line - 1] or "#" in lines[above]


def test_every_file_opens_with_its_subject():
    bad = [str(file.path) for file in files() if not ast.get_docstring(file.tree)]
    assert not bad, report(bad)


def test_pure_files_say_so():
    bad = [
        str(file.path)
        for file in files()
        if file.room in NEVER_OUTSIDE
        and file.path.name != "__init__.py"
        and "No I/O" not in (ast.get_docstring(file.tree) or "")
    ]
    assert not bad, report(bad)


def loaded_by(statement: str) -> set[str]:
    """Names of the top-level modules a new interpreter has after ``statement``."""
    script = f"{statement}\nimport json, sys\nprint(json.dumps([name for name in sys.modules]))"
    # -I keeps the caller's environment out; site is needed to find the installed package.
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in json.loads(done.stdout)}


def test_importing_the_face_is_light():
    bare = loaded_by("pass")
    assert loaded_by("import enginery") & HEAVY - bare == set()


def test_importing_the_client_leaves_out_what_only_some_need():
    assert loaded_by("import enginery.client.client") & {"IPython", "numpy", "pandas", "tqdm", "sqlite3"} == set()


def test_the_face_keeps_its_promises():
    import enginery

    assert len(set(enginery.__all__)) == len(enginery.__all__)
    missing = [name for name in enginery.__all__ if not hasattr(enginery, name)]
    assert not missing, f"listed in __all__, but not there: {missing}"


def test_the_version_is_written_once():
    from importlib.metadata import version

    from enginery._version import __version__

    assert version("enginery") == __version__
