"""LoadBalancedView on real engines: single tasks, maps in either order, lazy maps over endless input."""

from __future__ import annotations

import itertools
import os
import threading
import time

import numpy as np
import pytest

import enginery as ipp

PATIENCE = 30
pytestmark = pytest.mark.slow


def square(x):
    return x * x


class TestTasks:
    def test_one_after_another(self, rc, lv):
        pids = set(rc[:].apply_sync(os.getpid))
        assert lv.apply_sync(os.getpid) in pids
        assert [lv.apply_sync(square, n) for n in range(20)] == [n * n for n in range(20)]

    def test_many_at_once_in_the_right_order(self, lv):
        results = [lv.apply_async(square, n) for n in range(3000)]
        assert [ar.get() for ar in results] == [n * n for n in range(3000)]

    def test_both_engines_work(self, rc, lv):
        results = [lv.apply_async(lambda: (time.sleep(0.01), engine_id)[1]) for _ in range(20)]  # noqa: F821
        assert {ar.get() for ar in results} == {0, 1}

    def test_only_some_engines(self, rc):
        lv = rc.load_balanced_view(1)
        assert {lv.apply_sync(lambda: engine_id) for _ in range(5)} == {1}  # noqa: F821 - the engine's
        assert set(lv.map_sync(lambda _: engine_id, range(50))) == {1}  # noqa: F821 - the engine's

    def test_large_arguments_and_results(self, lv):
        array = np.arange(300_000.0)
        assert np.array_equal(lv.apply_sync(lambda a: a * 2, array), array * 2)
        text = "x" * 3_000_000
        assert lv.apply_sync(str.upper, text) == text.upper()
        assert lv.apply_sync(bytes, 5_000_000) == bytes(5_000_000)

    def test_hundreds_of_buffers_in_one_task(self, lv):
        arrays = [np.full(1000, n) for n in range(900)]
        assert lv.apply_sync(lambda *a: [int(each[0]) for each in a], *arrays) == list(range(900))

    def test_more_outstanding_than_the_window_allows(self, lv):
        # Payloads of 64 MiB and more in all: submitting waits for room, and goes on.
        block = "y" * 1_000_000
        results = [lv.apply_async(len, block) for _ in range(90)]
        assert {ar.get(PATIENCE) for ar in results} == {1_000_000}

    def test_tasks_submitted_while_no_result_is_kept(self, rc, lv):
        for _ in range(5000):
            lv.apply_async(int)
        assert rc.wait(timeout=PATIENCE)
        assert not rc.outstanding


