"""What the scheduler asks for after each stimulus."""

from __future__ import annotations

from itertools import chain

import pytest

from enginery.core import fleet
from enginery.core import scheduler as room
from enginery.core.actions import To
from enginery.core.tasks import State
from enginery.wire import messages as m


def test_a_task_goes_to_an_engine_and_its_result_to_the_client(desk):
    d = desk(engines=1)
    task = d.task()
    assert d.turn().assigned(d.engines[0]) == [task]
    assert d.finish(d.engines[0], task).kinds() == {task: None}
    assert not d.scheduler.book.tasks


def test_a_task_without_engines_waits_for_one(desk):
    d = desk()
    task = d.task()
    assert d.turn().actions == []
    engine = d.join()
    assert d.turn().assigned(engine) == [task]


def test_many_tasks_are_shared_out(desk):
    d = desk(engines=4, hwm=0)
    ids = d.submit(100)
    d.turn()
    shares = [d.assigned(engine) for engine in d.engines]
    assert sorted(chain(*shares)) == ids
    assert {len(share) for share in shares} == {25}


def test_buffers_travel_with_their_task_and_their_result(desk):
    d = desk(engines=1)
    plain, heavy = d.task(), d.task(frames=[b"a", b"b"], retries=1)
    d.turn()
    assert [action.frames for action in d.actions if action.to == To.ENGINE] == [[]]
    d.finish(d.engines[0], plain)
    assert [action.frames for action in d.actions if action.to == To.ENGINE] == [[b"a", b"b"]]
    d.fail(d.engines[0], heavy)
    assert [action.frames for action in d.actions if action.to == To.ENGINE] == [[b"a", b"b"]]
    d.finish(d.engines[0], heavy, frames=[b"r"])
    assert [action.frames for action in d.actions if action.to == To.CLIENT] == [[b"r"]]


# --- submissions that come twice, or are somebody else's ----------------------------------------------------------


def test_what_is_submitted_twice_runs_once(desk):
    d = desk(engines=1)
    tasks = [m.Task(number, 0, b"", b"", 1) for number in d.ids(3)]
    d.scheduler.tasks_submitted(d.client, tasks, [b"x"] * 3, d.now)
    d.scheduler.tasks_submitted(d.client, tasks, [b"x"] * 3, d.now)
    d.turn()
    d.scheduler.tasks_submitted(d.client, tasks[:1], [b"x"], d.now)
    for task in tasks:
        d.finish(d.engines[0], task.id)
    d.scheduler.tasks_submitted(d.client, tasks, [b"x"] * 3, d.now)
    assert d.turn().actions == []
    assert d.scheduler.counts["submitted"] == 3
    assert d.scheduler.counts["stale"] == 7
    assert not d.scheduler.book.frames


def test_ids_of_another_client_are_not_taken(desk):
    d = desk(engines=1)
    stranger = d.join_client()
    d.scheduler.tasks_submitted(d.client, [m.Task(stranger.highest, 0, b"", b"")], [], d.now)
    d.scheduler.tasks_submitted(d.client, [m.Task(-1, 0, b"", b""), m.Task(3, 0, b"", b"")], [], d.now)
    assert d.turn().sent(m.Assign) == []
    assert d.scheduler.counts["stale"] == 3


def test_ids_that_threads_have_overtaken_one_another_with_are_all_taken(desk):
    d = desk(engines=1, hwm=0)
    first, second, third = d.ids(3)
    for number in (third, first, second):
        d.scheduler.tasks_submitted(d.client, [m.Task(number, 0, b"", b"")], [], d.now)
    assert sorted(d.turn().assigned(d.engines[0])) == [first, second, third]


def test_a_long_message_that_comes_twice_is_turned_away_whole(desk):
    d = desk()
    tasks = [m.Task(number, 0, b"", b"") for number in d.ids(2000)]
    d.scheduler.tasks_submitted(d.client, tasks, [], d.now)
    d.scheduler.tasks_submitted(d.client, tasks, [], d.now)
    assert d.scheduler.counts["stale"] == 2000


# --- requests addressed to engines --------------------------------------------------------------------------------


def test_each_engine_gets_its_copy(desk):
    d = desk(engines=3)
    ids = d.request([2, 0], frames=[b"x"])
    d.turn()
    assert d.assigned(d.engines[2]) == [ids[0]]
    assert d.assigned(d.engines[0]) == [ids[1]]
    assert [action.frames for action in d.actions if action.to == To.ENGINE] == [[b"x"], [b"x"]]
    assert d.finish(d.engines[0], ids[1]).kinds() == {ids[1]: None}


