"""The standard library's Future contract, as AsyncResult honours it."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import gc
import logging
import threading
import weakref

import pytest

from enginery.client.handle import CANCELLED, FINISHED
from enginery.wire.messages import Result
from enginery.wire.serialize import pack


def deliver(link, count=-1):
    link.run(count)


@pytest.fixture
def held(link):
    link.held = True
    return link


def test_a_result_is_a_future_and_costs_no_lock(lview, held):
    ar = lview.apply_async(pow, 2, 3)
    assert isinstance(ar, cf.Future)
    assert "_condition" not in ar.__dict__
    assert not ar.done()
    assert not ar.cancelled()
    held.run()
    assert ar.done()
    assert ar.result() == 8
    assert "_condition" not in ar.__dict__
    assert ar.exception() is None


def test_wait_returns_what_is_done_and_what_is_not(lview, held):
    results = [lview.apply_async(abs, -n) for n in range(3)]
    held.run(1)
    done, not_done = cf.wait(results, return_when=cf.FIRST_COMPLETED)
    assert (len(done), len(not_done)) == (1, 2)
    done, not_done = cf.wait(results, timeout=0.01)
    assert (len(done), len(not_done)) == (1, 2)
    timer = threading.Timer(0.01, held.run)
    timer.start()
    done, not_done = cf.wait(results, timeout=10)
    timer.join()
    assert len(done) == 3
    assert not not_done


def test_wait_for_the_first_exception(lview, held):
    good, bad, never = lview.apply_async(abs, 1), lview.apply_async(int, "x"), lview.apply_async(abs, 2)
    timer = threading.Timer(0.01, held.run, [2])
    timer.start()
    done, not_done = cf.wait([good, bad, never], timeout=10, return_when=cf.FIRST_EXCEPTION)
    timer.join()
    assert done == {good, bad}
    assert not_done == {never}
    assert cf.wait([good, bad, never], return_when=cf.FIRST_EXCEPTION).not_done == {never}


def test_as_completed_yields_in_the_order_of_arrival(lview, held):
    results = [lview.apply_async(abs, -n) for n in range(4)]
    done = cf.as_completed(results, timeout=10)
    held.run(1, last=True)
    assert next(done).result() == 3
    held.run(1)
    assert next(done).result() == 0
    held.run()
    assert sorted(ar.result() for ar in done) == [1, 2]


def test_waiting_threads_see_a_consistent_state_while_results_arrive(lview, held):
    # `wait` reads the state of each future several times: see rule 1 of the room.
    for _ in range(20):
        results = [lview.apply_async(abs, n) for n in range(10)]
        runner = threading.Thread(target=held.run)
        runner.start()
        assert cf.wait(results, timeout=10).not_done == set()
        runner.join()


def test_cancel_takes_back_and_releases_everybody(lview, held):
    ar = lview.apply_async(abs, -1)
    called = []
    ar.add_done_callback(called.append)
    waiting = threading.Thread(target=cf.wait, args=([ar],), daemon=True)
    waiting.start()
    assert ar.cancel()
    assert ar.cancel()
    waiting.join(10)
    assert not waiting.is_alive()
    assert called == [ar]
    assert ar.cancelled()
    assert ar.done()
    assert held.aborted == [ar._first]
    for ask in (ar.result, ar.exception, ar.get):
        with pytest.raises(cf.CancelledError):
            ask()
    assert list(cf.as_completed([ar])) == [ar]


def test_a_reply_that_comes_after_cancel_is_dropped(lview, held):
    ar = lview.apply_async(abs, -1)
    entry = held.queue.popleft()
    assert ar.cancel()
    held.deliver(entry[3], Result(ar._first, 0, pack(5)[0]), 0)
    assert ar.cancelled()
    assert ar._state == CANCELLED
    with pytest.raises(cf.CancelledError):
        ar.get()


def test_what_is_done_cannot_be_cancelled(lview):
    ar = lview.apply_async(abs, -1)
    assert ar.get() == 1
    assert not ar.cancel()
    assert not ar.cancelled()
    assert ar._state == FINISHED


def test_callbacks_run_once_each_and_their_errors_are_logged(lview, held, caplog):
    ar = lview.apply_async(abs, -1)
    seen = []
    ar.add_done_callback(lambda done: seen.append(done.result()))
    ar.add_done_callback(lambda _: 1 / 0)
    ar.add_done_callback(lambda _: seen.append("after"))
    with caplog.at_level(logging.ERROR):
        held.run()
    assert seen == [1, "after"]
    assert "ZeroDivisionError" in caplog.text
    ar.add_done_callback(lambda _: seen.append("at once"))
    assert seen[-1] == "at once"
    ar.settled()
    assert len(seen) == 3


def test_results_cannot_be_set_by_hand(lview):
    ar = lview.apply_async(abs, -1)
    with pytest.raises(cf.InvalidStateError, match="engines"):
        ar.set_result(1)
    with pytest.raises(cf.InvalidStateError):
        ar.set_exception(ValueError())
    assert ar.set_running_or_notify_cancel()


def test_timeouts_say_what_is_awaited(lview, dview, held):
    ar = lview.apply_async(pow, 2, 3)
    with pytest.raises(TimeoutError, match=r"Waited 0 s; the result of pow still awaited .* s0_0"):
        ar.result(0)
    with pytest.raises(TimeoutError):
        ar.exception(timeout=0.001)
    both = dview.apply_async(pow, 2, 3)
    held.queue.popleft()
    held.run(1)
    with pytest.raises(TimeoutError, match=r"1 of 2 results of pow still awaited from engines \[1\]"):
        both.get(0)
    held.run()
    assert both.get(0) == [8, 8]


def test_a_result_can_be_awaited(lview, held):
    async def main():
        good, bad = lview.apply_async(abs, -3), lview.apply_async(int, "x")
        asyncio.get_running_loop().call_later(0.01, held.run)
        assert await good == 3
        assert await asyncio.wrap_future(good) == 3
        with pytest.raises(Exception, match="invalid literal"):
            await bad
        assert await asyncio.gather(lview.map_async(abs, []), good) == [[], 3]

    asyncio.run(main())


def test_cancelling_an_awaiting_task_cancels_the_result(lview, held):
    async def main():
        ar = lview.apply_async(abs, -3)
        task = asyncio.ensure_future(asyncio.wrap_future(ar))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return ar

    assert asyncio.run(main()).cancelled()


def test_snapshot_as_newer_pythons_ask_for_it(lview, held):
    ar, bad = lview.apply_async(abs, -3), lview.apply_async(int, "x")
    assert ar._get_snapshot() == (False, False, None, None)
    held.run()
    assert ar._get_snapshot() == (True, False, 3, None)
    done, cancelled, value, error = bad._get_snapshot()
    assert (done, cancelled, value) == (True, False, None)
    assert error is bad.exception()


def test_an_error_leaves_no_circle_behind(lview):
    ar = lview.apply_async(int, "x")
    with pytest.raises(Exception, match="invalid literal"):
        ar.get()
    gone = weakref.ref(ar)
    gc.disable()
    try:
        del ar
        assert gone() is None
    finally:
        gc.enable()
