"""A client's connection, against a controller that says whatever a test wants."""

from __future__ import annotations

import logging
import threading
import time

import msgspec
import pytest

from enginery.client import link as link_module
from enginery.client.link import Link
from enginery.core.requests import OVERHEAD
from enginery.errors import ConnectionLost, Refused, VersionMismatch
from enginery.wire import messages as m
from enginery.wire.callables import pack_function
from enginery.wire.serialize import NONE
from fake_controller import PATIENCE, FakeController

ENGINE = m.EngineInfo(0, "uuid", 77, "there")


class Sink:
    """Keeps what comes."""

    def __init__(self, count=1) -> None:
        self.count = count
        self.results = []
        self.outputs = []
        self.settled_by = []
        self.over = threading.Event()

    def arrived(self, result, engine, buffers, when):
        self.results.append((result, engine, [bytes(each) for each in buffers]))
        return len(self.results) == self.count

    def said(self, output, engine):
        self.outputs.append((output.text, engine))

    def settled(self):
        self.settled_by.append(threading.current_thread().name)
        self.over.set()


@pytest.fixture
def controller():
    controller = FakeController()
    yield controller
    controller.close()


def connect(controller, answer=None, **kwargs):
    """A link that was welcomed, or what ``answer`` makes of it."""
    outcome = []

    def dial():
        try:
            outcome.append(Link.connect(controller.info, timeout=kwargs.pop("timeout", PATIENCE)))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=dial)
    thread.start()
    (answer or (lambda: controller.welcome(**kwargs)))()
    thread.join(PATIENCE)
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


@pytest.fixture
def link(controller):
    link = connect(controller, engines=[ENGINE])
    yield link
    link.close()


def task(link, **kwargs):
    return m.Task(link.take_id(), m.Action.APPLY, b"", NONE, **kwargs)


def result(number, payload=b"value", **kwargs):
    return m.Result(number, m.Status.OK, payload, **kwargs)


class TestConnecting:
    def test_welcome(self, controller):
        link = connect(controller, number=5, engines=[ENGINE])
        assert link.number == 5
        assert link.engines == {0: ENGINE}
        assert link.take_id() >> m.CLIENT_SHIFT == 5
        link.close()

    @pytest.mark.parametrize(("kind", "error"), [("VersionMismatch", VersionMismatch), ("Refused", Refused)])
    def test_refusals(self, controller, kind, error):
        def refuse():
            controller.expect(m.ClientHello)
            controller.say(m.Refused(kind, "for this reason"))

        with pytest.raises(error, match="refused this client: for this reason"):
            connect(controller, refuse)

    def test_no_answer(self, controller):
        with pytest.raises(TimeoutError, match=r"Nothing answered within 0.05 s.*ipcluster list"):
            connect(controller, lambda: None, timeout=0.05)

    def test_the_end_instead_of_an_answer(self, controller):
        def leave():
            controller.expect(m.ClientHello)
            controller.hang_up()

        with pytest.raises(ConnectionLost, match="closed by the other side"):
            connect(controller, leave)

    def test_nobody_is_there(self, controller):
        controller.listener.close()
        with pytest.raises(TimeoutError, match=r"Nobody listens.*is gone"):
            Link.connect(controller.info)


