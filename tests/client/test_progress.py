"""Progress bars: when they appear, and what they count."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from enginery.client import progress as progress_module
from enginery.client.progress import Progress, are_wanted


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: clock.now)
    return clock


def test_a_bar_appears_when_it_takes_long(clock, capsys):
    done = [0]
    with Progress("work", lambda: 10, lambda: done[0], after=2.0) as progress:
        assert progress.next_look() == 2.0
        clock.now += 1.5
        progress.update()
        assert progress.next_look() == 0.5
        assert capsys.readouterr().err == ""
        clock.now += 1
        done[0] = 4
        progress.update()
        assert "4/10" in capsys.readouterr().err
        assert progress.next_look() == progress_module.INTERVAL
        progress.say("why it takes long")
        done[0] = 10
    err = capsys.readouterr().err
    assert "why it takes long" in err
    assert "10/10" in err


def test_what_is_over_soon_has_none(clock, capsys):
    with Progress("work", lambda: 1, lambda: 1, after=2.0) as progress:
        progress.say("just this")
    assert capsys.readouterr().err == "just this\n"


def test_never(clock, capsys):
    with Progress("work", lambda: 1, lambda: 0, after=-1) as progress:
        assert progress.next_look() is None
        clock.now += 1000
        progress.update()
    assert capsys.readouterr().err == ""


def test_totals_may_grow(clock, capsys):
    total = [2]
    with Progress("work", lambda: total[0], lambda: 2, after=0) as progress:
        total[0] = 5
        progress.update()
    assert "2/5" in capsys.readouterr().err


def test_nobody_sees_bars_in_a_script(monkeypatch):
    assert not are_wanted()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=object))
    assert are_wanted()
    monkeypatch.setenv("IPP_NONINTERACTIVE", "1")
    assert not are_wanted()


def test_maps_count_items(client, lview, link, capsys):
    result = lview.map_async(abs, range(10), chunksize=4)
    assert result.wait_interactive(widget=False)
    assert "10/10" in capsys.readouterr().err
    results = [lview.map_async(abs, range(6), chunksize=3), lview.apply_async(abs, 1)]
    assert client.wait_interactive(results)
    assert "7/7" in capsys.readouterr().err


def test_lazy_maps_count_items(lview, capsys):
    assert list(lview.imap(abs, range(5)).with_progress(widget=False)) == [0, 1, 2, 3, 4]
    assert "5/5" in capsys.readouterr().err
    assert list(lview.imap(abs, iter(range(3))).with_progress(widget=False)) == [0, 1, 2]
    assert "3tasks" in capsys.readouterr().err


def test_pushes_count_bytes(dview, capsys):
    result = dview.push({"x": bytes(1_000_000)}, block=False)
    assert result.wait_interactive(widget=False)
    assert "2.00M/2.00M" in capsys.readouterr().err
    result = dview.scatter("x", bytes(1_000_000), block=False)
    result.wait_interactive(widget=False)
    assert "1.00M/1.00M" in capsys.readouterr().err
