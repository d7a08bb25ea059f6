"""Messages for one peer are joined, and leave in the order in which they were asked for."""

from __future__ import annotations

from enginery.core.actions import Outbox, To
from enginery.wire import messages as m


def task(number):
    return m.Task(number, 0, b"", b"")


def assign(outbox, engine, number, *, direct=False):
    outbox.assignment(engine, direct=direct)[0].tasks.append(task(number))


def seen(outbox):
    return [(action.to, action.number, action.message) for action in outbox.take()]


def test_tasks_for_one_engine_leave_together():
    outbox = Outbox()
    assign(outbox, 1, 10)
    assign(outbox, 2, 20)
    assign(outbox, 1, 11)
    assert len(outbox) == 2
    assert seen(outbox) == [
        (To.ENGINE, 1, m.Assign([task(10), task(11)])),
        (To.ENGINE, 2, m.Assign([task(20)])),
    ]


def test_requests_are_not_mixed_with_balanced_tasks():
    outbox = Outbox()
    assign(outbox, 1, 10)
    assign(outbox, 1, 11, direct=True)
    assign(outbox, 1, 12)
    assert [message.direct for _, _, message in seen(outbox)] == [False, True, False]


def test_what_follows_another_message_starts_anew():
    outbox = Outbox()
    assign(outbox, 1, 10)
    outbox.send(To.ENGINE, 1, m.Functions({b"f": b""}))
    assign(outbox, 1, 11)
    assert [type(message) for _, _, message in seen(outbox)] == [m.Assign, m.Functions, m.Assign]


def test_output_and_results_keep_their_order():
    outbox = Outbox()
    outbox.output(1, 5, m.Output(1, "stdout", "a"))
    outbox.output(1, 5, m.Output(1, "stdout", "b"))
    outbox.results(1, 5)[0].append(m.Result(1, 0, b""))
    outbox.output(1, 5, m.Output(2, "stdout", "c"))
    outbox.results(1, 5)[0].append(m.Result(2, 0, b""))
    kinds = [(type(message), len(getattr(message, "outputs", ()))) for _, _, message in seen(outbox)]
    assert kinds == [(m.Outputs, 2), (m.Results, 0), (m.Outputs, 1), (m.Results, 0)]


def test_results_of_different_engines_are_kept_apart():
    outbox = Outbox()
    for engine in (1, 2, 1):
        outbox.results(7, engine)[0].append(m.Result(engine, 0, b""))
    assert [message.engine for _, _, message in seen(outbox)] == [1, 2, 1]


def test_a_message_to_a_nanny_disturbs_nobody():
    outbox = Outbox()
    assign(outbox, 1, 10)
    outbox.send(To.NANNY, 1, m.Deliver("uuid", 2))
    assign(outbox, 1, 11)
    assert len(outbox) == 2


def test_nothing_is_joined_to_what_was_taken():
    outbox = Outbox()
    assert outbox.take() == []
    assign(outbox, 1, 10)
    outbox.output(1, 1, m.Output(1, "stdout"))
    outbox.results(1, 1)
    first = outbox.take()
    assign(outbox, 1, 11)
    outbox.output(1, 1, m.Output(1, "stdout"))
    outbox.results(1, 1)
    assert len(outbox.take()) == 3
    assert len(first[0].message.tasks) == 1
