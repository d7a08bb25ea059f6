"""Where data are: which engine a task with needs goes to, and what becomes of kept values."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from enginery.core.actions import To
from enginery.core.places import GRACE, nearest
from enginery.wire import messages as m

VALUES = st.integers(0, 5)
ENGINES = st.sets(st.integers(0, 4))


@given(st.dictionaries(VALUES, st.integers(0, 100)), st.dictionaries(VALUES, ENGINES), ENGINES)
def test_the_nearest_hold_the_most_bytes(sizes, holders, among):
    near = nearest(sizes, holders, among)
    held = {
        engine: sum(1 + sizes.get(value, 0) for value, engines in holders.items() if engine in engines)
        for engine in among
    }
    assert near == {engine for engine, size in held.items() if size and size == max(held.values())}


def tell(desk, engine, values=None, names=(), lacks=()):
    desk.scheduler.places.told(engine, m.Holds(values or {}, list(names), list(lacks)))
    return desk.turn()


def watched(desk, engine):
    return [name for watch in desk.sent(m.Watch, engine.info.id, To.ENGINE) for name in watch.names]


# --- names ------------------------------------------------------------------------------------------------------------


def test_a_task_goes_where_the_name_is(desk):
    desk = desk(engines=3)
    one, two, three = desk.engines
    task = desk.task(names=["x"])
    desk.turn()
    assert [watched(desk, engine) for engine in desk.engines] == [["x"]] * 3
    tell(desk, one, lacks=["x"])
    tell(desk, two, lacks=["x"])
    assert not desk.assigned(one)
    tell(desk, three, names=["x"])
    assert desk.assigned(three) == [task]
    assert desk.turn().submit(names=["x"])
    desk.turn()
    assert not watched(desk, one), "it is known by now"
    assert not desk.assigned(one)


def test_a_name_that_nobody_has_is_looked_for_anywhere(desk):
    desk = desk(engines=2)
    task = desk.task(names=["x"])
    desk.turn()
    for engine in desk.engines:
        tell(desk, engine, lacks=["x"])
    assert task in desk.assigned(desk.engines[0]) + desk.assigned(desk.engines[1])


def test_who_does_not_answer_does_not_hold_tasks_up(desk):
    desk = desk(engines=2)
    task = desk.task(names=["x"])
    desk.turn()
    tell(desk, desk.engines[1], names=["x"])
    assert not desk.assigned(desk.engines[1])
    assert desk.scheduler.next_deadline() <= desk.now + GRACE
    assert "'x'" in _why(desk, task)
    desk.turn(GRACE)
    assert desk.assigned(desk.engines[1]) == [task]


def _why(desk, task):
    from enginery.core.questions import why

    return why(desk.scheduler, task, desk.now)


def push(desk, engine, names):
    number = desk.ids(1)[0]
    task = m.Task(number, m.Action.PUSH, b"", b"", 0, m.Options(names=names))
    desk.scheduler.requests_submitted(desk.client, [m.Request([engine.info.id], task)], [])
    return number


def test_a_push_on_its_way_counts(desk):
    desk = desk(engines=2)
    one, two = desk.engines
    pushed = push(desk, two, ["x"])
    task = desk.task(names=["x"])
    desk.turn()
    tell(desk, one, lacks=["x"])
    tell(desk, two, lacks=["x"])
    assert desk.assigned(two) == [task]
    push(desk, one, ["x"])
    desk.submit(names=["x"])
    assert desk.turn().scheduler.places.names["x"].holders == {0, 1}
    desk.fail(two, pushed)
    assert watched(desk, two) == ["x"], "is it really there?"
    tell(desk, two, lacks=["x"])
    assert desk.scheduler.places.names["x"].holders == {0}


def test_what_a_client_asked_for_before_may_set_the_name(desk):
    desk = desk(engines=2)
    one, two = desk.engines
    (before,) = desk.request([1])
    task = desk.task(names=["x"])
    desk.turn()
    tell(desk, one, lacks=["x"])
    tell(desk, two, lacks=["x"])
    assert not desk.assigned(one)
    assert not desk.assigned(two)
    tell(desk, two, names=["x"])
    assert desk.assigned(two) == [task]
    desk.finish(two, before, task)
    (before,) = desk.request([1])
    other = desk.task(names=["y"])
    for engine in desk.engines:
        tell(desk.turn(), engine, lacks=["y"])
    desk.finish(two, before)
    assert other in desk.assigned(one) + desk.assigned(two), "it was not set after all"


def test_a_task_that_finds_the_name_gone_goes_to_others_that_have_it(desk):
    desk = desk(engines=2)
    one, two = desk.engines
    task = desk.task(names=["x"])
    tell(desk.turn(), one, names=["x"])
    tell(desk, two, names=["x"])
    first, second = (one, two) if desk.assigned(one) else (two, one)
    tell(desk, first, lacks=["x"])
    desk.fail(first, task, kind=m.LACKS, ename="NameError")
    assert desk.assigned(second) == [task]
    tell(desk, second, lacks=["x"])
    desk.fail(second, task, kind=m.LACKS, ename="NameError")
    assert desk.kinds() == {task: "remote"}


def test_a_question_is_answered_when_all_have_said(desk):
    desk = desk(engines=2)
    desk.scheduler.places.ask(desk.client.number, 5, ["x", "y"], desk.now)
    desk.turn()
    tell(desk, desk.engines[0], names=["x"], lacks=["y"])
    assert not desk.sent(m.Answer)
    tell(desk, desk.engines[1], names=["x", "y"])
    assert desk.sent(m.Answer) == [m.Answer(5, {"x": [0, 1], "y": [1]})]
    desk.leave(desk.engines[1])
    desk.scheduler.places.ask(desk.client.number, 6, ["y"], desk.now)
    assert desk.turn().sent(m.Answer) == [m.Answer(6, {"y": []})]
    third = desk.join()
    assert sorted(watched(desk.turn(), third)) == ["x", "y"]


# --- kept values ------------------------------------------------------------------------------------------------------


def kept(desk, engine, size=100):
    """A task that ended well, and whose value stays on an engine."""
    task = desk.task(targets=[engine.info.id], keep=True)
    desk.turn()
    tell(desk, engine, {task: size})
    desk.finish(engine, task)
    return task


def test_a_task_goes_where_most_of_its_values_are(desk):
    desk = desk(engines=3)
    one, two, _ = desk.engines
    small, large = kept(desk, one, 10), kept(desk, two, 1000)
    task = desk.task(values=[small, large])
    assert desk.turn().assigned(two) == [task]
    desk.finish(two, task)
    task = desk.task(values=[small, large], targets=[2])
    assert desk.turn().assigned(desk.engines[2]) == [task], "what the user says goes first"


def test_an_engine_gets_what_it_lacks_from_another(desk):
    desk = desk(engines=2)
    one, two = desk.engines
    value = kept(desk, one)
    task = desk.task(values=[value], targets=[1])
    assert desk.turn().assigned(two) == [task]
    desk.scheduler.places.wanted(two, [value])
    (fetch,) = desk.turn().sent(m.Fetch, 0, To.ENGINE)
    desk.finish(one, fetch.tasks[0].id, frames=["frame"])
    (sent,) = desk.sent(m.Results, 1, To.ENGINE)
    assert [result.id for result in sent.results] == [value]
    tell(desk, two, {value: 100})
    assert desk.scheduler.places.where(value) == [0, 1]


def test_the_engine_it_comes_from_dies(desk):
    desk = desk(engines=3)
    one, two, three = desk.engines
    value = kept(desk, one)
    tell(desk, two, {value: 100})
    desk.scheduler.places.wanted(three, [value])
    source = next(action.number for action in desk.turn().actions if isinstance(action.message, m.Fetch))
    desk.leave(desk.engines[source])
    assert desk.sent(m.Fetch, 1 - source, To.ENGINE), "the other one has it, too"
    desk.leave(desk.engines[1 - source])
    (sent,) = desk.sent(m.Results, 2, To.ENGINE)
    assert sent.results[0].fault.kind == "EngineError"
    task = desk.task(values=[value])
    assert desk.turn().kinds() == {task: "EngineError"}
    assert "SIGKILL" in desk.results()[task].fault.evalue


def test_values_are_forgotten_when_nobody_uses_them(desk):
    desk = desk(engines=1)
    (engine,) = desk.engines
    value = kept(desk, engine)
    task = desk.task(values=[value])
    desk.scheduler.places.forgotten(desk.client.number, [value])
    assert not desk.turn().sent(m.Forget), "a task uses it"
    desk.finish(engine, task)
    assert desk.sent(m.Forget) == [m.Forget([value])]
    running = desk.task(keep=True)
    desk.scheduler.places.forgotten(desk.client.number, [running])
    tell(desk.turn(), engine, {running: 5})
    assert desk.sent(m.Forget) == [m.Forget([running])], "nobody wanted it even before it was there"
    desk.finish(engine, running)
    other = desk.join_client()
    value = kept(desk, engine)
    desk.scheduler.places.forgotten(other.number, [value])
    assert not desk.turn().sent(m.Forget), "it is not theirs"
    desk.scheduler.client_left(desk.client.number)
    assert desk.turn().sent(m.Forget) == [m.Forget([value])]
    assert not desk.scheduler.places.holders
    assert not desk.scheduler.places.sizes


def test_a_client_fetches_from_whoever_has_it(desk):
    desk = desk(engines=2)
    one, two = desk.engines
    value = kept(desk, one)
    tell(desk, two, {value: 100})
    desk.leave(one)
    number = desk.ids(1)[0]
    task = m.Task(number, m.Action.FETCH, b"", b"%d" % value)
    desk.scheduler.requests_submitted(desk.client, [m.Request([0], task)], [])
    assert desk.turn().sent(m.Fetch, 1, To.ENGINE) == [m.Fetch([task])]
    number = desk.ids(1)[0]
    garbage = m.Task(number, m.Action.FETCH, b"", b"\xff")
    desk.scheduler.requests_submitted(desk.client, [m.Request([0], garbage)], [])
    assert desk.turn().kinds() == {number: "EngineError"}
