"""From entries to a scheduler that goes on."""

from __future__ import annotations

from random import Random

import pytest

from enginery.core import logbook as book
from enginery.core.invariants import check
from enginery.core.logbook import Logbook
from enginery.core.recall import Recall, written
from enginery.core.scheduler import Scheduler
from enginery.wire import messages as m

NOW = 5.0


class Life:
    """A scheduler that writes, and what it has written so far."""

    def __init__(self):
        self.scheduler = Scheduler(random=Random(1), hwm=2, logbook=Logbook())
        self.client = self.scheduler.client_joined("someone", "token", NOW, "session")
        self.engines = [self.scheduler.engine_joined(f"uuid {at}", at, "host", -1, NOW) for at in range(2)]
        self.page = []
        self.next_id = self.client.number << m.CLIENT_SHIFT

    def submit(self, count, options=None, frames=0):
        ids = list(range(self.next_id, self.next_id + count))
        self.next_id += count
        tasks = [m.Task(number, 0, b"", b"payload", frames, options) for number in ids]
        self.scheduler.tasks_submitted(self.client, tasks, [b"%d" % at for at in range(count * frames)], NOW)
        return ids

    def turn(self):
        self.scheduler.take_actions(NOW)
        self.scheduler.settle()
        self.page += self.scheduler.logbook.take()

    def end(self, engine, number, status=0):
        fault = m.Fault("remote", "E", "e") if status else None
        self.scheduler.results_arrived(engine, [m.Result(number, status, b"", 0, 1.0, 2.0, fault)], [], NOW)

    def recalled(self, page=None):
        recall = Recall()
        for entry, frames in self.page if page is None else page:
            recall.read(book.decode(book.encode(entry)), frames)
        scheduler = Scheduler(random=Random(1), hwm=2, logbook=Logbook())
        recall.put_into(scheduler, NOW)
        scheduler.settle()
        check(scheduler)
        return recall, scheduler


@pytest.fixture
def life():
    return Life()


def test_tasks_stand_where_they_stood(life):
    ids = life.submit(7, frames=1)
    life.turn()
    _, scheduler = life.recalled()
    assert list(scheduler.book.tasks) == ids or sorted(scheduler.book.tasks) == ids
    assert [list(scheduler.engines[at].balanced) for at in (0, 1)] == [
        list(life.scheduler.engines[at].balanced) for at in (0, 1)
    ]
    assert scheduler.dealer.general.ids() == life.scheduler.dealer.general.ids()
    assert scheduler.book.frames == life.scheduler.book.frames
    assert all(engine.leaving for engine in scheduler.engines.values())


def test_results_wait_until_they_are_taken(life):
    first, second = life.submit(2)
    life.turn()
    for engine in life.engines:
        for number in list(engine.balanced):
            life.end(engine, number)
    life.turn()
    recall, scheduler = life.recalled()
    assert sorted(recall.unheard) == [first, second]
    assert not scheduler.book.tasks
    life.page.append((book.Taken([first]), []))
    assert list(life.recalled()[0].unheard) == [second]


def test_ids_are_not_taken_twice(life):
    ids = life.submit(3)
    life.turn()
    _, scheduler = life.recalled()
    client = scheduler.clients[life.client.number]
    assert client.token == "token"
    assert client.session == "session"
    assert not any(client.claim(number, 1) for number in ids)
    assert scheduler.client_joined("other", "token", NOW).number != client.number
    assert scheduler.engine_joined("new", 9, "host", -1, NOW).info.id == 2


def test_attempts_count(life):
    (number,) = life.submit(1, m.Options(retries=2))
    life.turn()
    engine = next(engine for engine in life.engines if engine.balanced)
    life.end(engine, number, m.Status.ERROR)
    life.turn()
    _, scheduler = life.recalled()
    rare = scheduler.book.rare[number]
    assert rare.retries_left == 1
    assert rare.excluded == {engine.info.id}
    assert len(rare.attempts) == 1


def test_dependencies_wait_again(life):
    first, second = life.submit(2)
    (third,) = life.submit(1, m.Options(after=m.Dependency([first, second])))
    life.turn()
    holder = next(engine for engine in life.engines if first in engine.balanced)
    life.end(holder, first)
    life.turn()
    _, scheduler = life.recalled()
    assert list(scheduler.book.waiting) == [third]
    assert scheduler.admission.awaited_by(third) == [second]


