"""What an engine does with what it hears, and what it says."""

from __future__ import annotations

import pytest

from enginery.core import membership
from enginery.core import sayings as room
from enginery.core.membership import Membership
from enginery.wire import messages as m


class Engine:
    """A membership, fed with messages; ``said`` decodes what it sends."""

    def __init__(self, patience=0.0):
        self.member = Membership(m.EngineHello(m.VERSION, "uuid", 1, "host"))
        self.hear(m.Welcome(3, "token", 1, 3.0, patience=patience))
        self.said()

    def hear(self, message, frames=()):
        self.member.heard(message, list(frames))
        return self

    def assign(self, *ids, direct=False, function=b""):
        return self.hear(m.Assign([m.Task(number, 0, function, b"") for number in ids], direct))

    def take(self):
        held = self.member.take()
        return held.task.id if held is not None else None

    def take_all(self):
        taken = []
        while (number := self.take()) is not None:
            taken.append(number)
        return taken

    def said(self):
        messages = []
        while (packed := self.member.next_message()) is not None:
            self.member.sent()
            messages.append(m.decode_from_engine(packed[0]))
        return messages

    def aborted(self):
        return [
            result.id
            for message in self.said()
            if isinstance(message, m.Done)
            for result in message.results
            if result.status == m.Status.ABORTED and result.fault.kind == "TaskAborted"
        ]


@pytest.fixture
def engine():
    return Engine()


def test_it_introduces_itself_first():
    member = Membership(m.EngineHello(m.VERSION, "uuid", 1, "host"))
    assert member.has_unsent()
    assert isinstance(m.decode_from_engine(member.next_message()[0]), m.EngineHello)


def test_a_message_is_the_same_until_it_is_sent(engine):
    engine.member.say(m.Ping(1))
    assert engine.member.next_message() is engine.member.next_message()
    engine.member.sent()
    assert engine.member.next_message() is None
    assert not engine.member.has_unsent()


def test_requests_go_before_balanced_tasks(engine):
    engine.assign(1, 2).assign(7, direct=True)
    assert engine.member.has_work()
    assert engine.take_all() == [7, 1, 2]
    assert not engine.member.has_work()


def test_frames_go_with_their_tasks(engine):
    tasks = [m.Task(1, 0, b"", b"", 2), m.Task(2, 0, b"", b""), m.Task(3, 0, b"", b"", 1)]
    engine.hear(m.Assign(tasks), [b"a", b"b", b"c"])
    assert [engine.member.take().frames for _ in tasks] == [[b"a", b"b"], [], [b"c"]]


def test_results_leave_together_with_their_frames(engine):
    for number in (1, 2):
        engine.member.finished(m.Result(number, 0, b"", 1), [memoryview(b"%d" % number)])
    header, frames = engine.member.next_message()
    assert [result.id for result in m.decode_from_engine(header).results] == [1, 2]
    assert frames == [b"1", b"2"]


def test_what_is_said_keeps_its_order(engine):
    member = engine.member
    member.say(m.Output(1, "stdout", "a"))
    member.say(m.Output(1, "stdout", "b"))
    member.finished(m.Result(1, 0, b""), [])
    member.say(m.Output(2, "stdout", "c"))
    member.say(m.Ping(0))
    member.finished(m.Result(2, 0, b""), [])
    assert [type(message) for message in engine.said()] == [m.Said, m.Done, m.Said, m.Ping, m.Done]


def test_one_message_holds_so_many_results_and_no_more(engine, monkeypatch):
    monkeypatch.setattr(room, "MESSAGE_RESULTS", 3)
    for number in range(7):
        engine.member.finished(m.Result(number, 0, b""), [])
    assert [len(message.results) for message in engine.said()] == [3, 3, 1]


# --- handing back -------------------------------------------------------------------------------------------------


def test_the_latest_tasks_are_handed_back(engine):
    engine.assign(1, 2, 3).hear(m.Return(2))
    assert engine.said() == [m.Returned([2, 3])]
    assert engine.take_all() == [1]


def test_there_may_be_nothing_to_hand_back(engine):
    engine.assign(5, direct=True).hear(m.Return(3))
    assert engine.said() == [m.Returned([])]
    assert engine.take() == 5


def test_what_was_taken_back_by_its_client_is_not_handed_on(engine):
    engine.assign(1, 2, 3).hear(m.Abort([2])).hear(m.Return(5))
    returned = [message for message in engine.said() if isinstance(message, m.Returned)]
    assert returned == [m.Returned([1, 3])]
    assert not engine.member.aborted


# --- aborts -------------------------------------------------------------------------------------------------------


