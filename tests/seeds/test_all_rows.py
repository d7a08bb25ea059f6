"""Each row of the interface's list is tested, or has a line that says what replaced it."""

from __future__ import annotations

from seeds import rows


def test_every_row_is_covered():
    covered = rows.tested() | rows.replaced()
    assert sorted(rows.ROWS - covered) == []
    assert sorted(covered - rows.ROWS) == []
