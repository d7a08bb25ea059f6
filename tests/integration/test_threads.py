"""Threads that share a client, clients that share engines: nothing is mixed up, nobody waits for ever."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from enginery.errors import ConnectionLost

PATIENCE = 30
pytestmark = pytest.mark.slow


def tag(*args):
    return args


def test_threads_submit_and_wait_at_once(lv):
    def work(number):
        return all(lv.apply_sync(tag, number, n) == (number, n) for n in range(100))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8), timeout=PATIENCE))


def test_threads_submit_and_others_wait(rc, lv):
    results = [[] for _ in range(4)]

    def submit(number):
        for n in range(1000):
            results[number].append(lv.apply_async(tag, number, n))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(submit, range(4), timeout=PATIENCE))
        for number in range(4):
            got = pool.submit(lambda number=number: [ar.get(PATIENCE) for ar in results[number]])
            assert got.result(PATIENCE) == [(number, n) for n in range(1000)]
    assert rc.link.outstanding == 0
    assert rc.link._requests.heavy == 0


def test_threads_with_every_kind_of_request(rc, dv, lv):
    def direct(n):
        dv.push({f"name{n}": n}, block=True)
        return dv[f"name{n}"] == [n, n]

    def mapped(n):
        return lv.map_sync(tag, range(n, n + 30), chunksize=7) == [(x,) for x in range(n, n + 30)]

    def asked(n):
        return set(rc.queue_status()) == {0, 1, "unassigned"}

    def lazy(n):
        return list(lv.imap(tag, range(n))) == [(x,) for x in range(n)]

    def heavy(n):
        return lv.apply_sync(len, "z" * 200_000) == 200_000

    def failing(n):
        return lv.apply_async(lambda: 1 / 0).exception(PATIENCE).ename == "ZeroDivisionError"

    kinds = (direct, mapped, asked, lazy, heavy, failing)
    with ThreadPoolExecutor(6) as pool:
        outcomes = [pool.submit(kind, n) for n in range(15) for kind in kinds]
        assert all(outcome.result(PATIENCE) for outcome in outcomes)
    assert rc.link._requests.heavy == 0


def test_many_threads_wait_for_one_result(rc):
    result = rc[0].apply_async(lambda: time.sleep(0.1) or "here")
    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(lambda _: result.get(PATIENCE), range(10))) == ["here"] * 10
        array = rc[0].apply_async(list, range(1000))
        assert len({id(value) for value in pool.map(lambda _: array.get(PATIENCE), range(10))}) == 1


def test_several_clients_at_once(cluster):
    def work(number):
        with cluster.connect_client_sync() as client:
            view = client.load_balanced_view()
            got = [ar.get(PATIENCE) for ar in [view.apply_async(tag, number, n) for n in range(200)]]
            return got == [(number, n) for n in range(200)]

    with ThreadPoolExecutor(5) as pool:
        assert all(pool.map(work, range(10), timeout=PATIENCE))


def test_one_client_s_long_queue_does_not_keep_another_waiting(rc, own_rc):
    queued = [rc.load_balanced_view().apply_async(time.sleep, 0.05) for _ in range(400)]
    assert own_rc.load_balanced_view().apply_sync(tag, 1) == (1,)
    assert not queued[-1].done()
    rc.abort(queued, block=True)


def test_functions_of_several_clients_do_not_meet(cluster):
    def ask(number):
        def mine():
            return number

        with cluster.connect_client_sync() as client:
            return client[:].apply_sync(mine) == [number, number]

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(12)))


def test_closing_ends_the_waits_of_all_threads(cluster):
    client = cluster.connect_client_sync()
    result = client[0].apply_async(time.sleep, 0.5)
    outcomes = []

    def wait():
        try:
            result.get(PATIENCE)
        except BaseException as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=wait) for _ in range(5)]
    for thread in threads:
        thread.start()
    while not client.link._line._driver.locked():
        time.sleep(0.001)
    client.close()
    for thread in threads:
        thread.join(PATIENCE)
    assert outcomes == [ConnectionLost] * 5
    for use in (lambda: client[0].apply_async(int), client.queue_status, result.get, lambda: client.send_signal(0)):
        with pytest.raises(ConnectionLost, match="closed"):
            use()


def test_clients_leave_no_thread_and_no_descriptor(cluster):
    import gc
    import os

    def count():
        gc.collect()
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    with cluster.connect_client_sync() as client:
        client[0].apply_sync(int)
    before = count()
    for _ in range(5):
        with cluster.connect_client_sync() as client:
            client[:].apply_sync(int)
            client[0].apply_async(int).add_done_callback(tag)
        del client
    assert count() <= before