def test_queued_tasks_that_are_aborted_never_run(engine):
    engine.assign(1, 2, 3, 4).assign(7, 8, direct=True)
    engine.take()
    engine.hear(m.Abort([2, 8, 4]))
    assert engine.aborted() == [2, 8, 4], "they have to wait for the task that runs"
    assert engine.take_all() == [1, 3]
    assert not engine.member.aborted


def test_a_running_task_is_interrupted_only_on_request(engine):
    engine.assign(1)
    engine.take()
    engine.hear(m.Abort([1]))
    assert not engine.member.interrupt
    assert 1 not in engine.member.aborted
    engine.hear(m.Abort([1], interrupt=True))
    assert engine.member.interrupt == 1
    assert 1 in engine.member.aborted
    engine.member.finished(m.Result(1, 0, b""), [])
    assert not engine.member.aborted


def test_an_interrupt_does_not_hit_another_task(engine):
    engine.assign(1, 2)
    engine.take()
    engine.hear(m.Abort([2], interrupt=True))
    assert not engine.member.interrupt


def test_an_abort_between_the_taking_and_the_running_is_not_lost(engine):
    """The other thread may hear of it at each of the steps ``take`` is made of."""
    engine.assign(1, 2)
    taken = []

    class Spying(type(engine.member.balanced)):
        def popleft(self):
            held = super().popleft()
            if held.task.id == 1:
                engine.hear(m.Abort([1], interrupt=True))
            return held

    engine.member.balanced = Spying(engine.member.balanced)
    taken = engine.take_all()
    assert taken == [2]
    assert engine.aborted() == [1]


def test_aborts_of_tasks_that_have_ended_are_forgotten(engine, monkeypatch):
    monkeypatch.setattr(membership, "KEPT_ABORTS", 5)
    for number in range(100):
        engine.hear(m.Abort([number], interrupt=True))
    assert len(engine.member.aborted) == 5


# --- missing functions --------------------------------------------------------------------------------------------


def park_next(engine):
    held = engine.member.take()
    engine.member.park(held)
    return held.task.id


def test_tasks_wait_for_their_function_and_others_go_on(engine):
    engine.assign(1, 2, function=b"f").assign(3)
    assert [park_next(engine), park_next(engine)] == [1, 2]
    assert engine.take() == 3
    assert engine.said() == [m.Missing([b"f"])], "asked for each task"
    assert not engine.member.has_work()
    engine.hear(m.Functions({b"f": b"body"}))
    assert engine.member.has_work()
    assert engine.take_all() == [1, 2]
    assert engine.member.bodies == {b"f": b"body"}


def test_requests_stay_in_order_when_one_has_to_wait_for_its_function(engine):
    engine.assign(7, direct=True, function=b"f").assign(8, 9, direct=True).assign(1)
    assert park_next(engine) == 7
    engine.assign(10, direct=True)
    assert engine.take_all() == [1]
    assert not engine.member.has_work(), "the main thread would spin"
    engine.hear(m.Functions({b"g": b"another"}))
    assert engine.take_all() == []
    assert not engine.member.has_work()
    engine.hear(m.Functions({b"f": b"body"}))
    assert engine.take_all() == [7, 8, 9, 10]


def test_a_function_that_comes_just_when_its_task_is_set_aside_is_asked_for_again(engine):
    engine.assign(1, function=b"f")
    held = engine.member.take()
    engine.hear(m.Functions({b"f": b"body"}))
    engine.member.park(held)
    assert engine.said() == [m.Missing([b"f"])]
    engine.hear(m.Functions({b"f": b"body"}))
    assert engine.take() == 1


@pytest.mark.parametrize("direct", [True, False])
def test_tasks_set_aside_can_be_aborted(engine, direct):
    engine.assign(1, direct=direct, function=b"f")
    park_next(engine)
    engine.said()
    engine.assign(2, direct=direct)
    engine.hear(m.Abort([1]))
    assert engine.member.has_work()
    assert engine.take_all() == [2]
    assert engine.aborted() == [1]
    assert not engine.member.aborted


def test_aborting_one_of_those_set_aside_leaves_the_others(engine):
    engine.assign(1, 2, 3, function=b"f")
    for _ in range(3):
        park_next(engine)
    engine.hear(m.Abort([2]))
    assert engine.take_all() == []
    assert engine.aborted() == [2]
    assert not engine.member.has_work()
    engine.hear(m.Functions({b"f": b"body"}))
    assert engine.take_all() == [1, 3]


