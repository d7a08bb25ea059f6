"""Views as executors: what the standard library documents for concurrent.futures holds."""

from __future__ import annotations

import concurrent.futures as cf
import gc
import itertools
import threading

import pytest

from enginery.errors import RemoteError, SerializationError


@pytest.fixture
def executor(lview):
    with lview.executor as executor:
        yield executor


def readers():
    return [thread for thread in threading.enumerate() if thread.name == "enginery-imap"]


@pytest.fixture(autouse=True)
def no_reader_left():
    yield
    if readers():  # of what only the collector finds; to ask it each time would take most of these tests' time
        gc.collect()
    for thread in readers():
        thread.join(10)
    assert not readers()


class Odd(ValueError):
    pass


def refuse(n):
    raise Odd(f"{n} is odd", n)


def test_submit(executor, client):
    assert isinstance(executor, cf.Executor)
    assert executor._max_workers == 2
    future = executor.submit(pow, 2, 3)
    assert isinstance(future, cf.Future)
    assert future.result() == 8
    assert executor.submit(int, "11", base=2).result(timeout=10) == 3
    assert client.ids == [0, 1]


def test_a_view_keeps_its_executor_until_it_is_shut_down(lview):
    executor = lview.executor
    assert lview.executor is executor
    assert lview.with_flags(retries=1).executor is not executor
    executor.shutdown()
    assert lview.executor is not executor


def test_the_context_manager_waits(lview):
    with lview.executor as executor:
        late = executor.submit(pow, 2, 4)
    assert late.done()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(abs, 1)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.map(abs, [1])


def test_errors_are_those_that_were_raised(executor):
    future = executor.submit(refuse, 3)
    with pytest.raises(Odd, match="3 is odd") as caught:
        future.result()
    assert caught.value.args == ("3 is odd", 3)
    assert isinstance(caught.value.__cause__, RemoteError)
    assert "refuse" in caught.value.__cause__.traceback
    assert isinstance(future.exception(), Odd)
    with pytest.raises(ZeroDivisionError):
        executor.submit(divmod, 1, 0).result()


def test_errors_that_cannot_be_sent_are_told_in_words(executor):
    def fail():
        error = ValueError("held a lock")
        error.lock = threading.Lock()
        raise error

    with pytest.raises(RemoteError, match="held a lock"):
        executor.submit(fail).result()


def test_other_results_of_the_view_are_as_ever(lview):
    with pytest.raises(RemoteError, match="3 is odd"):
        lview.apply_sync(refuse, 3)


def test_arguments_that_cannot_be_sent_fail_the_future(executor):
    future = executor.submit(print, threading.Lock())
    assert isinstance(future.exception(), SerializationError)
    with pytest.raises(TypeError, match="lock"):
        future.result()


def test_wait_and_as_completed(executor, link):
    futures = [executor.submit(pow, 2, n) for n in range(5)]
    threading.Thread(target=link.run).start()
    assert {future.result() for future in cf.as_completed(futures, timeout=10)} == {1, 2, 4, 8, 16}
    done, pending = cf.wait(futures, timeout=10)
    assert (len(done), len(pending)) == (5, 0)


def test_callbacks(executor, link):
    link.held = True
    called = []
    future = executor.submit(abs, -1)
    future.add_done_callback(called.append)
    link.run()
    assert called == [future]


def test_cancel(executor, link):
    link.held = True
    future = executor.submit(abs, -1)
    assert future.cancel()
    assert future.cancelled()
    assert cf.wait([future], timeout=10).not_done == set()
    with pytest.raises(cf.CancelledError):
        future.result()


def test_map(executor):
    assert list(executor.map(abs, range(-3, 0))) == [3, 2, 1]
    assert list(executor.map(pow, [2, 3], [3, 2, 1])) == [8, 9]
    assert list(executor.map(abs)) == []
    assert list(executor.map(abs, [])) == []


@pytest.mark.parametrize("chunksize", [1, 3, 100])
def test_map_in_chunks(executor, link, chunksize):
    assert list(executor.map(abs, range(-10, 0), chunksize=chunksize)) == list(range(10, 0, -1))
    assert len(link.submitted) == -(-10 // chunksize)


def test_map_wants_a_chunksize(executor):
    with pytest.raises(ValueError, match="chunksize must be >= 1"):
        executor.map(abs, [1], chunksize=0)


def test_map_over_endless_input(executor):
    assert list(itertools.islice(executor.map(abs, itertools.count(), timeout=60), 3)) == [0, 1, 2]


def test_map_raises_in_the_place_of_the_item(executor):
    results = executor.map(int, ["1", "x", "3"])
    assert next(results) == 1
    with pytest.raises(ValueError, match="invalid literal"):
        next(results)
    assert list(results) == []


def test_map_times_out(executor, link):
    link.held = True
    results = executor.map(abs, [1, 2], timeout=0.01)
    with pytest.raises(TimeoutError):
        next(results)
    link.held = False


def test_results_of_a_map_outlive_the_executor(lview):
    with lview.executor as executor:
        results = executor.map(abs, iter(range(-200, 0)))
    assert list(results) == list(range(200, 0, -1))


def test_shutdown_cancels_what_has_not_begun(lview, link):
    link.held = True
    executor = lview.executor
    futures = [executor.submit(abs, -n) for n in range(3)]
    link.run(1)
    executor.shutdown(wait=False, cancel_futures=True)
    assert futures[0].result() == 0
    assert [future.cancelled() for future in futures] == [False, True, True]
    assert cf.wait(futures, timeout=10).not_done == set()


def test_shutdown_does_not_cancel_what_runs(lview, link):
    link.held = True
    executor = lview.executor
    future = executor.submit(abs, -7)
    # The link is told to take it back, but an engine has begun: its result comes.
    entry = link.queue.popleft()
    executor.shutdown(wait=False, cancel_futures=True)
    assert not future.done()
    link._run(*entry)
    assert future.result() == 7


def test_shutdown_cancels_maps(lview, link):
    link.held = True
    executor = lview.executor
    results = executor.map(abs, itertools.count())
    with link.changed:
        assert link.changed.wait_for(lambda: link.waiting, 10)
    executor.shutdown(cancel_futures=True)
    with pytest.raises(cf.CancelledError):
        next(results)


def test_shutdown_twice(lview):
    executor = lview.executor
    executor.shutdown()
    executor.shutdown()
    assert "shut down" in repr(executor)


def test_a_direct_view_as_executor(client):
    with client[0].executor as executor:
        assert executor.submit(abs, -1).result() == 1
        assert list(executor.map(abs, [-1, -2])) == [1, 2]
