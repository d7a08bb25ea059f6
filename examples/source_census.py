"""A census of Python sources: parse the standard library and site-packages on four engines, then serially, and compare.

Thousands of real files of very uneven size: a few take a thousand times as long as most. Each file is one task of a
load-balanced map, so an engine that drew a heavy file simply gets fewer others. Run it with `make demo`.
"""

from __future__ import annotations

import argparse
import ast
import os
import sys
import sysconfig
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import enginery as ipp

#: Syntax that adds one more way through a function.
BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.comprehension, ast.match_case)
#: How many functions the report names.
TOP = 20


class Function(NamedTuple):
    """A function and how many ways lead through it."""

    complexity: int
    name: str
    line: int


class Census(NamedTuple):
    """What one file holds. ``fault`` names the exception if it could not be parsed."""

    definitions: int = 0
    documented: int = 0
    branches: int = 0
    functions: tuple[Function, ...] = ()
    fault: str = ""


def branches_at(node: ast.AST) -> int:
    """How many ways ``node`` itself adds to the function it stands in."""
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1 + len(node.ifs)
    return int(isinstance(node, BRANCHES))


def take_census(path: str) -> Census:
    """Count the definitions, docstrings and branches of the file at ``path``. This is what engines run."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(Path(path).read_bytes(), filename=path)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as fault:
        return Census(fault=type(fault).__name__)
    definitions = documented = 0
    functions: list[list[int | str]] = []
    outside: list[int | str] = [0, "<module>", 0]
    # A stack, not recursion: some of these files were written to break recursive visitors.
    stack: list[tuple[ast.AST, str, list[int | str]]] = [(tree, "", outside)]
    while stack:
        node, prefix, owner = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            definitions += 1
            documented += ast.get_docstring(node, clean=False) is not None
            prefix = f"{prefix}.{node.name}" if prefix else node.name
            if not isinstance(node, ast.ClassDef):
                owner = [1, prefix, node.lineno]
                functions.append(owner)
        else:
            owner[0] += branches_at(node)
        stack.extend((child, prefix, owner) for child in ast.iter_child_nodes(node))
    ranked = sorted((Function(*entry) for entry in functions), key=lambda f: (-f.complexity, f.line))
    return Census(definitions, documented, sum(f.complexity for f in ranked), tuple(ranked[:TOP]))


def find_sources() -> dict[str, str]:
    """Map each source file of the standard library and of site-packages, once, to the package it belongs to."""
    roots = dict.fromkeys(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    found: dict[str, str] = {}
    for root in roots:
        for path in sorted(root.rglob("*.py")):
            inside = path.relative_to(root).parts
            if inside[0] not in {"site-packages", "dist-packages"} and path.is_file():
                found.setdefault(str(path.resolve()), inside[0].removesuffix(".py"))
    return found


def report_packages(packages: dict[str, str], censuses: list[Census]) -> None:
    """Print one line for each of the largest packages, and what could not be parsed."""
    totals: dict[str, Counter[str]] = {}
    for package, census in zip(packages.values(), censuses, strict=True):
        total = totals.setdefault(package, Counter())
        total.update(files=1, defs=census.definitions, docs=census.documented, branches=census.branches)
    print(f"\n{'package':<24} {'files':>6} {'definitions':>12} {'documented':>11} {'branches':>9}")
    largest = sorted(totals, key=lambda name: -totals[name]["defs"])[:15]
    for name in [*largest, "all"]:
        total = totals[name] if name in totals else sum(totals.values(), Counter())
        share = total["docs"] / total["defs"] if total["defs"] else 0.0
        print(f"{name:<24} {total['files']:>6} {total['defs']:>12} {share:>11.0%} {total['branches']:>9}")
    faults = Counter(census.fault for census in censuses if census.fault)
    print("not parsed:", ", ".join(f"{count} by {name}" for name, count in faults.most_common()) or "none")


def report_functions(packages: dict[str, str], censuses: list[Census]) -> None:
    """Print the most complex functions. One that several packages carry a copy of is named once."""
    places: dict[tuple[int, str], list[str]] = {}
    for (path, package), census in zip(packages.items(), censuses, strict=True):
        for function in census.functions:
            where = f"{package}: {Path(path).name}:{function.line}"
            places.setdefault((function.complexity, function.name), []).append(where)
    print(f"\nThe {TOP} most complex functions")
    for (complexity, name), where in sorted(places.items(), key=lambda item: (-item[0][0], item[0][1]))[:TOP]:
        copies = f" and {len(where) - 1} more" if len(where) > 1 else ""
        short = name if len(name) <= 48 else f"{name[:47]}…"
        print(f"{complexity:>5}  {short:<48} {where[0]}{copies}")


def main() -> int:
    """Run the census both ways; return 0 only if both agree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", "--engines", type=int, default=4, help="engines to start (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=None, help="take only so many files (default: all)")
    options = parser.parse_args()

    packages = dict(list(find_sources().items())[: options.limit])
    files = list(packages)
    print(f"{len(files)} files; {options.engines} engines on {os.cpu_count()} cores")

    began = time.perf_counter()
    with ipp.Cluster(n=options.engines) as rc:
        ready = time.perf_counter()
        view = rc.load_balanced_view()
        result = view.map_async(take_census, files, chunksize=1)
        result.wait_interactive()
        parallel = result.get()
        done = time.perf_counter()
    print(f"cluster ready after {ready - began:.2f} s; parallel: {done - ready:.2f} s")

    began = time.perf_counter()
    serial = [take_census(path) for path in files]
    alone = time.perf_counter() - began
    print(f"serial: {alone:.2f} s, {alone / (done - ready):.2f} times as long")

    report_packages(packages, serial)
    report_functions(packages, serial)
    differing = [path for path, one, other in zip(files, parallel, serial, strict=True) if one != other]
    if differing:
        print(f"\nERROR: {len(differing)} files differ between the two runs, first {differing[0]}", file=sys.stderr)
        return 1
    print("\nBoth runs agree on every file.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