class TestWork:
    def test_a_task_and_its_result(self, controller, link):
        function, sink = pack_function(int), Sink()
        one = m.Task(link.take_id(), 0, function.digest, NONE, 1)
        link.submit(one, [memoryview(b"buffer")], sink, function)
        assert controller.expect(m.Functions).bodies == {function.digest: function.body}
        assert [each.id for each in controller.expect(m.Submit).tasks] == [one.id]
        assert controller.frames == [b"buffer"]
        controller.say(m.Outputs(0, [m.Output(one.id, "stdout", "text")]))
        controller.say(m.Results(0, [result(one.id, frames=1)]), frames=[b"back"])
        assert link.wait_for(lambda: sink.results, PATIENCE)
        ((got, engine, buffers),) = sink.results
        assert (got.payload, engine, buffers) == (b"value", 0, [b"back"])
        assert sink.outputs == [("text", 0)]
        assert sink.over.wait(PATIENCE)
        assert link.outstanding == 0

    def test_a_function_is_introduced_once_and_again_when_it_is_missed(self, controller, link):
        function, sink = pack_function(abs), Sink(3)
        link.submit(task(link), [], sink, function)
        controller.expect(m.Functions)
        link.submit(task(link), [], sink, function)
        controller.expect(m.Submit)
        controller.say(m.Missing([function.digest, b"unknown"]))
        assert controller.expect(m.Functions).bodies[function.digest] == function.body

    def test_what_has_piled_up_leaves_as_one_message(self, controller, link):
        sink = Sink(100)
        tasks = [task(link) for _ in range(100)]
        link.submit_many(tasks, [], sink)
        got = []
        while len(got) < 100:
            got += controller.expect(m.Submit).tasks
        assert [each.id for each in got] == [each.id for each in tasks]
        controller.say(m.Results(0, [result(each.id) for each in tasks]))
        assert sink.over.wait(PATIENCE)

    def test_requests_for_several_engines(self, controller, link):
        sink = Sink(2)
        first = link.take_ids(2)
        link.submit_direct([0, 1], m.Task(first, 4, b"", NONE), [], sink)
        (request,) = controller.expect(m.Direct).requests
        assert (request.targets, request.task.id) == ([0, 1], first)
        controller.say(m.Results(1, [result(first + 1)]), m.Results(0, [result(first)]))
        assert link.wait_for(lambda: len(sink.results) == 2, PATIENCE)
        assert [engine for _, engine, _ in sink.results] == [1, 0]

    def test_results_come_once_however_often_they_are_sent(self, controller, link):
        sink = Sink()
        one = task(link)
        link.submit(one, [], sink)
        controller.expect(m.Submit)
        controller.say(m.Results(0, [result(one.id), result(one.id), result(12345)]), m.Results(0, [result(one.id)]))
        controller.say(m.Outputs(0, [m.Output(one.id, "stdout", "late")]), m.Ping(4))
        assert controller.expect(m.Pong).number == 4
        controller.say(m.Ping(5))  # heard in another turn, when the first one is over
        assert controller.expect(m.Pong).number == 5
        assert len(sink.results) == 1
        assert sink.outputs == []
        assert len(sink.settled_by) == 1

    def test_what_is_submitted_as_the_connection_goes_ends_with_it(self, link, monkeypatch):
        requests, sink = link._requests, Sink()
        submit = requests.submit

        def too_late(*args):
            with link._line.lock:
                link.lost("gone in this moment")
            submit(*args)

        monkeypatch.setattr(requests, "submit", too_late)
        link.submit(task(link), [], sink)
        ((ended, *_),) = sink.results
        assert (ended.status, ended.fault.kind) == (m.Status.LOST, "ConnectionLost")
        assert len(sink.settled_by) == 1
        assert link.outstanding == 0

    def test_ids_are_not_given_twice(self, link):
        taken = []
        threads = [threading.Thread(target=lambda: taken.extend(link.take_id() for _ in range(3000))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(taken)) == 12_000

    def test_back_pressure(self, controller):
        link = connect(controller, window=4 * OVERHEAD)
        sink = Sink(10)
        sent = []

        def submit():
            for _ in range(10):
                sent.append(task(link))
                link.submit(sent[-1], [], sink)

        thread = threading.Thread(target=submit)
        thread.start()
        got = []
        while len(got) < 10:
            got += controller.expect(m.Submit).tasks
            assert len(sent) - len(sink.results) <= 6
            controller.say(m.Results(0, [result(each.id) for each in got[len(sink.results) :]]))
        thread.join(PATIENCE)
        assert sink.over.wait(PATIENCE)
        link.close()


class TestQuestions:
    def test_answers_find_their_questions(self, controller, link):
        got = {}
        threads = [
            threading.Thread(target=lambda name=name: got.update({name: link.ask(name, timeout=PATIENCE)}))
            for name in ("one", "two", "three")
        ]
        for thread in threads:
            thread.start()
        queries = [controller.expect(m.Query) for _ in threads]
        controller.say(*[m.Answer(query.number, query.name.upper()) for query in reversed(queries)])
        for thread in threads:
            thread.join(PATIENCE)
        assert got == {"one": "ONE", "two": "TWO", "three": "THREE"}

    def test_wrong_ones(self, controller, link):
        asked = threading.Thread(
            target=lambda: controller.say(m.Answer(controller.expect(m.Query).number, error="odd"))
        )
        asked.start()
        with pytest.raises(ValueError, match="odd"):
            link.ask("nonsense", timeout=PATIENCE)
        asked.join()

    def test_no_answer(self, controller, link):
        with pytest.raises(TimeoutError, match="did not answer query within 0.02 s"):
            link.ask("statistics", timeout=0.02)
        with pytest.raises(TimeoutError, match="did not answer signal"):
            link.signal([0], 2, timeout=0.02)
        with pytest.raises(TimeoutError, match="did not answer shutdown"):
            link.shutdown([0], timeout=0.02)
        for kind in (m.Query, m.Signal, m.Shutdown):
            controller.say(m.Answer(controller.expect(kind).number, "late"))
        controller.say(m.Ping(1))
        controller.expect(m.Pong)
        assert link._requests.asked.answers == {}

    def test_what_cannot_be_sent_is_said_at_once_and_harms_nothing(self, controller, link):
        for use in (
            lambda: link.ask("a\udc80"),
            lambda: link.signal([0], "\udc80"),
            lambda: link.ask("x", {"a": object()}),
        ):
            with pytest.raises((UnicodeEncodeError, TypeError)):
                use()
        link.submit(task(link), [], Sink())
        controller.expect(m.Submit)


class TestNews:
    def test_engines_come_and_go(self, controller, link):
        told = []
        link.add_news_callback(lambda joined, left: told.append(([e.id for e in joined], [d.id for d in left])))
        before = link.engines
        controller.say(m.News([m.EngineInfo(4, "u4", 1, "h")], [m.Departure(0, "uuid", "reason")]))
        assert link.wait_for(lambda: list(link.engines) == [4], PATIENCE)
        assert list(before) == [0]
        assert link.wait_for(lambda: told == [([4], [0])], PATIENCE)

    def test_what_cannot_be_understood_is_dropped(self, controller, link, caplog):
        with caplog.at_level(logging.WARNING, "enginery.client"):
            controller.say(
                b"garbage", msgspec.msgpack.encode({"type": "new-kind"}), m.encode(m.ClientHello(1, "", 1, "", ""))
            )
            controller.say(m.Ping(8))
            assert controller.expect(m.Pong).number == 8
        assert len([record for record in caplog.records if "could not be understood" in record.message]) == 3

    def test_signs_of_life(self, controller):
        link = connect(controller, period=0.02)
        for _ in range(3):
            controller.expect(m.Ping)
            controller.say(m.Pong(0))
        link.close()


class TestTheEnd:
    @pytest.mark.parametrize("how", ["goodbye", "hang up", "garbage", "refusal", "silence"])
    def test_whoever_waits_hears_of_it(self, controller, how, monkeypatch):
        monkeypatch.setattr(link_module, "MISSES", 3)
        link = connect(controller, period=0.02 if how == "silence" else 3.0)
        sinks = [Sink(), Sink()]
        for sink in sinks:
            link.submit(task(link), [], sink)
        outcomes = []

        def wait():
            try:
                link.wait_for(lambda: False, PATIENCE)
            except ConnectionLost as error:
                outcomes.append(str(error))

        threads = [threading.Thread(target=wait) for _ in range(3)]
        for thread in threads:
            thread.start()
        controller.expect(m.Submit)
        match how:
            case "goodbye":
                controller.say(m.Bye("The controller was stopped: enough."))
            case "hang up":
                controller.hang_up()
            case "garbage":
                controller.streams[-1]._socket.send(b"this is no message")
            case "refusal":
                controller.say(m.Refused("ConnectionLost", "This controller does not know you"))
        for thread in threads:
            thread.join(PATIENCE)
        assert len(set(outcomes)) == 1
        assert len(outcomes) == 3
        assert outcomes[0].endswith("Connect a new Client once a controller is running.")
        for sink in sinks:
            assert sink.over.wait(PATIENCE)
            assert sink.results[0][0].fault.kind == "ConnectionLost"
        with pytest.raises(ConnectionLost):
            link.submit(task(link), [], Sink())
        link.close()

    def test_closing_says_goodbye_after_everything_else(self, controller, link):
        sink = Sink()
        link.submit(task(link), [], sink)
        link.close()
        assert controller.expect(m.Submit)
        assert controller.expect(m.Bye)
        assert link.closed
        assert sink.results[0][0].fault.kind == "ConnectionLost"
        link.close()

    def test_who_waits_gets_the_reason_however_the_threads_run(self, controller):
        for _ in range(20):
            link = connect(controller)
            outcomes = []

            def wait(link=link, outcomes=outcomes):
                try:
                    outcomes.append(link.wait_for(lambda: False))
                except ConnectionLost as error:
                    outcomes.append("closed" in str(error))

            threads = [threading.Thread(target=wait) for _ in range(3)]
            for thread in threads:
                thread.start()
            link.close()
            for thread in threads:
                thread.join(PATIENCE)
            assert outcomes == [True] * 3

    def test_own_sleep_is_not_the_controllers_silence(self, controller, link):
        link._heard -= 1000
        link._next_ping = time.monotonic() - 1000
        link._wake()
        controller.expect(m.Ping)
        controller.say(m.Ping(1))
        controller.expect(m.Pong)


class TestComingBack:
    def test_a_refusal_that_answers_no_hello_is_a_lost_connection(self, controller):
        """As when libzmq has reconnected by itself: another controller in that place does not know who speaks."""
        link = connect(controller, patience=PATIENCE, returns=True)
        try:
            controller.say(m.Refused("ConnectionLost", "say hello first"))
            hello = controller.expect(m.ClientHello)
            assert (hello.client, hello.token) == (3, "token")
            controller.say(m.Welcome(3, "token", 1, 3.0, resumed=True, patience=PATIENCE))
            assert link.wait_for(lambda: not link.trouble(), PATIENCE)
        finally:
            link.close()

    def test_a_refusal_that_answers_a_hello_is_the_end(self, controller):
        link = connect(controller, patience=PATIENCE, returns=True)
        try:
            controller.hang_up()
            controller.expect(m.ClientHello)
            controller.say(m.Refused("ConnectionLost", "you were given up"))
            with pytest.raises(ConnectionLost, match="given up"):
                link.wait_for(lambda: False, PATIENCE)
        finally:
            link.close()
