"""What a client asks for, what it gets, and what it weighs meanwhile."""

from __future__ import annotations

import pytest

from enginery.core import requests as room
from enginery.core.requests import Requests
from enginery.wire import messages as m


class Sink:
    """Waits for ``count`` results."""

    def __init__(self, count=1):
        self.count = count
        self.results = {}
        self.buffers = {}
        self.outputs = []

    def arrived(self, result, engine, buffers, when):
        assert result.id not in self.results, "arrived twice"
        self.results[result.id] = (engine, result.status, when)
        self.buffers[result.id] = buffers
        return len(self.results) == self.count

    def said(self, output, engine):
        self.outputs.append((output.text, engine))


@pytest.fixture
def requests():
    return Requests(lambda: 12.5)


def task(number, payload=b"", frames=0, function=b""):
    return m.Task(number, 0, function, payload, frames)


def said(requests):
    messages = []
    while (packed := requests.next_message()) is not None:
        requests.sent()
        messages.append((m.decode_from_client(packed[0]), packed[1]))
    return messages


def test_tasks_submitted_in_a_row_leave_together(requests):
    for number in (1, 2, 3):
        requests.submit(task(number), [], Sink())
    ((message, frames),) = said(requests)
    assert [one.id for one in message.tasks] == [1, 2, 3]
    assert frames == []
    assert requests.next_message() is None


def test_messages_are_bounded(requests, monkeypatch):
    monkeypatch.setattr(room, "MESSAGE_TASKS", 2)
    requests.submit_many([task(number) for number in range(5)], Sink(5))
    assert [len(message.tasks) for message, _ in said(requests)] == [2, 2, 1]


def test_the_order_of_what_is_asked_is_kept(requests):
    requests.submit(task(1), [], Sink())
    requests.submit_request(m.Request([0, 1], task(2)), [], Sink(2))
    requests.say(m.Abort([1]))
    requests.submit(task(4), [], Sink())
    assert [type(message) for message, _ in said(requests)] == [m.Submit, m.Direct, m.Abort, m.Submit]


def test_functions_go_ahead_of_the_tasks_that_need_them(requests):
    requests.submit(task(1), [], Sink())
    requests.introduce(b"f", b"body")
    requests.submit(task(2, function=b"f"), [], Sink())
    assert [type(message) for message, _ in said(requests)] == [m.Functions, m.Submit]


def test_buffers_go_with_their_tasks(requests):
    requests.submit(task(1, frames=1), [memoryview(b"a")], Sink())
    requests.submit(task(2), [], Sink())
    requests.submit(task(3, frames=2), [memoryview(b"b"), memoryview(b"c")], Sink())
    ((_, frames),) = said(requests)
    assert frames == [b"a", b"b", b"c"]


def test_each_result_goes_to_its_sink(requests):
    one, other = Sink(), Sink(2)
    requests.submit(task(1), [], one)
    requests.submit_request(m.Request([0, 5], task(2)), [], other)
    requests.heard(m.Results(4, [m.Result(3, 0, b""), m.Result(1, 0, b"")]), [])
    assert one.results == {1: (4, 0, 12.5)}
    assert list(requests.settled) == [one]
    requests.heard(m.Results(-1, [m.Result(2, 3, b"")]), [])
    assert other.results == {3: (4, 0, 12.5), 2: (-1, 3, 12.5)}
    assert list(requests.settled) == [one, other]
    assert not requests.outstanding


def test_each_result_gets_its_own_buffers(requests):
    sink = Sink(3)
    requests.submit_many([task(number) for number in (1, 2, 3)], sink)
    frames = [memoryview(b"a"), memoryview(b"b"), memoryview(b"c")]
    requests.heard(m.Results(0, [m.Result(1, 0, b"", 2), m.Result(2, 0, b""), m.Result(3, 0, b"", 1)]), frames)
    assert sink.buffers == {1: frames[:2], 2: [], 3: frames[2:]}


def test_a_result_that_comes_twice_or_was_not_asked_for_is_dropped(requests):
    sink = Sink()
    requests.submit(task(1), [], sink)
    for _ in range(2):
        requests.heard(m.Results(0, [m.Result(1, 0, b""), m.Result(9, 0, b"")]), [])
    assert list(sink.results) == [1]