def test_a_function_is_asked_for_anew_when_nobody_waits_for_it_any_more(engine):
    engine.assign(1, function=b"f")
    park_next(engine)
    engine.hear(m.Abort([1]))
    engine.take_all()
    engine.said()
    engine.assign(2, function=b"f")
    park_next(engine)
    assert engine.said() == [m.Missing([b"f"])]


@pytest.mark.parametrize("direct", [True, False])
def test_a_function_that_came_and_went_before_it_was_used_is_asked_for_again(engine, direct):
    engine.assign(1, direct=direct, function=b"f")
    park_next(engine)
    engine.said()
    engine.member.bodies.budget = 10
    engine.hear(m.Functions({b"f": b"x" * 9})).hear(m.Functions({b"g": b"x" * 9}))
    assert engine.take() is None
    assert engine.said() == [m.Missing([b"f"])]
    engine.hear(m.Functions({b"f": b"x" * 9}))
    assert engine.take() == 1


def test_tasks_set_aside_are_not_handed_back(engine):
    engine.assign(1, function=b"f")
    park_next(engine)
    engine.hear(m.Return(5))
    assert m.Returned([]) in engine.said()


# --- coming and going ---------------------------------------------------------------------------------------------


def test_a_ping_is_answered(engine):
    assert engine.hear(m.Ping(7)).said() == [m.Pong(7)]


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (m.Refused("Refused", "no room"), "no room"),
        (m.Shutdown(0, [3]), "shut down"),
        (m.Bye("it rains"), "it rains"),
        (m.Bye(), "has left"),
    ],
)
def test_there_are_reasons_to_leave(engine, message, why):
    engine.hear(message)
    assert why in engine.member.leaving
    assert engine.member.has_work()


def test_segments_that_were_taken_are_passed_on(engine):
    names = []
    engine.member.released = names.extend
    engine.hear(m.Release(["e3-1"]))
    assert names == ["e3-1"]


def test_it_knows_what_the_controller_has_not_read_yet(engine):
    engine.member.say_output(m.Output(1, "stdout", "x" * room.ASK_EVERY))
    assert engine.member.unheard() == room.ASK_EVERY
    (ping,) = [message for message in engine.said() if isinstance(message, m.Ping)]
    engine.hear(m.Pong(ping.number))
    assert engine.member.unheard() == 0


# --- clients that do not read -------------------------------------------------------------------------------------


def of(client, *numbers):
    """Ids of tasks of a client."""
    return [(client << m.CLIENT_SHIFT) + number for number in numbers]


class TestHold:
    def test_what_is_addressed_here_waits_and_the_rest_goes_back(self, engine):
        direct, balanced, others = of(1, 1, 2), of(1, 3, 4), of(2, 1, 2)
        engine.assign(direct[0], others[0], direct[1], direct=True).assign(balanced[0], others[1], balanced[1])
        engine.hear(m.Hold([1]))
        assert engine.said() == [m.Paused(direct), m.Returned(balanced)]
        assert engine.take_all() == others
        assert not engine.member.has_work()

    def test_what_comes_meanwhile_waits_behind_it(self, engine):
        first, second, third, last = of(1, 1, 2, 3, 4)
        engine.assign(first, direct=True).hear(m.Hold([1]))
        engine.assign(second, third, direct=True).said()
        assert engine.take() is None
        engine.hear(m.Hold([])).assign(last, direct=True)
        assert engine.take_all() == [first, second, third, last]

    def test_each_client_goes_on_by_itself(self, engine):
        engine.hear(m.Hold([1, 2])).assign(*of(1, 1), *of(2, 1), *of(3, 1), direct=True)
        assert engine.said() == [m.Paused([*of(1, 1), *of(2, 1)])]
        assert engine.take_all() == of(3, 1)
        assert engine.hear(m.Hold([2])).take_all() == of(1, 1)
        assert engine.hear(m.Hold([1])).take_all() == of(2, 1)

    def test_frames_stay_with_their_tasks(self, engine):
        tasks = [m.Task(of(1, 1)[0], 0, b"", b"", 2), m.Task(of(2, 1)[0], 0, b"", b"", 1)]
        engine.hear(m.Hold([1])).hear(m.Assign(tasks, direct=True), [b"a", b"b", b"c"])
        assert engine.member.take().frames == [b"c"]
        assert engine.hear(m.Hold([])).member.take().frames == [b"a", b"b"]

    def test_they_can_be_taken_back_at_once(self, engine):
        engine.assign(*of(1, 1, 2, 3), direct=True).hear(m.Hold([1])).said()
        engine.hear(m.Abort(of(1, 1, 3)))
        assert engine.aborted() == of(1, 1, 3)
        assert engine.hear(m.Hold([])).take_all() == of(1, 2)

    def test_kept_values_are_handed_out_later(self, engine):
        heard = []
        engine.member.listen(lambda message, frames: heard.append(message))
        mine, theirs = (m.Task(of(client, 1)[0], m.Action.FETCH, b"", b"7") for client in (1, 2))
        engine.hear(m.Hold([1])).hear(m.Fetch([mine, theirs]))
        assert heard == [m.Fetch([theirs])]
        assert engine.said() == [m.Paused([mine.id])]
        engine.hear(m.Hold([]))
        assert heard == [m.Fetch([theirs]), m.Fetch([mine])]
        assert engine.take() is None

    @pytest.mark.parametrize("resumed", [True, False])
    def test_another_controller_knows_nothing_of_it(self, resumed):
        engine = Engine(patience=5.0)
        engine.assign(*of(1, 1), direct=True).hear(m.Hold([1])).said()
        engine.member.come_back()
        engine.hear(m.Welcome(3, "token", 2, 3.0, patience=5.0, resumed=resumed))
        assert engine.assign(*of(1, 2), direct=True).take_all() == of(1, 1, 2)[not resumed :]

    def test_the_same_controller_has_said_what_has_changed(self):
        engine = Engine(patience=5.0)
        engine.assign(*of(1, 1), direct=True).hear(m.Hold([1])).said()
        engine.member.come_back()
        engine.hear(m.Welcome(3, "token", 1, 3.0, patience=5.0, resumed=True))
        assert engine.take() is None
        assert engine.hear(m.Hold([])).take_all() == of(1, 1)


