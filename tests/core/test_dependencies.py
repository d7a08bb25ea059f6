"""One dependency counted down, and who waits for whom."""

from __future__ import annotations

from enginery.core.dependencies import Graph, Verdict, Wait
from enginery.core.ledger import Ending
from enginery.wire.messages import Dependency, Task

TASK = Task(9, 0, b"", b"")
GOOD = Ending(ok=True, engine=1)
BAD = Ending(ok=False, engine=1)


def wait(*ids, follow=False, **how):
    return Wait(TASK, Dependency(list(ids), **how), follow=follow)


def test_repeated_ids_count_once():
    assert wait(1, 1, 1).settle(5, GOOD) is Verdict.MET


def test_nothing_to_wait_for_is_met():
    assert wait().verdict is Verdict.MET


def test_a_verdict_stays():
    one = wait(1, 2)
    assert one.settle(5, BAD) is Verdict.IMPOSSIBLE
    assert one.settle(5, GOOD) is Verdict.IMPOSSIBLE
    other = wait(1, 2, all=False)
    assert other.settle(5, GOOD) is Verdict.MET
    assert other.settle(5, BAD) is Verdict.MET


def test_places_of_all_are_those_they_share():
    one = wait(1, 2, follow=True)
    one.settle(5, Ending(ok=True, engine=3))
    assert one.places == {3}
    one.settle(5, Ending(ok=True, engine=4))
    assert one.places == set()


def test_places_of_any_are_those_of_each():
    one = wait(1, 2, all=False, failure=True, follow=True)
    one.settle(5, Ending(ok=False, engine=3))
    assert one.places == {3}


def test_what_ran_nowhere_is_no_place():
    one = wait(1, 2, failure=True, follow=True)
    one.settle(5, Ending(ok=False, engine=-1))
    one.settle(5, Ending(ok=True, engine=2))
    assert (one.verdict, one.places) == (Verdict.MET, {2})


def test_what_ended_the_wrong_way_is_no_place():
    one = wait(1, 2, all=False, follow=True)
    one.settle(5, BAD)
    one.settle(5, Ending(ok=True, engine=7))
    assert one.places == {7}


def test_a_graph_tells_those_that_wait_and_forgets_them():
    graph, one = Graph(), wait(1, 2)
    assert not graph
    graph.add(one, [1, 2])
    assert graph
    assert graph.awaited_by(9) == [1, 2]
    assert graph.ended(1) == [one]
    assert graph.ended(1) == []
    assert graph.awaited_by(9) == [2]
    assert graph.ended(2) == [one]
    assert not graph


def test_why_it_can_never_be_met():
    one = wait(1, 2)
    one.settle(2, BAD)
    assert one.why_impossible() == "It depends on task …_2, which failed."
    other = wait(1, success=False, failure=True)
    other.settle(1, GOOD)
    assert other.why_impossible() == "It depends on task …_1, which did not fail."
    third = wait(1, 2, all=False)
    third.settle(1, BAD)
    third.settle(2, BAD)
    assert third.why_impossible() == "It depends on any of 2 tasks, and none of them ended as required."
