"""Results in an event loop: awaited, iterated, cancelled."""

from __future__ import annotations

import asyncio

import pytest

pytestmark = pytest.mark.slow


def endless(path):
    """Says through a named pipe that it has begun, and in the namespace that it was stopped."""
    import time

    import __main__

    try:
        open(path + ".begun", "w").close()
        while True:
            time.sleep(0.01)
    finally:
        __main__.was_stopped = True


async def begun(path):
    """Wait until ``endless`` has begun."""
    await asyncio.to_thread(lambda: open(path + ".begun").close())


@pytest.fixture
def path(tmp_path):
    import os

    os.mkfifo(tmp_path / "x.begun")
    return str(tmp_path / "x")


def test_results_are_awaited(dv, lv):
    async def main():
        both, one = dv.apply_async(abs, -1), lv.apply_async(abs, -2)
        return await both, await one, await asyncio.gather(*(_value(lv.apply_async(abs, -n)) for n in range(5)))

    assert asyncio.run(main()) == ([1, 1], 2, [0, 1, 2, 3, 4])


async def _value(result):
    return await result


def test_maps_are_iterated(lv):
    async def main():
        ordered = [value async for value in lv.map_async(abs, range(-5, 0))]
        free = [value async for value in lv.map_async(abs, range(-5, 0), ordered=False, chunksize=2)]
        return ordered, sorted(free)

    assert asyncio.run(main()) == ([5, 4, 3, 2, 1], [1, 2, 3, 4, 5])


def test_errors_are_raised(dv):
    async def main():
        await dv.apply_async(int, "x")

    with pytest.raises(Exception, match="invalid literal"):
        asyncio.run(main())


def test_cancelling_a_task_stops_what_runs_remotely(rc, path):
    async def main():
        task = asyncio.create_task(_value(rc[0].apply_async(endless, path)))
        await begun(path)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # The engine is free again, and says why.
        return await asyncio.wait_for(rc[0].pull("was_stopped", block=False), 30)

    assert asyncio.run(main()) is True


def test_a_task_group_that_fails_stops_the_others(rc, path):
    async def fail():
        await begun(path)
        raise ValueError("one of us")

    async def main():
        async with asyncio.TaskGroup() as group:
            group.create_task(_value(rc[0].apply_async(endless, path)))
            group.create_task(fail())

    with pytest.raises(ExceptionGroup):
        asyncio.run(main())
    assert rc[0].pull("was_stopped", block=True) is True


def test_leaving_an_iteration_by_cancellation_stops_the_map(rc, path):
    async def collect():
        return [value async for value in rc.load_balanced_view(0).map_async(endless, [path])]

    async def main():
        task = asyncio.create_task(collect())
        await begun(path)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert rc[0].pull("was_stopped", block=True) is True


def test_engines_are_waited_for(rc):
    async def main():
        await rc.wait_for_engines(2, block=False)
        await rc.wait_for_engines(2)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(rc.wait_for_engines(3, block=False), 0.05)

    asyncio.run(main())


def test_blocking_calls_work_inside_a_running_loop(rc, dv, lv):
    async def main():
        return dv.apply_sync(abs, -1), lv.map_sync(abs, [-2]), rc[0].pull("engine_id", block=True)

    assert asyncio.run(main()) == ([1, 1], [2], 0)


def test_output_streams_while_a_loop_waits(dv, capsys):
    async def main():
        result = dv.apply_async(print, "spoken")
        with result.stream_output():
            await result

    asyncio.run(main())
    assert "spoken" in capsys.readouterr().out