class TestManyLargeResults:
    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch):
        monkeypatch.setattr(room, "MOST_UNREAD", 10_000)
        monkeypatch.setattr(room, "ASK_RESULTS", 4_000)

    def finish(self, engine, size):
        task = engine.member.take().task.id
        engine.member.finished(m.Result(task, 0, b"", 1), [memoryview(bytes(size))])

    def test_no_task_is_begun_while_too_much_is_not_read(self):
        engine = Engine().assign(1, 2, 3, 4, 5)
        for _ in range(3):
            self.finish(engine, 4_000)
        assert engine.member.has_work()
        self.finish(engine, 4_000)
        assert engine.take() is None
        assert not engine.member.has_work()
        asked = [message.number for message in engine.said() if isinstance(message, m.Ping)]
        assert asked == [-4_000, -8_000, -12_000, -16_000]
        engine.hear(m.Pong(asked[0]))
        assert engine.member.has_work()
        assert engine.take() == 5

    def test_one_result_of_any_size_may_be_on_its_way_while_the_next_is_made(self):
        engine = Engine().assign(1, 2, 3)
        self.finish(engine, 20_000)
        assert engine.member.has_work()
        self.finish(engine, 1)
        assert not engine.member.has_work()

    def test_who_has_to_leave_does_not_wait(self):
        engine = Engine().assign(1, 2, 3)
        self.finish(engine, 20_000)
        self.finish(engine, 1)
        assert not engine.member.has_work()
        assert engine.hear(m.Shutdown(0, [])).member.has_work()

    def test_small_results_are_not_counted(self):
        engine = Engine().assign(1, 2)
        engine.member.finished(m.Result(engine.take(), 0, b"small"), [])
        assert [type(message) for message in engine.said()] == [m.Done]

    @pytest.mark.parametrize("epoch", [1, 2])
    def test_a_question_that_was_lost_with_the_connection_is_asked_again(self, epoch):
        engine = Engine(patience=5.0).assign(1, 2, 3)
        self.finish(engine, 20_000)
        self.finish(engine, 1)
        engine.said()
        engine.member.come_back()
        engine.hear(m.Welcome(3, "token", epoch, 3.0, patience=5.0, resumed=True))
        assert engine.said()[-1] == m.Ping(-20_001)
        assert engine.hear(m.Pong(-20_001)).take() == 3

    def test_questions_about_output_are_others(self):
        engine = Engine().assign(1, 2, 3)
        self.finish(engine, 20_000)
        self.finish(engine, 1)
        assert engine.member.unheard() == 0
        engine.hear(m.Pong(1 << 40))
        assert engine.take() is None


def test_output_is_asked_for_again_when_the_question_was_lost():
    engine = Engine(patience=5.0)
    engine.member.say_output(m.Output(1, "stdout", "x" * room.ASK_EVERY))
    engine.said()
    engine.member.come_back()
    engine.hear(m.Welcome(3, "token", 1, 3.0, patience=5.0, resumed=True))
    assert engine.said()[-1] == m.Ping(room.ASK_EVERY)
    engine.hear(m.Pong(room.ASK_EVERY))
    assert not engine.member.unheard()
