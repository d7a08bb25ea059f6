"""Bodies within a budget."""

from __future__ import annotations

from enginery.core.kept import Kept


def test_past_the_budget_the_oldest_go():
    kept = Kept(budget=10)
    for name in (b"a", b"b", b"c"):
        kept.keep(name, b"12345")
    assert list(kept) == [b"b", b"c"]


def test_what_comes_again_counts_once():
    kept = Kept(budget=10)
    for name in (b"a", b"b", b"a", b"a"):
        kept.keep(name, b"12345")
    assert list(kept) == [b"a", b"b"]


def test_the_newest_is_kept_whatever_its_size():
    kept = Kept(budget=10)
    kept.keep(b"small", b"1")
    kept.keep(b"huge", b"x" * 100)
    assert list(kept) == [b"huge"]
