"""Questions that were not answered when the controller was killed, and tasks of others that were waited for."""

from __future__ import annotations

import pytest

from enginery.core.asked import HARMLESS, UNKNOWN, followed_by
from enginery.core.requests import Requests
from enginery.errors import NoRecord, exception_from_fault
from enginery.wire import messages as m


class Sink:
    """Waits for one result."""

    result = None

    def arrived(self, result, engine, buffers, when):
        assert self.result is None
        self.result = result
        return True

    def settled(self):
        pass


@pytest.fixture
def requests():
    requests = Requests(lambda: 12.5)
    requests.say(hello())
    requests.heard(welcome(1), [])
    said(requests)
    return requests


def hello():
    return m.ClientHello(m.VERSION, "session", 1, "here", "me")


def welcome(epoch, *, resumed=False):
    return m.Welcome(1, "token", epoch, 3.0, 1 << 20, patience=30.0, returns=True, durable=True, resumed=resumed)


def said(requests):
    """What is sent now, but for the hello."""
    messages = []
    while (packed := requests.next_message()) is not None:
        requests.sent()
        message = m.decode_from_client(packed[0])
        if not isinstance(message, m.ClientHello):
            messages.append(message)
    return messages


def queries(messages):
    return [(each.number, each.name) for each in messages if isinstance(each, m.Query)]


def come_back(requests, *, resumed=True, epoch=2):
    requests.come_back(hello())
    assert said(requests) == []
    requests.heard(welcome(epoch, resumed=resumed), [])
    return said(requests)


@pytest.mark.parametrize("resumed", [True, False])
@pytest.mark.parametrize("acknowledged", [0, 1, 2])
def test_what_only_looks_is_asked_once_more(requests, resumed, acknowledged):
    requests.ask(m.Query(1, "queue_status"))
    requests.ask(m.Query(2, "db_query", {"query": {}}))
    said(requests)
    requests.heard(m.Received(acknowledged), [])
    assert queries(come_back(requests, resumed=resumed)) == [(1, "queue_status"), (2, "db_query")]
    requests.heard(m.Answer(1, "found"), [])
    assert requests.asked.done(1).value == "found"
    assert requests.asked.answers == {2: None}
    assert queries(come_back(requests, resumed=resumed, epoch=3)) == [(2, "db_query")]


def test_what_has_not_left_leaves_once(requests):
    requests.come_back(hello())
    said(requests)
    requests.ask(m.Query(1, "queue_status"))
    requests.ask(m.Query(2, "purge", {"ids": "all"}))
    requests.heard(welcome(2, resumed=True), [])
    assert queries(said(requests)) == [(1, "queue_status"), (2, "purge")]
    assert requests.asked.answers == {1: None, 2: None}


@pytest.mark.parametrize(
    "question", [m.Query(1, "purge", {"ids": "all"}), m.Query(1, "resubmit"), m.Signal(1, [0], 2), m.Shutdown(1, [0])]
)
def test_what_does_something_is_not_repeated_and_told(requests, question):
    requests.ask(question)
    said(requests)
    assert come_back(requests) == []
    assert "restarted before it answered. Ask again" in requests.asked.done(1).error


def test_what_nobody_waits_for_is_not_asked_again(requests):
    requests.ask(m.Query(1, "queue_status"))
    said(requests)
    assert requests.asked.done(1) is None
    assert come_back(requests) == []
    requests.heard(m.Answer(1, "late"), [])
    assert requests.asked.answers == {}


def test_who_waits_for_a_task_of_somebody_else_goes_on_waiting(requests):
    sinks = {100: Sink(), 101: Sink(), 102: Sink()}
    requests.outstanding.update(sinks)
    requests.asked.follow({100: "other_7", 101: "other_8", 102: "other_9"}, requests.outstanding)
    requests.submit(m.Task(5, 0, b"", b""), [], Sink())
    said(requests)
    requests.heard(m.Results(0, [m.Result(100, m.Status.OK, b"")]), [])
    asked = [each for each in come_back(requests) if isinstance(each, m.Query)]
    known, *anew = sorted(asked, key=lambda each: -each.number)
    assert (known.name, known.arguments["tasks"]) == ("unknown", [5])
    assert [each.arguments for each in anew] == [{"ids": ["other_8"], "as": [101]}, {"ids": ["other_9"], "as": [102]}]
    assert [followed_by(each.number) for each in anew] == [101, 102]
    assert all(each.name in HARMLESS and each.number < UNKNOWN for each in anew)
    requests.heard(m.Answer(anew[0].number, {"other_8": {}}), [])
    assert sinks[101].result is None
    requests.heard(m.Results(0, [m.Result(101, m.Status.OK, b"")]), [])
    requests.heard(m.Answer(anew[1].number, error="There is no record of other_9.", kind="NoRecord"), [])
    assert [sink.result.status for sink in sinks.values()] == [m.Status.OK, m.Status.OK, m.Status.LOST]
    fault = sinks[102].result.fault
    assert isinstance(exception_from_fault(fault.kind, fault.ename, fault.evalue, "", {}), NoRecord)
    assert requests.outstanding.keys() == {5}


def test_a_controller_that_knows_nothing_is_not_asked_for_tasks_of_others(requests):
    sink = Sink()
    requests.outstanding[100] = sink
    requests.asked.follow({100: "other_7"}, requests.outstanding)
    requests.say(m.Forget([1]))
    said(requests)
    requests.heard(m.Received(1), [])
    assert come_back(requests, resumed=False) == []
    assert sink.result.fault.kind == "ConnectionLost"


def test_what_is_over_is_forgotten(requests):
    for number in range(100, 200):
        requests.outstanding[number] = Sink()
        requests.asked.follow({number: f"other_{number}"}, requests.outstanding)
        requests.heard(m.Results(0, [m.Result(number, m.Status.OK, b"")]), [])
    assert len(requests.asked._followed) <= 2
