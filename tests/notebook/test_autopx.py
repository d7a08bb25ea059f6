"""Cells on their way to the engines."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from enginery.notebook.autopx import Switch


@pytest.fixture
def manager():
    return TransformerManager()


@pytest.fixture
def switch(manager):
    return Switch(SimpleNamespace(input_transformer_manager=manager), "px_a")


def test_cells_are_handed_to_the_cell_magic(manager, switch):
    cell = "for i in range(2):\n    print('%d' % i)\n%ls\nx?\n"
    switch.toggle()
    assert manager.transform_cell(cell) == f"get_ipython().run_cell_magic('px_a', '', {cell!r})\n"
    switch.toggle()
    assert "run_cell_magic" not in manager.transform_cell("x = 1")
    assert not switch.is_on


@pytest.mark.parametrize("cell", ["%autopx", "  %autopx_a\n", "%px_a 1", "%%px\n1", "%pxresult", "%result", "", "\n\n"])
def test_our_own_magics_stay_here(manager, switch, cell):
    before = manager.transform_cell(cell)
    switch.toggle()
    assert manager.transform_cell(cell) == before


@pytest.mark.parametrize(
    ("cell", "state"), [("for i in x:", "incomplete"), ("for i in x:\n    1\n\n", "complete"), ("1 +", "invalid")]
)
def test_terminals_see_whether_a_cell_is_complete(manager, switch, cell, state):
    switch.toggle()
    assert manager.check_complete(cell)[0] == state