def test_a_request_to_an_engine_that_is_not_there_fails_alone(desk):
    d = desk(engines=1)
    here, nowhere = d.request([0, 5])
    d.turn()
    assert d.assigned(d.engines[0]) == [here]
    assert d.kinds() == {nowhere: "EngineError"}
    assert "Engine 5 is not registered" in d.results()[nowhere].fault.evalue


def test_a_request_that_fails_is_not_tried_again(desk):
    d = desk(engines=2)
    (task,) = d.request([0])
    assert d.turn().fail(d.engines[0], task).kinds() == {task: "remote"}


def test_a_request_sent_twice_runs_once(desk):
    d = desk(engines=1)
    request = m.Request([0, 0], m.Task(d.ids(1)[0], 0, b"", b""))
    d.scheduler.requests_submitted(d.client, [request, request], [])
    assert len(d.turn().assigned(d.engines[0])) == 2


# --- engines come and go ------------------------------------------------------------------------------------------


def test_clients_are_told_who_comes_and_who_goes(desk):
    d = desk()
    engine = d.join()
    assert d.turn().sent(m.News, d.client.number)[0].joined == [engine.info]
    (news,) = d.leave(engine).sent(m.News, d.client.number)
    assert news.left == [m.Departure(engine.info.id, "uuid", "killed by SIGKILL")]
    assert d.leave(engine).actions == [], "told twice"


@pytest.mark.parametrize(
    ("wishes", "given"),
    [
        ([-1, -1], [0, 1]),
        ([3, 0, 1, 2], [3, 0, 1, 2]),  # ranks of an MPI job come in any order
        ([3, 3, -1, 1], [3, 4, 5, 1]),
        ([0, 0], [0, 1]),
        ([2**40, -5], [0, 1]),  # a wish that would be no id, and none
    ],
)
def test_engines_get_the_id_they_wish_for_if_it_was_never_used(desk, wishes, given):
    d = desk()
    assert [d.join(wish).info.id for wish in wishes] == given


def test_an_id_is_never_given_twice(desk):
    d = desk()
    d.leave(d.join(0))
    assert d.join(0).info.id == 1


def test_what_a_dead_engine_had_begun_fails_and_the_rest_runs_elsewhere(desk):
    d = desk(engines=1, hwm=3)
    done, begun, queued = d.submit(3)
    d.turn()
    d.finish(d.engines[0], done)
    other = d.join()
    d.leave(d.engines[0], balanced=begun)
    assert d.kinds() == {begun: "EngineError"}
    assert "Engine 0 (pid 7 on node) left: killed by SIGKILL." in d.results()[begun].fault.evalue
    assert d.assigned(other) == [queued]
    assert queued not in d.scheduler.book.rare, "it counts as an attempt"


def test_an_engine_that_had_begun_nothing_costs_nothing(desk):
    d = desk(engines=2, hwm=2)
    ids = d.submit(4)
    d.turn()
    d.leave(d.engines[0], balanced=-1)
    d.finish(d.engines[1], *d.engines[1].balanced)
    d.finish(d.engines[1], *d.engines[1].balanced)
    assert d.scheduler.counts["failed"] == 0
    assert d.scheduler.counts["ended"] == len(ids)


def test_without_a_report_all_that_an_engine_held_counts_as_begun(desk):
    d = desk(engines=1, hwm=2)
    ids = d.submit(2)
    d.turn()
    assert d.leave(d.engines[0]).kinds() == dict.fromkeys(ids, "EngineError")


def test_a_task_with_retries_outlives_its_engine(desk):
    d = desk(engines=2)
    task = d.task(retries=1)
    d.turn()
    first = next(engine for engine in d.engines if engine.balanced)
    second = next(engine for engine in d.engines if engine is not first)
    assert d.leave(first, balanced=task).assigned(second) == [task]
    assert "killed by SIGKILL" in d.leave(second, balanced=task).results()[task].fault.evalue


def test_a_task_that_kills_its_engines_is_not_tried_for_ever(desk):
    d = desk()
    task = d.task(retries=1000)
    for _ in range(fleet.POISON):
        engine = d.join()
        assert d.turn().assigned(engine) == [task]
        d.leave(engine, balanced=task)
    fault = d.results()[task].fault
    assert "was with 3 engines when they died" in fault.evalue
    assert fault.evalue.count("killed by SIGKILL") == 3


