from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

import pytest

from enginery.net.signals import SignalWatch, to_signal


def test_signals_go_by_name_and_number():
    assert to_signal("SIGINT") is to_signal(int(signal.SIGINT)) is signal.SIGINT
    assert to_signal("SIGNONSENSE") is None
    assert to_signal(-5) is None


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent to this process")
def test_signals_are_taken_over_and_given_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    watch = SignalWatch()
    try:
        assert watch.take() == []
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert select.select([watch], [], [], 20)[0]
        taken = watch.take()
        while len(taken) < 2 and select.select([watch], [], [], 20)[0]:
            taken += watch.take()
        assert set(taken) == {signal.SIGTERM, signal.SIGINT}
        assert "SIGTERM" in repr(watch)
    finally:
        watch.close()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGHUP")
def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        watch = SignalWatch()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        watch.close()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_program_that_is_about_to_be_gone_is_not_ended_twice():
    code = """
import os, signal
from enginery.net.signals import SignalWatch, end_once
end_once()
watch = SignalWatch()
os.kill(os.getpid(), signal.SIGTERM)
print(watch.take() == [signal.SIGTERM])
watch.close()
os.kill(os.getpid(), signal.SIGTERM)
print("still there")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split("\n")[:2]) == (0, ["True", "still there"])
    early = (
        "import os, signal\nfrom enginery.net.signals import end_once\nend_once()\nos.kill(os.getpid(), signal.SIGTERM)"
    )
    assert subprocess.run([sys.executable, "-c", early], check=False).returncode == -signal.SIGTERM
