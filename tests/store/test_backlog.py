"""Batches wait to become records until somebody asks, and the oldest go without ever having been made."""

from __future__ import annotations

from enginery.store.backlog import Backlog
from enginery.store.memory import DictDB
from enginery.store.queries import Query
from store.records_of_tests import make_record


class Noted:
    """A batch that tells when it is made."""

    def __init__(self, first, count, size=0):
        self.count = count
        self.size = size
        self.made = 0
        self._numbers = range(first, first + count)

    def records(self):
        self.made += 1
        return {f"session_{number}": make_record(number) for number in self._numbers}


def ids(backlog):
    answers = []
    backlog.ask(lambda store: store.find_records(Query({}), ("msg_id",)), answers.append)
    return {each["msg_id"] for each in answers[0]}


def test_nothing_is_made_until_somebody_asks():
    backlog = Backlog(DictDB())
    batches = [Noted(10 * at, 10) for at in range(5)]
    for batch in batches:
        backlog.write(batch)
    assert [batch.made for batch in batches] == [0] * 5
    assert len(ids(backlog)) == 50
    assert len(ids(backlog)) == 50
    assert [batch.made for batch in batches] == [1] * 5


def test_what_newer_ones_push_out_is_never_made():
    backlog = Backlog(DictDB(record_limit=20))
    batches = [Noted(10 * at, 10) for at in range(5)]
    for batch in batches:
        backlog.write(batch)
    assert ids(backlog) == {f"session_{number}" for number in range(30, 50)}
    assert [batch.made for batch in batches] == [0, 0, 0, 1, 1]


def test_bytes_push_out_as_well():
    backlog = Backlog(DictDB(size_limit=1000))
    for at in range(5):
        backlog.write(Noted(at, 1, size=400))
    assert backlog.statistics() == {"records": 2, "record_bytes": 800}


def test_records_made_earlier_are_kept_beside_new_ones():
    backlog = Backlog(DictDB(record_limit=15, cull_fraction=0.0))
    backlog.write(Noted(0, 10))
    assert len(ids(backlog)) == 10
    backlog.write(Noted(10, 10))
    assert ids(backlog) == {f"session_{number}" for number in range(5, 20)}


def test_an_error_of_the_question_is_the_reply():
    replies = []
    Backlog(DictDB()).ask(lambda store: 1 / 0, replies.append)
    assert isinstance(replies[0], ZeroDivisionError)
