from __future__ import annotations

import os

import pytest

from enginery.engine.begun import STRIDE, UNSAID, BegunCell, file_cell, shared_cells


def test_a_new_cell_says_that_nothing_has_begun():
    for cell in (BegunCell(), *shared_cells(2)):
        assert (cell.balanced, cell.direct, cell.code) == (-1, -1, UNSAID)


def test_cells_hold_every_task_id():
    (cell,) = shared_cells(1)
    for number in (0, (1 << 63) - 1, -1):
        cell.balanced = number
        cell.direct = number
        assert (cell.balanced, cell.direct) == (number, number)


def test_cells_of_one_memory_do_not_touch_each_other():
    cells = shared_cells(100)
    for index, cell in enumerate(cells):
        cell.balanced, cell.direct = index, 1000 + index
    assert [(cell.balanced, cell.direct) for cell in cells] == [(index, 1000 + index) for index in range(100)]


def test_a_cleared_cell_is_as_new():
    cell = BegunCell(3, 4)
    cell.clear()
    assert (cell.balanced, cell.direct, cell.code) == (-1, -1, UNSAID)
    assert repr(cell) == "<BegunCell balanced=-1 direct=-1>"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing can be forked here")
def test_what_a_forked_process_wrote_is_there_after_it_was_killed():
    first, second = shared_cells(2)
    pid = os.fork()
    if pid == 0:
        second.balanced = 1 << 41
        second.direct = 7
        os.kill(os.getpid(), 9)
    assert os.waitpid(pid, 0)[1] == 9
    assert (second.balanced, second.direct) == (1 << 41, 7)
    assert (first.balanced, first.direct) == (-1, -1)


def test_a_file_cell_is_seen_by_all_who_map_it_even_after_its_removal(tmp_path):
    path = tmp_path / "cell"
    one = file_cell(path, create=True)
    other = file_cell(path)
    assert path.stat().st_size == STRIDE
    path.unlink()
    other.balanced = 5
    assert one.balanced == 5
    assert one.direct == -1


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        file_cell(tmp_path / "none")
