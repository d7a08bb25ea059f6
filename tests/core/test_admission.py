"""Tasks with options: what they wait for, and how they end when it cannot come."""

from __future__ import annotations

import pytest

from enginery.wire import messages as m


def after(*ids, **how):
    return m.Dependency(list(ids), **how)


def test_a_task_runs_after_those_it_depends_on(desk):
    d = desk(engines=1, hwm=0)
    first, second = d.submit(2)
    third = d.task(after=after(first, second))
    d.turn()
    assert third in d.scheduler.book.waiting
    assert d.finish(d.engines[0], first).assigned(d.engines[0]) == []
    assert d.finish(d.engines[0], second).assigned(d.engines[0]) == [third]


def test_a_task_may_depend_on_requests_and_on_tasks_of_its_own_message(desk):
    d = desk(engines=1, hwm=0)
    (direct,) = d.request([0])
    first, second = d.ids(2)
    tasks = [m.Task(first, 0, b"", b""), m.Task(second, 0, b"", b"", options=m.Options(after=after(direct, first)))]
    d.scheduler.tasks_submitted(d.client, tasks, [], d.now)
    d.turn()
    d.finish(d.engines[0], direct)
    assert d.finish(d.engines[0], first).assigned(d.engines[0]) == [second]


def test_a_task_may_depend_on_one_that_ended_long_ago(desk):
    d = desk(engines=1, hwm=0)
    good, bad = d.submit(2)
    d.turn()
    d.finish(d.engines[0], good)
    d.fail(d.engines[0], bad)
    met, unmet = d.task(after=after(good)), d.task(after=after(bad))
    d.turn()
    assert d.assigned(d.engines[0]) == [met]
    assert d.kinds() == {unmet: "ImpossibleDependency"}


@pytest.mark.parametrize(
    ("how", "endings", "outcome"),
    [
        ({}, "g", "waits"),
        ({}, "gg", "runs"),
        ({}, "b", "impossible"),
        ({"all": False}, "b", "waits"),
        ({"all": False}, "g", "runs"),
        ({"all": False}, "bb", "impossible"),
        ({"success": False, "failure": True}, "bb", "runs"),
        ({"success": False, "failure": True}, "g", "impossible"),
        ({"failure": True}, "bg", "runs"),
        ({"all": False, "failure": True}, "b", "runs"),
        ({"success": False}, "g", "impossible"),
    ],
)
def test_what_a_dependency_asks_for(desk, how, endings, outcome):
    d = desk(engines=1, hwm=0)
    awaited = d.submit(2)
    task = d.task(after=after(*awaited, **how))
    d.turn()
    for number, ending in zip(awaited, endings, strict=False):
        (d.finish if ending == "g" else d.fail)(d.engines[0], number)
    runs, waits = task in d.engines[0].balanced, task in d.scheduler.book.waiting
    assert {"runs": runs, "waits": waits, "impossible": d.kinds().get(task) == "ImpossibleDependency"}[outcome]


def test_follow_goes_where_the_others_were(desk):
    d = desk(engines=3, hwm=1)
    first = d.task(targets=[2])
    second = d.task(follow=after(first))
    d.turn()
    assert d.finish(d.engines[2], first).assigned(d.engines[2]) == [second]


def test_follow_any_may_go_to_each_of_several_places(desk):
    d = desk(engines=3, hwm=1)
    ids = [d.task(targets=[number]) for number in (1, 2)]
    d.turn()
    for number in (1, 2):
        d.finish(d.engines[number], ids[number - 1])
    d.task(follow=after(*ids, all=False))
    d.turn()
    assert d.assigned(d.engines[0]) == []


def test_follow_all_needs_one_place(desk):
    d = desk(engines=2, hwm=1)
    ids = [d.task(targets=[number]) for number in (0, 1)]
    task = d.task(follow=after(*ids))
    d.turn()
    d.finish(d.engines[0], ids[0])
    d.finish(d.engines[1], ids[1])
    assert d.kinds() == {ids[1]: None, task: "ImpossibleDependency"}
    assert "different engines" in d.results()[task].fault.evalue


def test_follow_an_engine_that_has_left_is_impossible(desk):
    d = desk(engines=2, hwm=1)
    first = d.task(targets=[0])
    d.turn()
    d.finish(d.engines[0], first)
    d.leave(d.engines[0])
    task = d.task(follow=after(first))
    assert d.turn().kinds() == {task: "ImpossibleDependency"}