def test_output_goes_to_whoever_waits(requests):
    sink = Sink()
    requests.submit(task(1), [], sink)
    requests.heard(m.Outputs(2, [m.Output(1, "stdout", "hi"), m.Output(9, "stdout", "?")]), [])
    assert sink.outputs == [("hi", 2)]


# --- weight -------------------------------------------------------------------------------------------------------


def test_large_payloads_weigh_until_their_result_is_here(requests):
    requests.submit(task(1, b"x" * 10), [], Sink())
    assert requests.heavy == 0
    requests.submit(task(2, b"x" * 5000), [memoryview(b"y" * 100)], Sink())
    requests.submit_many([task(3, b"x" * 3000)], Sink())
    assert requests.heavy == 8100
    requests.heard(m.Results(0, [m.Result(2, 0, b"")]), [])
    assert requests.heavy == 3000
    requests.heard(m.Results(0, [m.Result(3, 0, b"")]), [])
    assert requests.heavy == 0


def test_a_request_to_many_weighs_once(requests):
    requests.submit_request(m.Request([0, 1, 2], task(1, b"x" * 5000)), [], Sink(3))
    assert requests.heavy == 5000
    requests.heard(m.Results(0, [m.Result(number, 0, b"") for number in (1, 2, 3)]), [])
    assert requests.heavy == 0


def test_when_all_is_lost_nothing_weighs_any_more(requests):
    sink = Sink(3)
    requests.submit_many([task(number, b"x" * 5000) for number in (1, 2, 3)], sink)
    requests.fail_all(m.Fault("ConnectionLost", "ConnectionLost", "gone"))
    assert {status for _, status, _ in sink.results.values()} == {m.Status.LOST}
    assert list(requests.settled) == [sink]
    assert (requests.heavy, requests.outstanding) == (0, {})
    requests.heard(m.Results(0, [m.Result(1, 0, b"")]), [])
    assert requests.heavy == 0


# --- functions ----------------------------------------------------------------------------------------------------


def test_functions_that_are_missing_are_sent_again(requests):
    requests.introduce(b"f", b"body")
    said(requests)
    requests.heard(m.Missing([b"f"]), [])
    assert said(requests) == [(m.Functions({b"f": b"body"}), [])]


def test_functions_that_are_not_here_either_are_said_to_be_so(requests):
    requests.heard(m.Missing([b"g"]), [])
    assert said(requests) == [(m.Functions({b"g": b""}), [])]


def test_functions_kept_are_bounded(requests):
    requests.bodies.budget = 12
    for number in range(10):
        requests.introduce(b"%d" % number, b"body")
    assert len(requests.bodies) == 3


# --- the cluster --------------------------------------------------------------------------------------------------


def test_engines_come_and_go(requests):
    infos = [m.EngineInfo(number, "uuid", 1, "host") for number in range(3)]
    requests.heard(m.Welcome(1, "token", 1, 3.0, engines=infos[:1]), [])
    before = requests.engines
    requests.heard(m.News(joined=infos[1:]), [])
    requests.heard(m.News(left=[m.Departure(0, "uuid", "it left"), m.Departure(7, "uuid", "unknown")]), [])
    assert list(requests.engines) == [1, 2]
    assert list(before) == [0], "changed under somebody's hands"
    assert len(requests.news) == 2


def test_the_controller_is_answered_and_remembered(requests):
    requests.heard(m.Ping(5), [])
    assert said(requests) == [(m.Pong(5), [])]
    requests.asked.answers[3] = None
    requests.heard(m.Answer(3, "value"), [])
    requests.heard(m.Answer(4, "too late: nobody waits any more"), [])
    assert {number: answer.value for number, answer in requests.asked.answers.items()} == {3: "value"}
    requests.heard(m.Refused("Refused", "why"), [])
    assert requests.refused.reason == "why"
    requests.heard(m.Bye("the end"), [])
    assert requests.goodbye == "the end"


def test_what_is_unsent_is_known(requests):
    requests.submit(task(1), [], Sink())
    requests.submit_request(m.Request([0, 1], task(2)), [], Sink(2))
    assert requests.unsent([1, 3, 9]) == {1, 3}
    said(requests)
    assert requests.unsent([1, 3, 9]) == set()
