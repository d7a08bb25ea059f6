"""A dependency counted down says the same as one looked at as a whole, and graphs of tasks come to an end."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from enginery.core.dependencies import Verdict, Wait
from enginery.core.invariants import check
from enginery.core.ledger import Ending
from enginery.core.scheduler import Scheduler
from enginery.wire import messages as m


def verdict_of(endings, total, *, everything, success, failure):
    """What is to be said of a dependency on ``total`` tasks of which some have ended."""
    fine = [success if ending.ok else failure for ending in endings]
    if everything:
        if not all(fine):
            return Verdict.IMPOSSIBLE
        return Verdict.MET if len(fine) == total else Verdict.OPEN
    if any(fine):
        return Verdict.MET
    return Verdict.IMPOSSIBLE if len(fine) == total else Verdict.OPEN


@given(st.lists(st.tuples(st.booleans(), st.integers(-1, 3)), min_size=1, max_size=6), *[st.booleans()] * 3)
def test_counting_down_is_looking_at_all(drawn, everything, success, failure):
    endings = [Ending(*one) for one in drawn]
    dependency = m.Dependency(list(range(len(endings))), all=everything, success=success, failure=failure)
    wait = Wait(m.Task(99, 0, b"", b""), dependency, follow=True)
    final = Verdict.OPEN
    for count, ending in enumerate(endings, 1):
        if final is Verdict.OPEN:
            final = verdict_of(endings[:count], len(endings), everything=everything, success=success, failure=failure)
        assert wait.settle(count - 1, ending) is final
    assert final is not Verdict.OPEN
    if final is Verdict.MET and everything:
        places = [ending.engine for ending in endings if ending.engine >= 0]
        assert wait.places == (set.intersection(*({place} for place in places)) if places else None)


@st.composite
def graphs(draw):
    """For each task the earlier ones it depends on, how, and whether it will fail."""
    count = draw(st.integers(1, 25))
    return [
        (
            draw(st.sets(st.integers(0, at - 1), max_size=4)) if at else set(),
            draw(st.booleans()),
            draw(st.sampled_from([(True, False), (False, True), (True, True)])),
            draw(st.booleans()),
        )
        for at in range(count)
    ]


@given(graphs(), st.integers(1, 3), st.integers(0, 2**16), st.booleans())
def test_every_graph_comes_to_its_end_in_order(graph, engines, seed, in_one_message):
    scheduler, random = Scheduler(random=Random(seed), hwm=0), Random(seed)
    client = scheduler.client_joined("someone", "token", 0.0)
    records = [scheduler.engine_joined("uuid", 1, "host", -1, 0.0) for _ in range(engines)]
    first = client.highest
    tasks = [
        m.Task(
            first + at,
            0,
            b"",
            b"",
            options=m.Options(
                after=m.Dependency(
                    [first + other for other in others], all=everything, success=flags[0], failure=flags[1]
                )
            ),
        )
        for at, (others, everything, flags, _) in enumerate(graph)
    ]
    for message in [tasks] if in_one_message else [[task] for task in tasks]:
        scheduler.tasks_submitted(client, message, [], 0.0)
    ended = {}
    while True:
        while actions := scheduler.take_actions(0.0):
            for action in actions:
                if isinstance(action.message, m.Results):
                    for result in action.message.results:
                        assert result.id not in ended
                        ended[result.id] = not result.status
            scheduler.settle()
        check(scheduler)
        running = [(record, task) for record in records for task in record.balanced]
        if not running:
            break
        record, task = random.choice(running)
        others, everything, flags, fails = graph[task - first]
        endings = [Ending(ended[first + other], 0) for other in others if first + other in ended]
        said = verdict_of(endings, len(others), everything=everything, success=flags[0], failure=flags[1])
        assert said is Verdict.MET or not others, "begun too early"
        fault = m.Fault("remote", "E", "") if fails else None
        scheduler.results_arrived(record, [m.Result(task, int(fails), b"", fault=fault)], [], 0.0)
    assert len(ended) == len(graph)
    assert not scheduler.admission