def test_requests_to_a_dead_engine_fail_whether_begun_or_not(desk):
    d = desk(engines=2)
    ids = d.request([0, 0])
    d.turn()
    assert d.leave(d.engines[0], balanced=-1).kinds() == dict.fromkeys(ids, "EngineError")


def test_tasks_put_back_stand_in_front_in_their_old_order(desk):
    d = desk(engines=1, hwm=3)
    ids = d.submit(6)
    d.turn()
    d.leave(d.engines[0], balanced=-1)
    d.engines = [d.join(), d.join()]
    d.turn()
    order = [d.assigned(engine) for engine in d.engines]
    assert sorted(chain(*order)) == ids
    assert all(share == sorted(share) for share in order)


# --- failures and retries -----------------------------------------------------------------------------------------


def test_a_task_that_always_fails_ends_with_its_last_error_however_many_retries(desk):
    d = desk(engines=2)
    task = d.task(retries=5)
    d.turn()
    tried = []
    while not d.results():
        engine = next(engine for engine in d.engines if engine.balanced)
        tried.append(engine.info.id)
        d.fail(engine, task, ename=f"Error{len(tried)}")
    assert len(tried) == 6
    assert set(tried[:2]) == {0, 1}, "the engine that failed it was not avoided"
    assert d.results()[task].fault.ename == "Error6"


def test_retries_wait_for_engines_that_have_not_failed_the_task(desk):
    d = desk(engines=2, hwm=1)
    blocker = d.task(targets=[1])
    task = d.task(retries=1)
    d.turn()
    d.fail(d.engines[0], task)
    assert d.assigned(d.engines[0]) == []
    assert d.finish(d.engines[1], blocker).assigned(d.engines[1]) == [task]


def test_an_engine_that_failed_a_task_is_asked_again_when_the_others_have_left(desk):
    d = desk(engines=2, hwm=1)
    d.task(targets=[1])
    task = d.task(retries=1)
    d.turn()
    d.fail(d.engines[0], task)
    assert d.leave(d.engines[1]).assigned(d.engines[0]) == [task]


def test_only_the_latest_attempts_are_remembered(desk):
    d = desk(engines=1)
    task = d.task(retries=100)
    d.turn()
    for at in range(100):
        d.fail(d.engines[0], task, ename=f"Error{at}")
    assert len(d.scheduler.book.rare[task].attempts) == 20
    assert "Error99" in d.scheduler.book.rare[task].attempts[-1]


def test_an_unmet_requirement_moves_the_task_without_counting(desk):
    d = desk(engines=2)
    task = d.task()
    d.turn()
    first = next(engine for engine in d.engines if engine.balanced)
    second = next(engine for engine in d.engines if engine is not first)
    assert d.fail(first, task, kind="UnmetDependency").assigned(second) == [task]
    d.fail(second, task, kind="UnmetDependency")
    result = d.results()[task]
    assert (result.status, result.fault.kind) == (m.Status.UNRUNNABLE, "ImpossibleDependency")
    assert "engine 0" in result.fault.evalue or "engine 1" in result.fault.evalue


def test_an_engine_that_failed_a_task_may_still_meet_its_requirement(desk):
    d = desk(engines=2)
    task = d.task(retries=2)
    d.turn()
    first = next(engine for engine in d.engines if engine.balanced)
    second = next(engine for engine in d.engines if engine is not first)
    d.fail(first, task)
    assert d.fail(second, task, kind="UnmetDependency").assigned(first) == [task]
    assert d.finish(first, task).kinds() == {task: None}


# --- aborts -------------------------------------------------------------------------------------------------------


def test_an_abort_ends_what_no_engine_has(desk):
    d = desk()
    ready, waiting = d.task(), d.task(after=m.Dependency([d.client.highest - 1]))
    d.scheduler.abort_requested(d.client, [waiting, ready, 99])
    assert d.turn().kinds() == {ready: "TaskAborted", waiting: "TaskAborted"}
    assert not d.scheduler.book.tasks