@pytest.mark.parametrize("targets", [[], [7], [7, 8]])
def test_targets_that_do_not_exist_are_impossible(desk, targets):
    d = desk(engines=1)
    task = d.task(targets=targets)
    assert d.turn().kinds() == {task: "ImpossibleDependency"}
    assert str(targets) in d.results()[task].fault.evalue


def test_targets_are_kept_to(desk):
    d = desk(engines=3, hwm=0)
    ids = d.submit(20, targets=[1, 7])
    assert d.turn().assigned(d.engines[1]) == ids


def test_ids_that_were_never_submitted_are_named(desk):
    d = desk(engines=1)
    unused = d.client.highest + 7
    task = d.task(after=after(unused, 12))
    assert d.turn().kinds() == {task: "InvalidDependency"}
    assert str(unused) in d.results()[task].fault.evalue


def test_no_task_waits_for_itself_or_for_a_later_one(desk):
    d = desk(engines=1)
    first, second = d.ids(2)
    tasks = [
        m.Task(first, 0, b"", b"", options=m.Options(after=after(second))),
        m.Task(second, 0, b"", b"", options=m.Options(after=after(first, second))),
    ]
    d.scheduler.tasks_submitted(d.client, tasks, [], d.now)
    assert d.turn().kinds() == {first: "InvalidDependency", second: "InvalidDependency"}


def test_a_task_ended_by_one_of_its_dependencies_is_not_ended_again_by_the_other(desk):
    d = desk(engines=1, hwm=0)
    first, second = d.submit(2)
    task = d.task(after=after(first), follow=after(second))
    d.turn()
    d.fail(d.engines[0], first)
    assert d.kinds() == {first: "remote", task: "ImpossibleDependency"}
    assert d.fail(d.engines[0], second).kinds() == {second: "remote"}
    assert not d.scheduler.admission


def test_a_dependency_on_nothing_is_met(desk):
    d = desk(engines=1)
    task = d.task(after=after(), follow=after())
    assert d.turn().assigned(d.engines[0]) == [task]


def chain(d, length):
    ids = [d.task(targets=[0])]
    for _ in range(length - 1):
        options = m.Options(after=after(ids[-1]))
        number = d.client.highest
        d.scheduler.tasks_submitted(d.client, [m.Task(number, 0, b"", b"", options=options)], [], d.now)
        ids.append(number)
    return ids


@pytest.mark.parametrize("length", [2, 2000])
def test_a_chain_fails_as_one_however_long_it_is(desk, length):
    d = desk(engines=1)
    ids = chain(d, length)
    d.scheduler.take_actions(d.now)
    result = m.Result(ids[0], m.Status.ERROR, b"", fault=m.Fault("remote", "E", ""))
    d.scheduler.results_arrived(d.engines[0], [result], [], d.now)
    d.turn()
    assert d.kinds() == {ids[0]: "remote"} | dict.fromkeys(ids[1:], "ImpossibleDependency")
    assert not d.scheduler.admission


def test_aborting_a_task_ends_those_that_wait_for_it(desk):
    d = desk()
    ids = chain(desk(engines=1), 2)
    d = desk(engines=1, hwm=1)
    d.task()
    ids = chain(d, 3)
    d.turn()
    d.scheduler.abort_requested(d.client, ids[:1])
    assert d.turn().kinds() == {ids[0]: "TaskAborted"} | dict.fromkeys(ids[1:], "ImpossibleDependency")


def test_the_end_of_an_engine_ends_those_that_wait_for_its_tasks(desk):
    d = desk(engines=2, hwm=1)
    first = d.task(targets=[0])
    second = d.task(after=after(first))
    third = d.task(after=after(first, success=False, failure=True))
    d.turn()
    d.leave(d.engines[0])
    assert d.kinds() == {first: "EngineError", second: "ImpossibleDependency"}
    assert d.assigned(d.engines[1]) == [third]


def test_tasks_that_only_have_a_label_or_a_priority_keep_no_record(desk):
    d = desk()
    d.task(label="x")
    d.task(priority=3)
    assert not d.scheduler.book.rare


def test_higher_priorities_go_first(desk):
    d = desk(engines=1, hwm=0)
    d.scheduler.dealer.hwm = 1
    low, normal, high = d.task(priority=-1), d.task(), d.task(priority=5)
    order = d.turn().assigned(d.engines[0])
    while d.engines[0].balanced:
        order += d.finish(d.engines[0], *d.engines[0].balanced).assigned(d.engines[0])
    assert order == [high, normal, low]
