"""Futures for what this process waits for: awaited, cancelled."""

from __future__ import annotations

import asyncio
import threading

import pytest

from enginery.client.promise import Promise, kept, promised


def test_a_promise_has_the_value_of_its_work():
    assert promised(lambda is_unwanted: 5, lambda: None, "test").result(timeout=10) == 5
    failed = promised(lambda is_unwanted: 1 / 0, lambda: None, "test")
    with pytest.raises(ZeroDivisionError):
        failed.result(timeout=10)


def test_a_promise_can_be_awaited():
    async def wait():
        return await promised(lambda is_unwanted: 5, lambda: None, "test")

    assert asyncio.run(wait()) == 5


def test_who_no_longer_waits_ends_the_work():
    woken, ended = threading.Event(), threading.Event()

    def work(is_unwanted):
        woken.wait()
        assert is_unwanted()
        ended.set()

    async def give_up():
        promise = promised(work, woken.set, "test")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(promise, 0.01)
        return promise

    assert asyncio.run(give_up()).cancelled()
    assert ended.wait(10)


def test_what_has_been_waited_for_can_be_awaited_as_well(client, capsys):
    assert kept() is None

    async def wait():
        promise = client.wait_for_engines(2)
        promise._ipython_display_()
        return await promise

    assert asyncio.run(wait()) is None
    assert client.wait_for_engines(2) is None
    assert capsys.readouterr().out == ""
    Promise()._ipython_display_()
    assert "pending" in capsys.readouterr().out