def test_an_abort_is_passed_on_to_the_engine_that_has_the_task(desk):
    d = desk(engines=1)
    task = d.task(retries=3)
    d.turn()
    d.scheduler.abort_requested(d.client, [task], interrupt=True)
    assert d.turn().sent(m.Abort, 0, To.ENGINE) == [m.Abort([task], interrupt=True)]
    d.finish(d.engines[0], task, status=m.Status.ABORTED, fault=m.Fault("TaskAborted", "TaskAborted", ""))
    assert d.kinds() == {task: "TaskAborted"}


def test_an_aborted_task_that_fails_is_not_tried_again(desk):
    d = desk(engines=2)
    task = d.task(retries=3)
    d.turn()
    d.scheduler.abort_requested(d.client, [task])
    engine = next(engine for engine in d.engines if engine.balanced)
    assert d.fail(engine, task).kinds() == {task: "remote"}


def test_nobody_aborts_the_tasks_of_others(desk):
    d = desk()
    task = d.task()
    d.scheduler.abort_requested(d.join_client(), [task])
    assert d.turn().kinds() == {}


def test_an_abort_that_meets_the_task_on_its_way_back_ends_it(desk):
    d = desk(engines=1, hwm=2)
    running, queued = d.submit(2)
    d.turn()
    d.scheduler.abort_requested(d.client, [queued])
    d.scheduler.tasks_returned(d.engines[0], [queued], d.now)
    assert d.turn().kinds() == {queued: "TaskAborted"}
    assert d.finish(d.engines[0], running).assigned(d.engines[0]) == []


def test_an_abort_that_meets_the_end_of_an_engine_ends_what_it_had_not_begun(desk):
    d = desk(engines=2, hwm=2, scheme="lru")
    ids = d.submit(4)
    d.turn()
    held = list(d.engines[0].balanced)
    d.scheduler.abort_requested(d.client, held)
    d.leave(d.engines[0], balanced=held[0])
    assert d.kinds() == {held[0]: "EngineError", held[1]: "TaskAborted"}
    assert set(held) < set(ids)


# --- stealing -----------------------------------------------------------------------------------------------------


def crowded(desk, **options):
    """Engine 0 runs a long task with others queued behind it, engine 1 idles."""
    d = desk(engines=1, hwm=4, **options)
    ids = d.submit(4)
    d.turn()
    d.engines.append(d.join())
    d.turn()
    return d, ids


def test_an_idle_engine_steals_what_is_stuck_behind_a_slow_task(desk):
    d, ids = crowded(desk)
    assert d.turn(seconds=0.001).sent(m.Return) == []
    due = d.scheduler.next_deadline()
    assert due is not None
    d.now = due
    assert d.turn(seconds=1e-9).sent(m.Return, 0) == [m.Return(2)]
    assert d.turn(seconds=1.0).sent(m.Return) == [], "asked again before it has answered"
    d.scheduler.tasks_returned(d.engines[0], ids[2:], d.now)
    assert d.turn().assigned(d.engines[1]) == ids[2:]
    assert d.scheduler.counts["stolen"] == 2


def test_ticking_when_the_deadline_says_is_never_too_early(desk):
    for at in range(200):
        d, _ = crowded(desk)
        d.engines[0].progressed = 1000.0 + at / 7
        d.now = d.scheduler.next_deadline()
        d.scheduler.tick(d.now)
        assert d.scheduler.next_deadline() is None, "the loop would spin"


def test_what_only_the_stuck_engine_may_run_is_not_passed_to_and_fro(desk):
    d = desk(engines=1, hwm=4)
    ids = d.submit(4, targets=[0])
    d.turn()
    d.join()
    d.turn(seconds=1.0)
    assert d.sent(m.Return, 0) == [m.Return(2)]
    d.scheduler.tasks_returned(d.engines[0], ids[2:], d.now)
    assert d.turn().assigned(d.engines[0]) == []
    d.turn(seconds=1.0)
    d.scheduler.tasks_returned(d.engines[0], ids[1:2], d.now)
    assert d.turn(seconds=1.0).actions == [], "it only has the task it runs"
    assert d.finish(d.engines[0], ids[0]).assigned(d.engines[0]) == ids[1:]


def test_an_engine_with_nothing_to_hand_back_is_left_in_peace(desk):
    d, ids = crowded(desk)
    d.turn(seconds=1.0)
    d.scheduler.tasks_returned(d.engines[0], [], d.now)
    assert d.turn(seconds=1.0).sent(m.Return) == []
    d.finish(d.engines[0], ids[0])
    assert d.turn(seconds=1.0).sent(m.Return) == [m.Return(1)]


