"""The writer thread: order, batches, bounds, and stores that raise."""

from __future__ import annotations

import threading

import pytest

from enginery.store import writer as writers
from enginery.store.batches import Changes
from enginery.store.memory import DictDB
from enginery.store.queries import Query
from enginery.store.records import record_of
from enginery.store.writer import Writer
from store.sheets_of_tests import make_entry, sheet_of

PATIENCE = 20.0


class Gate(DictDB):
    """A store that writes when it is let, and notes how."""

    def __init__(self):
        super().__init__()
        self.open = threading.Event()
        self.entered = threading.Event()
        self.writes = []
        self.threads = set()
        self.fails = False

    def update_records(self, records):
        self.entered.set()
        assert self.open.wait(PATIENCE)
        self.threads.add(threading.current_thread().name)
        if self.fails:
            raise OSError("the disk is full")
        self.writes.append(sorted(records))
        super().update_records(records)


@pytest.fixture
def store():
    return Gate()


@pytest.fixture
def writer(store):
    writer = Writer(lambda: store, most_records=5)
    yield writer
    store.open.set()
    writer.close()


def batch(*numbers, **given):
    return Changes({f"s_{number}": {"msg_id": f"s_{number}", **given} for number in numbers})


def ask(writer, question):
    """What the store says to a question."""
    answers = []
    writer.ask(question, answers.append)
    while not answers:
        wait_readable(writer.wakeup)
        writer.take_replies()
    return answers[0]


def wait_readable(wakeup):
    import select

    assert select.select([wakeup.fileno()], [], [], PATIENCE)[0], "the store has not answered"


def everything(store):
    return sorted(each["msg_id"] for each in store.find_records(Query({}), ("msg_id",)))


def test_what_has_accumulated_is_one_write_and_questions_come_after_it(store, writer):
    writer.write(batch(1))
    assert store.entered.wait(PATIENCE)
    writer.write(batch(2))
    writer.write(batch(3, label="a"))
    writer.write(batch(3, status="ok"))
    store.open.set()
    assert ask(writer, everything) == ["s_1", "s_2", "s_3"]
    assert store.writes == [["s_1"], ["s_2", "s_3"]]
    assert store.threads == {"enginery-store"}
    found = store.find_records(Query({"msg_id": "s_3"}), ("label", "status"))
    assert found == [{"label": "a", "status": "ok"}]
    assert writer.statistics() == {"records_written": 3, "records_waiting": 0, "records_lost": 0}


class Archive(Gate):
    """A store that takes sheets."""

    def add_sheets(self, sheets):
        self.writes.append([sheet.count for sheet in sheets])


class Ended:
    """A batch of tasks that ended."""

    size = 10

    def __init__(self, *entries):
        self.entries = entries
        self.count = len(entries)

    def records(self):
        return {entry.msg_id: record_of(entry) for entry in self.entries}

    def sheets(self, others):
        return [sheet_of([entry for batch in (self, *others) for entry in batch.entries])]


@pytest.mark.parametrize("only_ended", [True, False])
def test_tasks_that_are_told_of_once_are_written_by_the_sheet(only_ended):
    store = Archive()
    writer = Writer(lambda: store, only_ended=only_ended)
    writer.write(batch(1))
    assert store.entered.wait(PATIENCE)
    for each in (Ended(make_entry(1), make_entry(2)), Ended(make_entry(3)), batch(2, 3), Ended(make_entry(4))):
        writer.write(each)
    store.open.set()
    ask(writer, everything)
    expected = (
        [["s_1"], [3], ["s_2", "s_3"], [1]]
        if only_ended
        else [["s_1"], ["ours_1", "ours_2", "ours_3", "ours_4", "s_2", "s_3"]]
    )
    assert store.writes == expected
    assert writer.written == 7
    writer.close()


def test_who_writes_too_much_waits(store, writer):
    writer.write(batch(*range(6)))
    assert store.entered.wait(PATIENCE)
    done = threading.Event()
    thread = threading.Thread(target=lambda: (writer.write(batch(9)), done.set()))
    thread.start()
    assert not done.is_set()
    store.open.set()
    assert done.wait(PATIENCE)
    thread.join()
    assert ask(writer, everything)[-1] == "s_9"


def test_a_store_that_takes_nothing_costs_records_and_not_the_cluster(store, writer, monkeypatch, caplog):
    monkeypatch.setattr(writers, "PATIENCE", 0.01)
    writer.write(batch(*range(6)))
    writer.write(batch(9))
    assert writer.lost == 1
    assert "it has not taken anything" in caplog.text


def test_a_store_that_raises_costs_what_it_was_given(store, writer, caplog):
    store.open.set()
    store.fails = True
    writer.write(batch(1, 2))
    assert ask(writer, everything) == []
    assert writer.statistics() == {"records_written": 0, "records_waiting": 0, "records_lost": 2}
    assert "the disk is full" in caplog.text
    store.fails = False
    writer.write(batch(3))
    assert ask(writer, everything) == ["s_3"]


def test_a_question_that_raises_is_answered_by_what_it_raised(store, writer):
    store.open.set()

    def question(_store):
        raise ValueError("what?")

    assert isinstance(ask(writer, question), ValueError)


def test_a_store_that_cannot_be_opened_is_told_at_once():
    def make():
        raise OSError("no such server")

    with pytest.raises(OSError, match="no such server"):
        Writer(make)


def test_everything_is_written_at_the_end(store):
    closed = []
    store.close = lambda: closed.append(everything(store))
    writer = Writer(lambda: store)
    for number in range(100):
        writer.write(batch(number))
    store.open.set()
    writer.close()
    assert closed == [sorted(f"s_{number}" for number in range(100))]
