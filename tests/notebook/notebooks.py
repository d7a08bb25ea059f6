"""Notebooks run without a browser: what each cell showed, and interrupting one while it runs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import nbformat
from nbclient import NotebookClient


def said(text: str) -> dict[str, set[int]]:
    """Which engines said a line, by what it says. (On a busy machine some may come too late to be shown with others.)"""
    found: dict[str, set[int]] = {}
    for ids, line in re.findall(r"^(?:\[\w+:|Out\[)([\d,-]+)(?::\w+)?\]:? (.*)$", text, re.MULTILINE):
        found.setdefault(line, set()).update(_ids(ids))
    return found


def _ids(text: str) -> set[int]:
    runs = [run.split("-") for run in text.split(",")]
    return {number for run in runs for number in range(int(run[0]), int(run[-1]) + 1)}


@dataclass
class Shown:
    """The outputs of one cell."""

    outputs: list[Any] = field(default_factory=list)

    def text(self, name: str = "stdout") -> str:
        return "".join(each.text for each in self.outputs if each.output_type == "stream" and each.name == name)

    def all_text(self) -> str:
        return self.text("stdout") + self.text("stderr")

    def error(self) -> Any:
        return next((each for each in self.outputs if each.output_type == "error"), None)

    def displays(self, mime: str) -> list[Any]:
        kinds = {"display_data", "execute_result"}
        return [each.data[mime] for each in self.outputs if each.output_type in kinds and mime in each.data]

    def order(self) -> list[str]:
        """Labels and mime types in the order in which they stand in the notebook."""
        found = []
        for each in self.outputs:
            if each.output_type == "stream":
                found += [line for line in each.text.splitlines() if line.startswith("[")]
            elif each.output_type == "display_data":
                found.append(max(each.data, key=lambda mime: mime != "text/plain"))
        return found


class Interrupting(NotebookClient):
    """Interrupts the kernel when a running cell has shown something that ``when`` is true of."""

    when: Callable[[int, str], bool] | None = None

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        found = super().process_message(msg, cell, cell_index)
        if self.when is not None and msg["msg_type"] == "stream":
            seen = Shown(cell.outputs).all_text()
            if self.when(cell_index, seen):
                self.when = None
                # Not awaited: whoever called goes on to listen.
                self.interrupting = asyncio.ensure_future(self.interrupt())
        return found

    async def interrupt(self) -> None:
        found = self.km.interrupt_kernel()
        if asyncio.iscoroutine(found) or asyncio.isfuture(found):
            await found


def run(cells: list[str], when: Callable[[int, str], bool] | None = None) -> list[Shown]:
    """Run cells in a new kernel, each of them whatever the one before did; what each showed."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = Interrupting(book, kernel_name="python3", timeout=60, allow_errors=True)
    client.when = when
    client.execute()
    return [Shown(cell.outputs) for cell in book.cells]