def test_balanced_tasks_behind_a_request_are_stolen(desk):
    d = desk(engines=1)
    d.request([0])
    task = d.task()
    d.turn()
    other = d.join()
    assert d.turn(seconds=1.0).sent(m.Return, 0) == [m.Return(1)]
    d.scheduler.tasks_returned(d.engines[0], [task], d.now)
    assert d.turn().assigned(other) == [task]


def test_an_engine_that_runs_a_request_is_not_taken_for_idle(desk):
    d = desk(engines=2)
    d.request([0])
    task = d.task()
    assert d.turn().assigned(d.engines[1]) == [task]


def test_a_task_that_was_returned_and_done_at_once_ends_once(desk):
    d, ids = crowded(desk)
    d.turn(seconds=1.0)
    d.finish(d.engines[0], ids[3])
    d.scheduler.tasks_returned(d.engines[0], ids[2:], d.now)
    assert d.turn().assigned(d.engines[1]) == [ids[2]]


# --- functions ----------------------------------------------------------------------------------------------------


def test_a_function_goes_to_each_engine_once_and_ahead(desk):
    d = desk(engines=1, hwm=1)
    d.scheduler.functions_arrived(d.client, {b"f": b"body"})
    ids = d.submit(2, function=b"f")
    kinds = [type(action.message) for action in d.turn().actions]
    assert kinds == [m.Functions, m.Assign]
    assert [type(action.message) for action in d.finish(d.engines[0], ids[0]).actions] == [m.Results, m.Assign]


def test_a_missing_function_is_asked_of_the_clients_whose_tasks_need_it(desk):
    d = desk(engines=1)
    idle = d.join_client()
    task = d.task(function=b"f")
    d.turn()
    d.scheduler.functions_missing(d.engines[0], [b"f"])
    assert d.turn().sent(m.Missing, d.client.number) == [m.Missing([b"f"])]
    assert d.sent(m.Missing, idle.number, To.CLIENT) == []
    d.scheduler.functions_arrived(d.client, {b"f": b"body"})
    assert d.turn().sent(m.Functions, 0) == [m.Functions({b"f": b"body"})]
    assert d.finish(d.engines[0], task).kinds() == {task: None}


def test_tasks_end_when_their_client_does_not_have_the_function_either(desk):
    d = desk(engines=1, hwm=0)
    ids = d.submit(3, function=b"f")
    direct = d.request([0], function=b"f")
    d.turn()
    d.scheduler.functions_missing(d.engines[0], [b"f"])
    d.turn()
    d.scheduler.functions_arrived(d.client, {b"f": b""})
    d.turn()
    assert d.kinds() == dict.fromkeys([*ids, *direct], "EngineError")
    assert sum(len(abort.ids) for abort in d.sent(m.Abort, 0)) == 4


def test_tasks_of_another_client_still_wait_for_the_function(desk):
    d = desk(engines=1, hwm=0)
    other = d.join_client()
    d.task(function=b"f")
    theirs = d.task(function=b"f", client=other)
    d.turn()
    d.scheduler.functions_missing(d.engines[0], [b"f"])
    d.turn()
    d.scheduler.functions_arrived(d.client, {b"f": b""})
    assert d.turn().kinds(other) == {}
    d.scheduler.functions_arrived(other, {b"f": b"body"})
    d.turn()
    assert d.finish(d.engines[0], theirs).kinds(other) == {theirs: None}


def test_tasks_end_when_the_client_leaves_that_was_asked_for_the_function(desk):
    d = desk(engines=1, hwm=1)
    other = d.join_client()
    d.task(function=b"f")
    behind = d.task(client=other)
    d.turn()
    d.scheduler.functions_missing(d.engines[0], [b"f"])
    d.turn()
    d.scheduler.client_left(d.client.number)
    assert d.turn().assigned(d.engines[0]) == [behind], "the engine is blocked by a task that can never run"


# --- clients come and go ------------------------------------------------------------------------------------------


def test_results_of_a_client_that_has_left_go_nowhere(desk):
    d = desk(engines=1, hwm=0)
    other = d.join_client()
    gone = d.submit(2)
    kept = d.submit(2, client=other)
    d.turn()
    d.scheduler.client_left(d.client.number)
    d.finish(d.engines[0], kept[0], *gone, kept[1])
    assert d.kinds(other) == dict.fromkeys(kept)
    assert not d.scheduler.book.tasks