def test_a_client_that_left_is_nobody_new(life):
    number = life.client.number
    life.scheduler.client_left(number)
    life.turn()
    _, scheduler = life.recalled()
    assert scheduler.client_adopted(number, "someone", "token", NOW) is None


def test_what_is_written_anew_says_the_same(life):
    life.submit(5, frames=2)
    life.submit(2, m.Options(retries=1, targets=[0]))
    life.turn()
    engine = next(engine for engine in life.engines if engine.balanced)
    life.end(engine, next(iter(engine.balanced)), m.Status.ERROR)
    life.turn()
    recall, scheduler = life.recalled()
    again, other = life.recalled(written(scheduler, recall.unheard.values(), 1))
    assert sorted(again.tasks) == sorted(recall.tasks)
    assert again.given == recall.given
    assert again.unheard == recall.unheard
    assert other.book.tasks.keys() == scheduler.book.tasks.keys()
    assert other.clients[1].highest == scheduler.clients[1].highest


def test_a_controllers_own_tasks_never_have_the_ids_of_those_before_it():
    """An engine may still bring what the controller before wanted of it."""
    ids = [Scheduler(random=Random(1), first_client=first).places._next_task for first in (1, 4001, 8001)]
    assert ids == sorted(set(ids))
    assert all(not number >> m.CLIENT_SHIFT for number in ids)


def test_clients_that_left_have_names(life):
    life.scheduler.client_left(life.client.number)
    life.turn()
    recall, scheduler = life.recalled()
    again, _ = life.recalled(written(scheduler, [], 1))
    for each in (recall, again):
        (gone,) = each.departed.values()
        assert (gone.name, gone.session) == ("someone", "session")


def holders(scheduler, actions):
    """Which engines were sent which tasks."""
    sent = [
        (number, task.id) for _, number, message, _ in actions if type(message) is m.Assign for task in message.tasks
    ]
    assert len({task for _, task in sent}) == len(sent), f"sent twice: {sent}"
    return sent


def test_what_an_engine_was_to_be_sent_when_it_left_is_with_another_one_alone(life):
    """Its task goes to an engine that is to be sent another one already: that message stands before its own."""
    first, second = life.engines
    (other,) = life.submit(1)
    (number,) = life.submit(1)
    gone = next(engine for engine in life.engines if number in engine.balanced)
    stays = second if gone is first else first
    assert list(stays.balanced) == [other]
    life.scheduler.engine_left(gone.info.id, "killed", balanced=-1)
    actions = life.scheduler.take_actions(NOW)
    life.page += life.scheduler.logbook.take()
    assert holders(life.scheduler, actions) == [(stays.info.id, other), (stays.info.id, number)]
    _, scheduler = life.recalled()
    assert list(scheduler.engines[stays.info.id].balanced) == [other, number]


def test_what_an_engine_was_to_be_sent_when_it_said_hello_once_more_is_sent_once(life):
    """Two hellos of one engine are heard in one turn, as after a controller was stopped, and a task between them."""
    life.turn()
    _, scheduler = life.recalled()
    client = scheduler.clients[life.client.number]
    for number in (0, 1):
        scheduler.engine_recalled(number, [], NOW)
    direct = m.Task(life.next_id + 1, 0, b"", b"payload")
    scheduler.tasks_submitted(client, [m.Task(life.next_id, 0, b"", b"payload")], [], NOW)
    (engine,) = [each for each in scheduler.engines.values() if each.balanced]
    scheduler.requests_submitted(client, [m.Request([engine.info.id], direct)], [], NOW)
    scheduler.engine_recalled(engine.info.id, [], NOW)
    actions = scheduler.take_actions(NOW)
    sent = holders(scheduler, actions)
    assert sorted(task for _, task in sent) == [life.next_id, life.next_id + 1]
    assert (engine.info.id, life.next_id + 1) in sent
    given = {
        task: entry.engine for entry, _ in scheduler.logbook.take() if type(entry) is book.Given for task in entry.ids
    }
    assert given == {task: number for number, task in sent}
    check(scheduler)
