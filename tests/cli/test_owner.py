"""Who the owner of a program is."""

from __future__ import annotations

import os

from enginery.cli.owner import owner_of_this


def test_nobody_a_certain_process_or_the_parent(monkeypatch):
    assert owner_of_this(0) is None
    assert owner_of_this(4711) == 4711
    assert owner_of_this(-1) == os.getppid()
    monkeypatch.setattr(os, "getppid", lambda: 1)
    assert owner_of_this(-1) is None