class TestMaps:
    @pytest.mark.parametrize("chunksize", [1, 3, 50])
    def test_values_in_the_order_of_the_input(self, lv, chunksize):
        assert lv.map_sync(square, range(100), chunksize=chunksize) == [n * n for n in range(100)]
        assert list(lv.map_async(square, range(100), chunksize=chunksize)) == [n * n for n in range(100)]

    @pytest.mark.parametrize("chunksize", [1, 3])
    def test_as_they_come(self, lv, chunksize):
        result = lv.map_async(
            lambda n: (time.sleep(0.05 if n == 0 else 0), n)[1], range(30), ordered=False, chunksize=chunksize
        )
        came = list(result)
        assert sorted(came) == list(range(30))
        assert came[0] != 0
        assert result.get() == list(range(30))

    def test_iterators_and_generators(self, lv):
        assert lv.map_sync(square, iter(range(10))) == [n * n for n in range(10)]
        assert lv.map_sync(square, (n for n in range(10)), chunksize=4) == [n * n for n in range(10)]
        assert lv.map_sync(pow, itertools.count(), [2, 2, 2]) == [0, 1, 4]
        assert lv.map_sync(square, []) == []
        assert lv.map_sync(square, iter([])) == []

    def test_a_generator_that_fails_leaves_nothing_behind(self, rc, lv):
        def items():
            yield from range(3)
            raise ValueError("no more")

        with pytest.raises(ValueError, match="no more"):
            lv.map(square, items())
        assert rc.wait(timeout=PATIENCE)

    def test_errors_fail_their_chunk_or_are_items(self, lv):
        def inverse(x):
            return 1 / x

        with pytest.raises(ipp.RemoteError, match="ZeroDivisionError"):
            lv.map_sync(inverse, [1, 0, 2])
        for chunksize in (1, 2):
            first, second, third = lv.map_sync(inverse, [1, 0, 2], chunksize=chunksize, return_exceptions=True)
            assert (first, third) == (1.0, 0.5)
            assert isinstance(second, ipp.RemoteError)
        iterator = iter(lv.map_async(inverse, [1, 0, 2]))
        assert next(iterator) == 1.0
        with pytest.raises(ipp.RemoteError):
            next(iterator)

    def test_iterating_begins_before_the_end(self, rc, lv, tmp_path):
        gate = tmp_path / "gate"

        def wait(path, n):
            while n and not os.path.exists(path):
                time.sleep(0.005)
            return n

        result = lv.map_async(wait, [str(gate)] * 2, [0, 1])
        iterator = iter(result)
        assert next(iterator) == 0
        assert not result.done()
        gate.touch()
        assert next(iterator) == 1

    def test_many_items(self, lv):
        assert sum(lv.map_sync(square, range(20_000))) == sum(n * n for n in range(20_000))
        assert lv.map_sync(square, range(20_000), chunksize=100)[-1] == 19_999**2

    def test_large_items(self, lv):
        arrays = [np.full(20_000, n) for n in range(40)]
        assert lv.map_sync(lambda a: int(a.max()), arrays) == list(range(40))
        assert lv.map_sync(lambda a: int(a.max()), arrays, chunksize=7) == list(range(40))

    def test_parallel_functions(self, lv):
        @lv.parallel(block=True, chunksize=3)
        def both(values):
            return [value + 1 for value in values]

        assert both(list(range(10))) == list(range(1, 11))


class TestLazyMaps:
    @pytest.mark.parametrize("ordered", [True, False])
    def test_of_finite_input(self, lv, ordered):
        got = list(lv.imap(square, range(500), ordered=ordered))
        assert (got if ordered else sorted(got)) == [n * n for n in range(500)]

    def test_of_endless_input_reads_only_what_it_needs(self, lv):
        read = itertools.count()
        lazy = lv.imap(square, read, max_outstanding=4)
        assert [next(lazy) for _ in range(20)] == [n * n for n in range(20)]
        lazy.cancel()
        assert next(read) < 20 + 4 + 10_000
        with pytest.raises(StopIteration):
            next(lazy)

    def test_several_inputs(self, lv):
        assert list(lv.imap(pow, itertools.count(), [3, 3, 3])) == [0, 1, 8]

    def test_of_nothing(self, lv):
        assert list(lv.imap(square, [])) == []

    def test_errors_of_items_and_of_the_input(self, lv):
        lazy = lv.imap(lambda n: 1 / n, [1, 0, 2])
        assert next(lazy) == 1.0
        with pytest.raises(ipp.RemoteError):
            next(lazy)
        assert next(lazy) == 0.5

        def items():
            yield 1
            raise ValueError("no more")

        lazy = lv.imap(square, items())
        assert next(lazy) == 1
        with pytest.raises(ValueError, match="no more"):
            next(lazy)
        assert [type(v).__name__ for v in lv.imap(lambda n: 1 / n, [0, 1], return_exceptions=True)] == [
            "RemoteError",
            "float",
        ]

    def test_dropped_in_the_middle(self, rc, lv):
        threads = threading.active_count()
        lazy = lv.imap(square, itertools.count())
        assert next(lazy) == 0
        del lazy
        deadline = time.monotonic() + PATIENCE
        while threading.active_count() > threads:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert rc.wait(timeout=PATIENCE)

    def test_a_timeout(self, lv):
        lazy = lv.imap(time.sleep, [0.3])
        with pytest.raises(TimeoutError):
            lazy.next(timeout=0.01)
        assert lazy.next(timeout=PATIENCE) is None
