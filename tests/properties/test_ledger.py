"""The ledger never mistakes one task's ending for another's."""

from __future__ import annotations

from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from enginery.core import ledger as room
from enginery.core.engines import MAX_GAPS, ClientRecord
from enginery.core.ledger import Ending, Ledger
from enginery.wire.messages import CLIENT_SHIFT

FIRST = 1 << CLIENT_SHIFT


@given(
    st.lists(st.tuples(st.integers(0, 60), st.booleans(), st.integers(-1, 5)), max_size=60),
    st.integers(0, 40),
    st.booleans(),
)
def test_what_is_read_was_noted(endings, further, together):
    """With slots for 8 tasks only, in any order of ending; the client's highest id grows as it goes."""
    with mock.patch.multiple(room, DEPTH=8, MASK=7):
        ledger, noted, highest = Ledger(), {}, FIRST
        for at, ok, engine in endings:
            task = FIRST + at
            highest = max(highest, task + 1)
            if task in noted:
                continue
            noted[task] = Ending(ok, engine)
            if ok and together:
                ledger.note_successes([task], engine, highest)
            else:
                ledger.note(task, noted[task], highest)
            for other, ending in noted.items():
                read = ledger.read(other, highest)
                assert read.ok == ending.ok
                assert read.engine in {ending.engine, -1}
        highest += further
        for task, ending in noted.items():
            read = ledger.read(task, highest)
            assert read.ok == ending.ok
            assert read.engine == (-1 if task < highest - 8 else ending.engine)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 6)), max_size=40))
def test_ids_are_claimed_once(claims):
    client, used = ClientRecord(1, "someone", "token", 0.0), set()
    for first, count in claims:
        wanted = set(range(FIRST + first, FIRST + first + count))
        assert client.claim(FIRST + first, count) == (not wanted & used)
        if not wanted & used:
            used |= wanted
        assert len(client.gaps) <= MAX_GAPS
        for task in range(FIRST, FIRST + 60):
            assert client.has_used(task) == (task in used)
