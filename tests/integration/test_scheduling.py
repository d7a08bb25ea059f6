"""The load-balanced side with real processes: conditions, limits, retries, cancelling, fairness, explanations."""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import itertools
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

import enginery as ipp

pytestmark = pytest.mark.slow

PATIENCE = 30


class Odd(ValueError):
    """An error of the user's own."""


def hold(begun, gate):
    """Announce the pid, then wait until told to go on. Opening a fifo waits for the other side to open it."""
    Path(begun).write_text(str(os.getpid()))
    return Path(gate).read_text()


def note(path, what):
    with open(path, "a") as file:
        file.write(f"{what}\n")


def heedless(seconds):
    """Sleep, whatever interrupts."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(max(0.0, end - time.monotonic()))


class Held:
    """A task that runs until it is released."""

    def __init__(self, view, folder, name, *, queued):
        self.begun, self.gate = folder / f"{name}-begun", folder / f"{name}-gate"
        for fifo in (self.begun, self.gate):
            os.mkfifo(fifo)
        self.result = view.apply_async(hold, str(self.begun), str(self.gate))
        self.pid = 0 if queued else self.wait()

    def wait(self):
        """Wait until it runs."""
        return int(self.begun.read_text())

    def release(self, word=""):
        self.gate.write_text(word)
        return self.result.get(PATIENCE)


@pytest.fixture
def held(rc, tmp_path):
    """Makes tasks that run until they are released, or until the end of the test."""
    tasks = []

    def make(view, name="held", *, queued=False):
        tasks.append(Held(view, tmp_path, name, queued=queued))
        return tasks[-1]

    yield make
    for task in tasks:
        with contextlib.suppress(RuntimeError, ipp.ConnectionLost):  # it is done, or its cluster is gone
            task.result.abort(interrupt=True)


@pytest.fixture
def both(held, lv):
    """Both engines busy; ``release()`` lets them go."""
    tasks = [held(lv, f"busy{n}") for n in range(2)]

    def release():
        for task in tasks:
            task.release()

    return release


@pytest.fixture
def fragile(tmp_path):
    """A cluster whose engines the test may break."""
    with ipp.Cluster(n=2, profile_dir=str(tmp_path / "profile")) as client:
        yield client


# --- conditions -----------------------------------------------------------------------------------------------------


# A lambda goes by value, and so finds the engine's own names.
only_on = lambda number: engine_id == number  # noqa: F821


class TestConditions:
    def test_required_modules_and_objects(self, lv):
        def helper(x):
            return x + 1

        @ipp.require("fractions", "xml.dom", helper, factor=10)
        def work(x):
            return fractions.Fraction(helper(x) * factor), xml.dom.XMLNS_NAMESPACE[:4]  # noqa: F821 - brought along

        assert lv.apply_sync(work, 2) == (30, "http")
        assert lv.map_sync(work, [1, 2], chunksize=2)[1] == (30, "http")

    def test_a_requirement_nobody_meets(self, lv, dv):
        @ipp.require("no_such_module")
        def work():
            pass

        with pytest.raises(ipp.ImpossibleDependency, match="'no_such_module' cannot be imported"):
            lv.apply_sync(work)
        with pytest.raises(ipp.CompositeError, match="UnmetDependency"):
            dv.apply_sync(work)

    @pytest.mark.parametrize("chunksize", [1, 3])
    def test_tasks_move_to_an_engine_that_meets_the_condition(self, lv, chunksize):
        @ipp.depend(only_on, 1)
        def work(_):
            return engine_id  # noqa: F821 - the engine's

        assert lv.map_sync(work, range(12), chunksize=chunksize) == [1] * 12
        assert lv.map_sync(work, range(4), chunksize=2, return_exceptions=True) == [1] * 4
        assert lv.apply_sync(ipp.dependent(lambda: engine_id, only_on, 0)) == 0  # noqa: F821

    def test_a_condition_that_refuses_by_raising(self, lv):
        def refuse():
            if engine_id == 0:  # noqa: F821 - the engine's
                raise ipp.UnmetDependency("not here")

        @ipp.depend(refuse)
        def work():
            return engine_id  # noqa: F821

        assert [lv.apply_sync(work) for _ in range(4)] == [1] * 4

    def test_interactive_functions_write_into_the_namespace(self, dv):
        @ipp.interactive
        def keep(value):
            global kept_value
            kept_value = value

        dv.apply_sync(keep, 7)
        assert dv["kept_value"] == [7, 7]


# --- order and time -------------------------------------------------------------------------------------------------


class TestPriority:
    def test_higher_numbers_go_first(self, rc, tmp_path, held):
        view = rc.load_balanced_view(targets=0)
        busy = held(view)
        path = str(tmp_path / "order")
        for priority in (0, 5, -1, 5):
            view.priority = priority
            view.apply_async(note, path, priority)
        assert Path(path).exists() is False
        busy.release()
        assert rc.wait(timeout=PATIENCE)
        assert Path(path).read_text().split() == ["5", "5", "0", "-1"]


class TestTimeLimits:
    def test_a_task_is_interrupted_and_its_engine_lives_on(self, rc, lv):
        lv.time_limit = 0.1
        with pytest.raises(ipp.TaskTimeout, match=r"longer than time_limit=0\.1 s"):
            lv.apply_sync(time.sleep, PATIENCE)
        assert lv.apply_sync(int) == 0
        assert rc.ids == [0, 1]

    def test_retries_apply(self, rc, lv):
        lv.set_flags(time_limit=0.05, retries=1)
        ar = lv.apply_async(time.sleep, PATIENCE)
        with pytest.raises(ipp.TaskTimeout):
            ar.get(PATIENCE)
        tried, ended = rc.story(ar)
        assert "TaskTimeout" in tried
        assert "TaskTimeout" in ended

    def test_a_limit_is_for_one_task(self, lv):
        # The alarm of a task that is over must not ring in the next one.
        lv.time_limit = 0.05
        assert [lv.apply_sync(int) for _ in range(5)] == [0] * 5
        lv.time_limit = None
        assert lv.apply_sync(time.sleep, 0.12) is None

    def test_who_does_not_heed_loses_the_engine(self, fragile):
        view = fragile.load_balanced_view(time_limit=0.1)
        before = fragile.ids
        fragile[:].apply_sync(heedless, 0)  # so that importing it does not count
        with pytest.raises(ipp.EngineError, match="longer than its time_limit and did not heed"):
            view.apply_async(heedless, PATIENCE).get(PATIENCE)
        fragile.wait_for_engines(2, timeout=PATIENCE)
        assert fragile.ids != before
        assert view.apply_sync(int) == 0

    def test_who_holds_the_interpreter_loses_the_engine(self, fragile):
        view = fragile.load_balanced_view(time_limit=0.1)
        with pytest.raises(ipp.EngineError, match="longer than its time_limit and could not be interrupted"):
            view.apply_async(sum, range(10**12)).get(PATIENCE)
        fragile.wait_for_engines(2, timeout=PATIENCE)


# --- failures -------------------------------------------------------------------------------------------------------


class TestRetries:
    def test_a_task_that_always_raises_ends_with_its_last_error(self, rc, lv):
        def fail():
            raise Odd(f"on {engine_id}")  # noqa: F821 - the engine's

        lv.retries = 5
        ar = lv.apply_async(fail)
        with pytest.raises(ipp.RemoteError, match="Odd: on"):
            ar.get(PATIENCE)
        assert len(rc.story(ar)) == 6

    def test_tasks_of_a_killed_engine_run_elsewhere(self, fragile, held):
        view = fragile.load_balanced_view(retries=1)
        victim = held(view)
        pid = fragile.load_balanced_view().apply_async(os.getpid)
        assert pid.get(PATIENCE) != victim.pid
        os.kill(victim.pid, signal.SIGKILL)
        assert int(victim.begun.read_text()) != victim.pid  # begun again
        assert victim.release("done") == "done"

    def test_a_task_without_retries_says_who_died(self, fragile, held):
        victim = held(fragile.load_balanced_view())
        os.kill(victim.pid, signal.SIGKILL)
        with pytest.raises(ipp.EngineError, match=rf"pid {victim.pid} .* killed by SIGKILL.*Pass retries=1"):
            victim.result.get(PATIENCE)

    def test_what_only_waited_there_runs_elsewhere(self, fragile, held):
        view = fragile.load_balanced_view()
        view.map_sync(abs, range(2000))  # known to be short, so that many are queued at each engine
        victim = held(view)
        results = [view.apply_async(abs, -n) for n in range(200)]
        os.kill(victim.pid, signal.SIGKILL)
        assert [ar.get(PATIENCE) for ar in results] == list(range(200))


# --- taking back ----------------------------------------------------------------------------------------------------


class TestCancel:
    def test_what_is_queued_never_runs(self, rc, lv, both, tmp_path):
        path = str(tmp_path / "ran")

        def noted(n):  # a function nobody has run yet: an engine gets one of them at most before it is free
            note(path, n)

        results = [lv.apply_async(noted, n) for n in range(20)]
        assert all(ar.cancel() for ar in results[5:])
        assert cf.wait(results[5:], timeout=PATIENCE).not_done == set()
        rc.queue_status()  # so that the controller has heard of it
        both()
        assert rc.wait(timeout=PATIENCE)
        assert sorted(Path(path).read_text().split()) == sorted(map(str, range(5)))
        with pytest.raises(cf.CancelledError):
            results[7].get()

    def test_what_is_prefetched_never_runs(self, rc, dv, tmp_path, held):
        # Requests to one engine stand in its own queue at once.
        view = rc[0]
        busy = held(view)
        behind = held(view, "behind", queued=True)
        path = str(tmp_path / "ran")
        first, second, third = (view.apply_async(note, path, n) for n in range(3))
        second.cancel()
        while rc.queue_status()[0]["queue"] > 4:  # until the engine has given it up
            pass
        busy.release()
        behind.wait()
        behind.release()
        assert rc.wait([first, third], timeout=PATIENCE)
        assert Path(path).read_text().split() == ["0", "2"]

    def test_dependents_of_a_cancelled_task_end(self, lv, both):
        first = lv.apply_async(int)
        with lv.temp_flags(after=first):
            second = lv.apply_async(int)
        first.cancel()
        with pytest.raises(ipp.ImpossibleDependency):
            second.get(PATIENCE)
        both()

    def test_a_running_task_is_interrupted(self, rc, lv, held):
        busy = held(lv)
        busy.result.abort(interrupt=True)
        with pytest.raises(ipp.TaskAborted, match="interrupted while it ran"):
            busy.result.get(PATIENCE)
        assert len(set(rc[:].apply_sync(os.getpid))) == 2

    def test_an_interrupt_hits_the_task_it_was_meant_for(self, rc, lv):
        # The aborted one may have ended when the interrupt comes; the next one must not be hit.
        for _ in range(300):
            first, second = lv.apply_async(int), lv.apply_async(sum, range(2000))
            rc.abort(first, interrupt=True)
            assert second.get(PATIENCE) == sum(range(2000))

    def test_everything_of_a_view(self, rc, lv, both):
        lv.map_async(abs, range(50))
        lv.abort()
        both()
        assert rc.wait(timeout=PATIENCE)

    def test_a_timeout_leaves_the_result_to_be_asked_for_again(self, lv, held):
        busy = held(lv)
        for _ in range(3):
            with pytest.raises(TimeoutError, match="still awaited"):
                busy.result.get(timeout=0.01)
        assert not busy.result.done()
        assert busy.release("word") == "word"


# --- many clients, much work ----------------------------------------------------------------------------------------


class TestFairness:
    def test_one_task_beside_the_many_of_another_client(self, lv, own_rc):
        stop = threading.Event()

        def flood():
            while not stop.is_set():
                lv.apply_async(int)

        lv.map_sync(abs, range(2000))
        flooder = threading.Thread(target=flood)
        flooder.start()
        try:
            other = own_rc.load_balanced_view()
            for _ in range(5):
                assert other.apply_async(abs, -3).get(PATIENCE) == 3
        finally:
            stop.set()
            flooder.join()
        assert lv.client.wait(timeout=PATIENCE)


def memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class TestBackPressure:
    def test_endless_input_needs_no_endless_memory(self, lv):
        lazy = lv.imap(abs, itertools.count())
        for _ in range(60_000):  # memory comes in large pieces: first let it come
            next(lazy)
        before = memory()
        for n in range(60_000, 190_000):
            assert next(lazy) == n
        lazy.cancel()
        assert memory() - before < 3 << 20  # 130,000 numbers, kept by mistake, would be more

    def test_a_map_reads_its_generator_as_fast_as_engines_work(self, tmp_path):
        arguments = [f"--window={1 << 20}"]
        most = (1 << 20) // 600
        with ipp.Cluster(n=2, profile_dir=str(tmp_path / "profile"), controller_args=arguments) as rc:
            behind = []

            def items():
                for n in range(100_000):
                    if n % 1000 == 0:
                        behind.append(rc.link.outstanding)
                    yield n

            before = memory()
            assert sum(rc.load_balanced_view().map_sync(abs, items())) == sum(range(100_000))
            assert max(behind) <= most
            # Results take what they take (about 130 bytes each); what is under way does not add to it.
            assert memory() - before < 40 << 20

    def test_nothing_is_begun_for_a_client_that_does_not_read(self, tmp_path):
        cluster = ipp.Cluster(
            n=2, profile_dir=str(tmp_path / "profile"), controller_args=["--PeerLimits.unread=1000000"]
        )
        with cluster as rc, cluster.connect_client_sync() as slow:
            slow.wait_for_engines(2)
            for size in (50_000, 500_000):  # by the socket, and in shared memory
                begun = Held(slow[0], tmp_path, f"begun-{size}", queued=False)
                with slow.link._line.lock:  # so it does not read
                    behind = [slow[0].apply_async(bytes, size) for _ in range(10)]
                    much = [
                        slow[1].apply_async(bytes, size) for _ in range(8_000_000 // size)
                    ]  # sockets take two of them
                    slow.link._line.flush()
                    why = {"tasks": behind[-1]._open_ids()}
                    while "its client has not read" not in rc.link.ask("why", why)[0]:
                        pass
                    begun.gate.write_text("")
                    # It runs those of others as if nothing stood before them.
                    assert rc[0].apply_sync(abs, -1) == rc.load_balanced_view(0).apply_sync(abs, -1) == 1
                    assert rc.queue_status()[0]["queue"] == 10
                    assert rc.statistics()["held_back"] == 1
                assert [len(result.get(PATIENCE)) for result in behind + much] == [size] * len(behind + much)
                while rc.statistics()["held_back"]:
                    pass
                assert rc.statistics()["paused"] == 0


# --- schemes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scheme", "hwm"), [("lru", 1), ("twobin", 0)])
def test_other_schemes(tmp_path, scheme, hwm):
    arguments = [f"--scheme={scheme}", f"--hwm={hwm}"]
    with ipp.Cluster(n=2, profile_dir=str(tmp_path / "profile"), controller_args=arguments) as rc:
        assert rc.load_balanced_view().map_sync(abs, range(-300, 0)) == list(range(300, 0, -1))
        assert (rc.statistics()["scheme"], rc.statistics()["hwm"]) == (scheme, hwm)


def test_the_pure_scheme_refuses_what_it_cannot_see_to(tmp_path):
    with ipp.Cluster(n=2, profile_dir=str(tmp_path / "profile"), controller_args=["--scheme=pure"]) as rc:
        view = rc.load_balanced_view()
        assert view.map_sync(abs, range(-300, 0)) == list(range(300, 0, -1))
        done = view.apply_async(int)
        for flags in ({"after": done}, {"follow": [done]}, {"targets": [0]}, {"retries": 1}, {"timeout": 1}):
            with pytest.raises(RuntimeError, match="scheme=pure"):
                view.set_flags(**flags)
        view.set_flags(after=None, follow=None, targets=None, retries=0, timeout=None, label="fine", priority=1)
        assert view.apply_sync(int) == 0


# --- explanations ---------------------------------------------------------------------------------------------------


class TestExplanations:
    def test_each_state_has_its_sentence(self, fragile, held):
        rc, lv = fragile, fragile.load_balanced_view()  # whose controller knows nothing of how long tasks run
        first, second = (held(lv, name) for name in ("one", "two"))
        engine = next(n for n, info in rc.link.engines.items() if info.pid == first.pid)
        queued = lv.apply_async(int)
        with lv.temp_flags(after=first.result):
            waiting = lv.apply_async(int)
        bound = rc.load_balanced_view(targets=engine).apply_async(int)
        direct = rc[engine].apply_async(int)
        assert f"runs on engine {1 - engine} (pid {second.pid} on " in second.result.why()
        assert first.result.why().startswith(f"It runs, or is next, on engine {engine} (pid {first.pid}")
        assert queued.why() == "It is ready to run, number 1 in its client's queue; all 2 engines are busy."
        assert waiting.why().startswith("It waits for 1 unfinished task: …_")
        assert f"(at engine {engine})" in waiting.why()
        assert bound.why().startswith(f"It is ready to run, number 1 in the queue for engine {engine}, which is busy")
        assert f"its targets are engine {engine}" in bound.why()
        assert direct.why().startswith(f"It runs, or is next, on engine {engine}")
        everywhere = rc[:].apply_async(int)
        lines = everywhere.why().splitlines()
        assert lines[0] == "2 of 2 requests are not done."
        assert "It is queued behind 1 other task" in everywhere.why()
        assert rc.queue_status(verbose=True)["unassigned"] == [waiting.msg_id, queued.msg_id, bound.msg_id]
        first.release()
        second.release()
        assert rc.wait(timeout=PATIENCE)
        assert queued.why() == "It is done."
        assert rc.queue_status()["unassigned"] == 0

    def test_stories_and_statistics(self, rc, lv):
        plain = lv.apply_async(int)
        plain.get()
        failed = lv.apply_async(divmod, 1, 0)
        failed.wait()
        assert rc.story(plain) == [f"ended well on engine {plain.engine_id}"]
        assert rc.story(failed.msg_id) == [
            f"ended on engine {failed.engine_id} with ZeroDivisionError: integer division or modulo by zero"
        ]
        statistics = rc.statistics()
        assert statistics["unfinished"] == 0
        assert statistics["submitted"] == statistics["ended"] >= 2

    def test_a_wait_says_what_it_waits_for(self, lv, monkeypatch, capsys, held):
        monkeypatch.setattr("enginery.client.silence.FIRST", 0.05)
        monkeypatch.setenv("ENGINERY_SAY_WAITS", "1")
        busy = held(lv)
        assert not busy.result.wait(0.3)
        assert "for the result of hold (message id " in (said := capsys.readouterr().err)
        assert f"It runs on engine 0 (pid {busy.pid}" in said or f"It runs on engine 1 (pid {busy.pid}" in said
        busy.release()

    def test_a_dead_connection_ends_every_wait(self, fragile, held):
        view = fragile.load_balanced_view()
        held(view)
        lazy = view.imap(time.sleep, itertools.repeat(PATIENCE))
        waits = [
            view.apply_async(time.sleep, PATIENCE).get,
            lambda: fragile.wait_for_engines(9),
            lambda: next(lazy),
            fragile.wait,
        ]
        with cf.ThreadPoolExecutor(len(waits)) as pool:
            ends = [pool.submit(wait) for wait in waits]
            os.kill(fragile.link.info.pid, signal.SIGKILL)
            errors = [end.exception(PATIENCE) for end in ends]
        # All that was outstanding has ended by it, so that waiting for everything is over, too.
        assert [type(error) for error in errors[:3]] == [ipp.ConnectionLost, ipp.ConnectionLost, ipp.ConnectionLost]
        with pytest.raises(ipp.ConnectionLost):
            view.apply_async(int)


# --- as an executor -------------------------------------------------------------------------------------------------


def cube(n):
    return n**3


def census(pool, limit):
    """A program written for ProcessPoolExecutor."""
    futures = {pool.submit(cube, n): n for n in range(limit)}
    total = 0
    for future in cf.as_completed(futures, timeout=PATIENCE):
        assert future.result() == futures[future] ** 3
        total += future.result()
    assert list(pool.map(cube, range(limit), chunksize=7)) == [n**3 for n in range(limit)]
    try:
        pool.submit(int, "x").result()
    except ValueError as error:
        return total, str(error)


class TestExecutor:
    def test_a_program_for_process_pools_runs_unchanged(self, rc):
        with cf.ProcessPoolExecutor(1) as pool:
            expected = census(pool, 30)
        with rc.executor() as pool:
            assert census(pool, 30) == expected

    def test_errors_of_the_users_own_classes(self, rc):
        def fail():
            raise Odd("so it is", 3)

        with rc.executor() as pool, pytest.raises(Odd) as caught:
            pool.submit(fail).result(PATIENCE)
        assert caught.value.args == ("so it is", 3)
        assert isinstance(caught.value.__cause__, ipp.RemoteError)

    def test_shutdown_cancels_what_waits_and_finishes_what_runs(self, rc, lv, held):
        busy = [held(lv, f"busy{n}") for n in range(2)]
        pool = rc.executor()
        futures = [pool.submit(int) for _ in range(10)]
        results = pool.map(abs, range(5))
        pool.shutdown(wait=False, cancel_futures=True)
        # Before an engine is free to begin one of them.
        assert all(future.cancelled() for future in cf.wait(futures, timeout=PATIENCE).done)
        with pytest.raises(cf.CancelledError):
            list(results)
        for task in busy:
            task.release()

    def test_map_times_out(self, rc):
        with rc.executor() as pool, pytest.raises(TimeoutError):
            list(pool.map(time.sleep, [0, 0.5], timeout=0.1))
