"""Results as Futures of the standard library, in threads and in event loops."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import threading
import time

import pytest

import enginery as ipp

PATIENCE = 30
pytestmark = pytest.mark.slow


def square(x):
    return x * x


class TestConcurrent:
    def test_wait(self, lv):
        results = [lv.apply_async(square, n) for n in range(50)]
        done, not_done = cf.wait(results, timeout=PATIENCE)
        assert (len(done), len(not_done)) == (50, 0)

    def test_wait_for_the_first(self, lv):
        slow, quick = lv.apply_async(time.sleep, 0.3), lv.apply_async(square, 2)
        done, _ = cf.wait([slow, quick], timeout=PATIENCE, return_when=cf.FIRST_COMPLETED)
        assert quick in done
        done, _ = cf.wait([slow, lv.apply_async(lambda: 1 / 0)], timeout=PATIENCE, return_when=cf.FIRST_EXCEPTION)
        assert any(result.exception() for result in done)

    def test_as_completed(self, lv):
        results = [lv.apply_async(square, n) for n in range(50)]
        assert sorted(ar.result() for ar in cf.as_completed(results, timeout=PATIENCE)) == [n * n for n in range(50)]

    def test_together_with_other_futures(self, lv):
        with cf.ThreadPoolExecutor(1) as pool:
            mixed = [lv.apply_async(square, 3), pool.submit(square, 4)]
            assert sorted(each.result() for each in cf.as_completed(mixed, timeout=PATIENCE)) == [9, 16]

    def test_as_an_executor(self, rc):
        with rc.executor() as pool:
            assert pool.submit(square, 5).result(PATIENCE) == 25
            assert list(pool.map(square, range(10), timeout=PATIENCE)) == [n * n for n in range(10)]
        with pytest.raises(RuntimeError):
            pool.submit(square, 1)
        assert rc[:].apply_sync(int) == [0, 0]

    def test_exceptions(self, lv):
        result = lv.apply_async(lambda: {}["key"])
        assert isinstance(result.exception(PATIENCE), ipp.RemoteError)
        with pytest.raises(ipp.RemoteError, match="KeyError: 'key'"):
            result.result()


class TestCallbacks:
    def test_each_is_called_once_with_its_result(self, lv):
        called, all_called = [], threading.Event()
        results = [lv.apply_async(square, n) for n in range(500)]

        def note(result):
            called.append(result)
            if len(called) == 500:
                all_called.set()

        for result in results:
            result.add_done_callback(note)
        assert all_called.wait(PATIENCE)
        assert sorted(map(id, called)) == sorted(map(id, results))

    @pytest.mark.parametrize("waiting", [True, False], ids=["somebody waits", "nobody waits"])
    def test_one_may_wait_for_another_result(self, lv, waiting):
        first, second = lv.apply_async(time.sleep, 0.05), lv.apply_async(time.sleep, 0.1)
        third = lv.apply_async(square, 3)
        got, over = [], threading.Event()

        def look(_):
            got.append(second.get(PATIENCE))
            got.append(lv.apply_sync(square, 4))
            got.append(cf.wait([third], PATIENCE).not_done)
            got.append(list(lv.imap(square, range(3))))
            over.set()

        first.add_done_callback(look)
        if waiting:
            first.get(PATIENCE)
        assert over.wait(PATIENCE)
        assert got == [None, 16, set(), [0, 1, 4]]

    def test_one_that_submits_much(self, lv):
        over = threading.Event()
        got = []

        def submit(_):
            got.append(lv.apply_sync(len, "x" * 8_000_000))
            over.set()

        lv.apply_async(int).add_done_callback(submit)
        assert over.wait(PATIENCE)
        assert got == [8_000_000]

    @pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
    def test_one_that_raises_harms_nobody(self, lv, error, caplog):
        over = threading.Event()

        def fail(_):
            raise error("mine")

        first = lv.apply_async(time.sleep, 0.01)
        first.add_done_callback(fail)
        second = lv.apply_async(time.sleep, 0.02)
        second.add_done_callback(lambda _: over.set())
        assert over.wait(PATIENCE)
        assert "mine" in caplog.text
        assert lv.apply_sync(square, 2) == 4

    def test_closing_lets_them_finish(self, cluster):
        called = []
        with cluster.connect_client_sync() as client:
            result = client.load_balanced_view().apply_async(int)
            result.add_done_callback(lambda _: (time.sleep(0.05), called.append(1)))
            result.get(PATIENCE)
        assert called == [1]

    def test_one_may_close_the_client(self, cluster):
        client = cluster.connect_client_sync()
        over = threading.Event()

        def close(_):
            client.close()
            over.set()

        client[0].apply_async(time.sleep, 0.02).add_done_callback(close)
        assert over.wait(PATIENCE)
        assert client.link.closed


class TestEventLoops:
    def test_await(self, lv, dv):
        async def main():
            assert await lv.apply_async(square, 6) == 36
            assert await dv.apply_async(square, 2) == [4, 4]
            assert await lv.map_async(square, range(20)) == [n * n for n in range(20)]
            with pytest.raises(ipp.RemoteError, match="ZeroDivisionError"):
                await lv.apply_async(lambda: 1 / 0)
            done = lv.apply_async(square, 7)
            done.get()
            assert await done == 49

        asyncio.run(main())

    def test_many_at_once(self, lv):
        async def main():
            results = [lv.apply_async(square, n) for n in range(200)]
            return await asyncio.gather(*results)

        assert asyncio.run(main()) == [n * n for n in range(200)]

    def test_the_loop_goes_on_meanwhile(self, lv):
        async def main():
            result = asyncio.ensure_future(lv.apply_async(time.sleep, 0.1))
            turns = 0
            while not result.done():
                await asyncio.sleep(0)
                turns += 1
            return turns

        assert asyncio.run(main()) > 10

    def test_async_for(self, lv, dv):
        async def main():
            ordered = [x async for x in lv.map_async(square, range(50), chunksize=3)]
            come = [x async for x in lv.map_async(square, range(50), ordered=False)]
            each = [x async for x in dv.apply_async(lambda: engine_id)]  # noqa: F821 - the engine's
            joined = ipp.AsyncResult.join(lv.apply_async(time.sleep, 0.02), lv.apply_async(square, 3))
            return ordered, sorted(come), each, [x async for x in joined]

        squares = [n * n for n in range(50)]
        assert asyncio.run(main()) == (squares, squares, [0, 1], [None, 9])

    def test_async_for_begins_before_the_end(self, lv, tmp_path):
        gate = tmp_path / "gate"

        def wait(path, n):
            import os

            while n and not os.path.exists(path):
                time.sleep(0.005)
            return n

        async def main():
            async for value in lv.map_async(wait, [str(gate)] * 2, [0, 1]):
                gate.touch()
                yield value

        async def collect():
            return [value async for value in main()]

        assert asyncio.run(collect()) == [0, 1]

    def test_a_timeout_cancels(self, rc):
        async def main():
            busy = rc[0].apply_async(time.sleep, 0.2)
            queued = rc[0].apply_async(square, 1)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(queued, 0.02)
            assert queued.cancelled()
            assert await busy is None

        asyncio.run(main())

    def test_cancelled_elsewhere(self, rc):
        async def main():
            busy = rc[0].apply_async(time.sleep, 0.1)
            queued = rc[0].apply_async(square, 1)
            asyncio.get_running_loop().call_later(0.01, queued.cancel)
            with pytest.raises(asyncio.CancelledError):
                await queued
            await busy

        asyncio.run(main())

    def test_a_loop_that_ends_first_harms_nobody(self, lv):
        result = lv.apply_async(time.sleep, 0.1)
        mapped = lv.map_async(time.sleep, [0.05] * 4)

        async def main():
            task = asyncio.ensure_future(_await(result))
            other = asyncio.ensure_future(_first(mapped))
            await asyncio.sleep(0.01)
            del task, other

        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False
        loop.close()
        assert mapped.get(PATIENCE) == [None] * 4
        assert lv.apply_sync(square, 2) == 4

    def test_as_the_standard_library_wraps_it(self, lv):
        async def main():
            return await asyncio.wrap_future(lv.apply_async(square, 8))

        assert asyncio.run(main()) == 64


async def _await(result):
    return await result


async def _first(result):
    async for _ in result:
        pass
