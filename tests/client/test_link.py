"""What a client asks, and what comes of it, of a controller that says whatever a test wants."""

from __future__ import annotations

import threading

import pytest
from real_link import ENGINE, Sink, connect, result, task

from enginery.core.requests import OVERHEAD
from enginery.wire import messages as m
from enginery.wire.callables import pack_function
from enginery.wire.serialize import NONE
from fake_controller import PATIENCE, FakeController


@pytest.fixture
def controller():
    controller = FakeController()
    yield controller
    controller.close()


@pytest.fixture
def link(controller):
    link = connect(controller, engines=[ENGINE])
    yield link
    link.close()


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