def test_results_do_not_go_to_the_only_client_left_if_they_are_not_its_own(desk):
    d = desk(engines=1, hwm=0)
    theirs = d.submit(1)
    d.turn()
    d.scheduler.client_left(d.client.number)
    newcomer = d.join_client()
    mine = d.submit(2, client=newcomer)
    d.turn()
    d.finish(d.engines[0], mine[0], *theirs, mine[1])
    assert set(d.results(newcomer)) == set(mine)


def test_tasks_of_others_may_depend_on_those_of_a_client_that_left(desk):
    d = desk(engines=1, hwm=0)
    other = d.join_client()
    first = d.task()
    second = d.task(client=other, after=m.Dependency([first]))
    d.turn()
    d.scheduler.client_left(d.client.number)
    assert d.finish(d.engines[0], first).assigned(d.engines[0]) == [second]


def test_clients_take_turns(desk):
    d = desk(engines=1, hwm=1)
    other = d.join_client()
    d.submit(100)
    (single,) = d.submit(1, client=other)
    d.turn()
    served = 0
    while single not in d.engines[0].balanced:
        d.finish(d.engines[0], *d.engines[0].balanced)
        served += 1
    assert served <= 2


# --- time ---------------------------------------------------------------------------------------------------------


def test_dependencies_have_to_be_met_in_time(desk):
    d = desk(engines=1)
    first = d.task()
    second = d.task(after=m.Dependency([first]), timeout=5.0)
    d.turn()
    assert d.scheduler.next_deadline() == d.now + 5.0
    assert d.turn(seconds=4.9).kinds() == {}
    assert d.turn(seconds=0.1).kinds() == {second: "TaskTimeout"}
    assert d.scheduler.next_deadline() is None


def test_a_timeout_does_not_hurt_a_task_that_got_ready(desk):
    d = desk()
    engine = d.join()
    first = d.task()
    second = d.task(after=m.Dependency([first]), timeout=5.0)
    d.turn()
    d.finish(engine, first)
    assert d.turn(seconds=10.0).kinds() == {}
    assert second in d.scheduler.book.tasks


@pytest.mark.parametrize("timeout", [float("nan"), float("inf")])
def test_a_timeout_that_is_no_time_never_falls_due(desk, timeout):
    d = desk()
    first = d.task()
    d.task(after=m.Dependency([first]), timeout=timeout)
    other = d.task(after=m.Dependency([first]), timeout=1.0)
    assert d.turn(seconds=2.0).kinds() == {other: "TaskTimeout"}


def test_deadlines_of_tasks_that_have_ended_are_forgotten(desk):
    d = desk(engines=1, hwm=1)
    for _ in range(20):
        first = d.task()
        d.turn()
        d.submit(200, after=m.Dependency([first]), timeout=1e9)
        d.fail(d.engines[0], first)
    assert not d.scheduler.book.tasks
    assert len(d.scheduler._deadlines) < room.POINTLESS + 500


# --- output -------------------------------------------------------------------------------------------------------


def test_output_goes_to_the_client_before_the_result(desk):
    d = desk(engines=1)
    task = d.task()
    d.turn()
    d.scheduler.output_arrived(d.engines[0], [m.Output(task, "stdout", "hello")])
    d.finish(d.engines[0], task)
    assert [type(action.message) for action in d.actions] == [m.Outputs, m.Results]
    d.scheduler.output_arrived(d.engines[0], [m.Output(task, "stdout", "late")])
    assert d.turn().actions == []


# --- the books ----------------------------------------------------------------------------------------------------


def test_a_result_that_nobody_waits_for_is_dropped(desk):
    d = desk(engines=2)
    task = d.task(targets=[0])
    d.turn()
    d.scheduler.results_arrived(d.engines[1], [m.Result(task, 0, b""), m.Result(99, 0, b"")], [], d.now)
    assert d.turn().actions == []
    d.finish(d.engines[0], task)
    assert d.finish(d.engines[0], task).actions == []
    assert d.scheduler.counts["stale"] == 3


def test_a_message_of_results_that_repeats_itself_ends_each_task_once(desk):
    d = desk(engines=1, hwm=0)
    ids = d.submit(3)
    d.turn()
    d.finish(d.engines[0], *ids, *ids)
    assert sum(len(message.results) for message in d.sent(m.Results)) == 3


