"""What ended is noted once, by reference, with what only some tasks have beside it."""

from __future__ import annotations

import pytest

from enginery.core import journal as room
from enginery.core.journal import Journal
from enginery.wire import messages as m


@pytest.fixture
def noted(desk):
    """A desk with a journal; ``noted.taken()`` is what it noted, by task."""

    def make(engines=1, **options):
        made = desk(engines, journal=Journal(), hwm=0, **options)

        def taken():
            found = {}
            for ended in made.scheduler.journal.take():
                for task, result in zip(ended.tasks, ended.results, strict=True):
                    assert task.id == result.id
                    assert task.id not in found
                    found[task.id] = (ended, ended.asides.get(task.id))
            return found

        made.taken = taken
        return made

    return make


def test_plain_successes_are_the_very_structs_that_came(noted):
    desk = noted()
    first, second = desk.submit(2)
    tasks = dict(desk.scheduler.book.tasks)
    desk.turn()
    desk.finish(desk.engines[0], first, second)
    (ended,) = desk.scheduler.journal.ended
    assert ended.tasks[0] is tasks[first]
    assert [result.id for result in ended.results] == [first, second]
    assert ended.asides == {}
    assert ended.engine is desk.engines[0].info
    assert desk.scheduler.journal.count == 2
    desk.taken()
    assert desk.scheduler.journal.count == 0


def test_frames_and_addresses_stand_beside(noted):
    desk = noted()
    (balanced,) = desk.submit(frames=[b"array"])
    desk.turn()
    desk.finish(desk.engines[0], balanced)
    (_, aside) = desk.taken()[balanced]
    assert (list(aside.frames), aside.direct) == ([b"array"], False)
    task = m.Task(desk.ids(1)[0], 0, b"", b"", frames=1)
    desk.scheduler.requests_submitted(desk.client, [m.Request([0], task)], [b"more"], desk.now)
    desk.turn()
    desk.finish(desk.engines[0], task.id)
    (_, aside) = desk.taken()[task.id]
    assert (list(aside.frames), aside.direct) == ([b"more"], True)
    assert desk.scheduler.book.frames == {}


def test_output_goes_with_its_task(noted):
    desk = noted()
    one, two = desk.submit(2)
    desk.turn()
    said = [m.Output(one, "stdout", "hello"), m.Output(9, "stdout", "whose?"), m.Output(one, "stderr", "oh")]
    desk.scheduler.output_arrived(desk.engines[0], said)
    desk.finish(desk.engines[0], one, two)
    taken = desk.taken()
    assert [output.text for output in taken[one][1].said] == ["hello", "oh"]
    assert taken[two][1] is None
    assert desk.scheduler.journal.said == {}


def test_of_very_much_output_the_beginning_is_kept(noted, monkeypatch):
    monkeypatch.setattr(room, "SAID", 10)
    desk = noted()
    (task,) = desk.submit()
    desk.turn()
    for text in ("12345678", "more than fits", "9"):
        desk.scheduler.output_arrived(desk.engines[0], [m.Output(task, "stdout", text)])
    desk.finish(desk.engines[0], task)
    said = desk.taken()[task][1].said
    assert [output.text for output in said if output.kind == "stdout"] == ["12345678"]
    assert "15 characters of output are not in the record" in said[-1].text


def test_failures_retries_and_lost_engines_are_noted_once(noted):
    desk = noted(engines=2)
    (lost,) = desk.submit(targets=[0])
    (retried,) = desk.submit(targets=[1], retries=1)
    desk.turn()
    fault = m.Fault("remote", "ValueError", "no")
    desk.finish(desk.engines[1], retried, fault=fault, status=m.Status.ERROR)
    assert desk.taken() == {}
    desk.finish(desk.engines[1], retried, fault=fault, status=m.Status.ERROR)
    assert desk.taken()[retried][0].results[0].fault is fault
    gone = desk.engines[0].info
    desk.scheduler.engine_left(0, "killed", balanced=lost)
    desk.turn()
    (ended, _) = desk.taken()[lost]
    assert (ended.engine, ended.results[0].status) == (gone, m.Status.LOST)


def test_requests_to_engines_that_are_not_there(noted):
    desk = noted()
    task = m.Task(desk.ids(1)[0], 0, b"", b"")
    desk.scheduler.requests_submitted(desk.client, [m.Request([7], task)], [], desk.now)
    desk.turn()
    (ended, aside) = desk.taken()[task.id]
    assert ended.engine is None
    assert aside.direct
    assert desk.scheduler.journal.direct == set()


def test_tasks_of_clients_that_left_are_noted(noted):
    desk = noted()
    (task,) = desk.submit()
    desk.turn()
    desk.scheduler.client_left(desk.client.number)
    desk.finish(desk.engines[0], task)
    assert task in desk.taken()
