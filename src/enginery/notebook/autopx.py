"""``%autopx``: every cell goes to the engines until it is switched off."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


class Switch:
    """Has the cells of a shell run by a cell magic, or no longer.

    Cells are rewritten before anything else is done with them, so terminals and notebooks take part alike.
    """

    #: The shell must not rewrite what it only looks at while a cell is being typed: to see whether it is complete.
    has_side_effects = True

    def __init__(self, shell: InteractiveShell, magic: str) -> None:
        self._transforms = shell.input_transformer_manager.cleanup_transforms
        self._magic = magic
        self.is_on = False

    def toggle(self) -> None:
        """Switch on or off."""
        self.is_on = not self.is_on
        if self.is_on:
            # Before the others: it is to see the cell as it was typed.
            self._transforms.insert(0, self)
        else:
            self._transforms.remove(self)

    def __call__(self, lines: list[str]) -> list[str]:
        """The lines of a cell as they are to be run here."""
        if not any(line.strip() for line in lines) or any(_is_for_here(line) for line in lines):
            return lines
        return [f"get_ipython().run_cell_magic({self._magic!r}, '', {''.join(lines)!r})\n"]


def _is_for_here(line: str) -> bool:
    """Whether a line makes its cell one that is run here: it uses one of our own magics."""
    return line.lstrip().startswith(("%px", "%%px", "%autopx", "%result", "get_ipython().run_cell_magic('px"))