def test_locate_says_where_a_task_stands(desk):
    d = desk(engines=1, hwm=1)
    assigned, ready = d.submit(2)
    waiting = d.task(after=m.Dependency([assigned]))
    d.turn()
    assert d.scheduler.locate(assigned) == (State.ASSIGNED, d.engines[0])
    assert d.scheduler.locate(ready) == (State.READY, None)
    assert d.scheduler.locate(waiting) == (State.WAITING, None)


def test_empty_messages_harm_nobody(desk):
    d = desk(engines=1)
    d.scheduler.tasks_submitted(d.client, [], [], d.now)
    d.scheduler.requests_submitted(d.client, [], [])
    d.scheduler.results_arrived(d.engines[0], [], [], d.now)
    d.scheduler.output_arrived(d.engines[0], [])
    d.scheduler.tasks_returned(d.engines[0], [], d.now)
    d.scheduler.functions_missing(d.engines[0], [])
    d.scheduler.functions_arrived(d.client, {})
    d.scheduler.abort_requested(d.client, [])
    assert d.turn().actions == []


def test_an_engine_that_has_hung_up_is_given_nothing_more(desk):
    d = desk(engines=2, hwm=2)
    d.scheduler.engine_hung_up(0)
    d.scheduler.engine_hung_up(7)
    ids = d.submit(4)
    bound = d.task(targets=[0])
    d.turn()
    assert d.assigned(d.engines[1]) == ids[:2]
    assert d.assigned(d.engines[0]) == []
    assert d.leave(d.engines[0]).kinds() == {bound: "ImpossibleDependency"}


class TestRetiring:
    def test_an_idle_engine_leaves_at_once(self, desk):
        d = desk(engines=2)
        d.scheduler.engine_retires(1)
        d.turn()
        assert [message.targets for message in d.sent(m.Shutdown, 1)] == [[1]]
        assert d.sent(m.Shutdown, 0) == []

    def test_what_it_has_not_begun_goes_to_others_and_the_rest_is_awaited(self, desk):
        d = desk(engines=2, hwm=2)
        ids = d.submit(4)
        d.turn()
        first, second = d.engines
        mine = d.assigned(second)
        assert sorted([*d.assigned(first), *mine]) == ids
        d.scheduler.engine_retires(1)
        d.turn()
        assert [message.count for message in d.sent(m.Return, 1)] == [2]
        d.scheduler.tasks_returned(second, mine[1:], d.now)
        d.turn()
        assert d.sent(m.Shutdown) == []
        d.finish(first, *[number for number in ids if number not in mine])
        assert d.assigned(first) == mine[1:]
        d.finish(second, mine[0])
        assert len(d.sent(m.Shutdown, 1)) == 1
        d.submit(3)
        d.turn()
        assert d.assigned(second) == []

    def test_requests_addressed_to_it_are_done(self, desk):
        d = desk(engines=1)
        (number,) = d.request([0])
        d.turn()
        d.scheduler.engine_retires(0)
        assert d.turn().sent(m.Shutdown) == []
        d.scheduler.results_arrived(d.engines[0], [m.Result(number, m.Status.OK, b"")], [], d.now)
        d.scheduler.settle()
        assert len(d.turn().sent(m.Shutdown, 0)) == 1

    def test_one_that_dies_meanwhile_is_forgotten(self, desk):
        d = desk(engines=1)
        d.request([0])
        d.turn()
        d.scheduler.engine_retires(0)
        d.leave(d.engines[0])
        d.scheduler.engine_retires(0)
        assert d.turn().sent(m.Shutdown) == []


class TestCrashes:
    def test_clients_hear_how_an_engine_ended(self, desk):
        d = desk(engines=1)
        end = m.Departure(0, d.engines[0].info.uuid, "killed by SIGKILL", crashed=True, code=-9)
        d.leave(d.engines[0], end=end)
        assert [news.left for news in d.sent(m.News, d.client.number) if news.left] == [[end]]
        assert list(d.scheduler.crashes) == [end]

    def test_an_engine_that_never_came(self, desk):
        d = desk(engines=1)
        end = m.Departure(-1, "it", "exit code 4", crashed=True, code=4)
        d.scheduler.engine_stillborn(end)
        assert d.turn().sent(m.News, d.client.number)[-1].left == [end]
        assert list(d.scheduler.engines) == [0]

    def test_those_that_were_stopped_are_no_crashes(self, desk):
        d = desk(engines=1)
        d.leave(d.engines[0])
        assert list(d.scheduler.crashes) == []
