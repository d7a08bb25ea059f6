"""Blocking methods and their awaitable twins."""

from __future__ import annotations

import asyncio
import threading

import pytest

from enginery.cluster.twins import awaitable, finish


class Thing:
    def do_sync(self, a, b=2):
        """What it does."""
        if a is None:
            raise ValueError("no a")
        return a + b, threading.current_thread()

    do = awaitable(do_sync)


def test_the_twin_does_the_same_in_another_thread():
    (total, thread) = asyncio.run(Thing().do(1, b=5))
    assert total == 6
    assert thread is not threading.current_thread()
    assert Thing.do.__name__ == "do"
    assert Thing.do.__doc__ == "What it does."


def test_the_twin_raises_the_same():
    with pytest.raises(ValueError, match="no a"):
        asyncio.run(Thing().do(None))


def test_the_blocking_form_works_where_a_loop_runs():
    async def main():
        return Thing().do_sync(1)[0], finish(answer())

    async def answer():
        await asyncio.sleep(0)
        return 42

    assert asyncio.run(main()) == (3, 42)


def test_finish_passes_values_and_errors_on():
    async def fail():
        raise KeyError("x")

    assert finish(3) == 3
    with pytest.raises(KeyError):
        finish(fail())
