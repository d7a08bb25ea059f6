"""Ctrl-C in a client process: it comes through at once, harms nothing, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from waiting import PATIENCE, is_alive, wait_until

pytestmark = pytest.mark.slow

HEAD = """
import json, sys, time, os, signal, threading
import enginery as ipp

signal.signal(signal.SIGINT, signal.default_int_handler)  # not what a shell's background has set

def say(*what):
    print(*what, flush=True)

def interrupted(work):
    try:
        work()
    except KeyboardInterrupt:
        return True
    return False
"""

CONNECTED = (
    HEAD
    + """
rc = ipp.Client(json.loads(sys.argv[1]))
dv, lv = rc[:], rc.load_balanced_view()
"""
)


@pytest.fixture
def client(sturdy):
    """Start a script that is connected to the cluster; it says "ready" when it wants Ctrl-C."""
    started = []

    def start(text):
        info = json.dumps(sturdy.rc.link.info.to_dict())
        process = subprocess.Popen(
            [sys.executable, "-c", CONNECTED + text, info],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
    sturdy.assert_works()


def interrupt_when_ready(process, after=0.05):
    while (line := process.stdout.readline()) != "ready\n":
        assert line, process.stderr.read()
    time.sleep(after)
    process.send_signal(signal.SIGINT)


@pytest.mark.parametrize(
    "work",
    [
        "rc[0].apply_async(time.sleep, 1.0).get",
        "lambda: lv.map_sync(time.sleep, [0.5] * 4)",
        "lambda: dv.apply_sync(time.sleep, 1.0)",
        "lambda: list(lv.imap(time.sleep, [0.5] * 4))",
        "lambda: rc.wait([rc[0].apply_async(time.sleep, 1.0)])",
        "lambda: rc.wait_for_engines(5, timeout=20, interactive=False)",
        "lambda: list(lv.map_async(time.sleep, [0.5] * 4))",
        "lambda: rc[0].apply_async(time.sleep, 1.0).wait_interactive()",
        "lambda: lv.apply_sync(len, 'x' * 500_000_000)",
    ],
)
def test_it_ends_a_wait_and_the_client_is_as_good_as_before(client, work):
    process = client(f"""
def work():
    say("ready")
    ({work})()
began = time.monotonic()
assert interrupted(work)
say("interrupted")
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
rc.abort(interrupt=True)
assert dv.apply_async(abs, -2).get(20) == [2, 2]
assert lv.map_async(abs, range(-9, 0)).get(20) == list(range(9, 0, -1))
say("usable")
""")
    interrupt_when_ready(process)
    out, err = process.communicate(timeout=PATIENCE)
    assert "interrupted\nusable" in out, err


def test_anywhere_in_a_busy_loop(client):
    """Many, at moments that nobody chose: in submitting, sending, reading, waiting."""
    process = client("""
say("ready")
hits, results, over, wrong = 0, [], time.monotonic() + 12, []
while hits < 25 and time.monotonic() < over:
    try:
        for n in range(100_000):
            value = lv.apply_sync(abs, -n)
            if value != n:
                wrong.append((value, n))
            if n % 10 == 0:
                results = [lv.apply_async(abs, -k) for k in range(30)]
    except KeyboardInterrupt:
        hits += 1
        say("hit")
try:
    assert not wrong, wrong
    assert hits == 25
    assert [ar.get(20) for ar in results] == list(range(len(results)))
    assert dv.apply_async(abs, -2).get(20) == [2, 2]
    say("usable")
except KeyboardInterrupt:
    say("one too many")
""")
    assert process.stdout.readline() == "ready\n"
    for n in range(25):
        time.sleep(0.01 + 0.003 * (n % 7))
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "hit\n", process.stderr.read()
    # Not communicate(), which knows nothing of what has been read together with the last hit.
    said = process.stdout.read()
    assert said == "usable\n", (process.wait(PATIENCE), process.stderr.read())


def test_while_another_thread_waits_too(client):
    process = client("""
result = rc[0].apply_async(lambda: time.sleep(0.5) or "late")
got = []
thread = threading.Thread(target=lambda: got.append(result.get()))
thread.start()
def work():
    say("ready")
    result.get()
assert interrupted(work)
thread.join()
assert got == ["late"]
assert result.get() == "late"
say("usable")
""")
    interrupt_when_ready(process)
    out, err = process.communicate(timeout=PATIENCE)
    assert out == "usable\n", (process.returncode, err)


def test_one_that_nobody_catches_ends_the_script_quietly(client):
    process = client("""
say("ready")
rc[0].apply_async(time.sleep, 0.5).get()
""")
    interrupt_when_ready(process)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode in {-signal.SIGINT, 130, 1}
    assert err.count("Traceback (most recent call last)") == 1
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert "Exception ignored" not in err


WITH_CLUSTER = (
    HEAD
    + """
from enginery.cluster.cluster import Cluster
with Cluster(n=2, profile_dir=sys.argv[1]) as rc:
    say(rc.link._requests.welcome.runtime, *[url[6:] for url in rc.link.info.urls if url.startswith("ipc")])
    say("ready")
    {work}
"""
)


@pytest.mark.parametrize(
    "work", ["rc[:].apply_sync(time.sleep, 60)", "time.sleep(60)", "while True: rc[0].apply_sync(int)"]
)
@pytest.mark.parametrize("times", [1, 2])
def test_in_the_middle_of_a_cluster_nothing_is_left(tmp_path, work, times):
    profile = tmp_path / "profile"
    with subprocess.Popen(
        [sys.executable, "-c", WITH_CLUSTER.replace("{work}", work), str(profile)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        shared, url = process.stdout.readline().split()
        places = [Path(shared), Path(url).parent]
        family = psutil.Process(process.pid).children(recursive=True)
        interrupt_when_ready(process)
        for _ in range(times - 1):  # while it is busy leaving
            time.sleep(0.01)
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
    wait_until(lambda: not [p for p in family if is_alive(p)], lambda: family)
    wait_until(lambda: not any(place.exists() for place in places), lambda: places)
    wait_until(lambda: not [path for path in profile.rglob("*") if path.is_file()])


@pytest.mark.parametrize("after", [0.15, 0.25, 0.35, 0.5])
def test_while_a_cluster_starts(tmp_path, after):
    profile = tmp_path / "profile"
    mark = f"mark-{os.getpid()}-{after}"
    with subprocess.Popen(
        [sys.executable, "-c", WITH_CLUSTER.replace("{work}", "time.sleep(60)"), str(profile)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "ENGINERY_MARK": mark},
    ) as process:
        time.sleep(after)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)

    def family():
        found = psutil.process_iter(["environ", "status"])
        return [p for p in found if (p.info["environ"] or {}).get("ENGINERY_MARK") == mark]

    wait_until(lambda: not family(), family)
    wait_until(lambda: not [path for path in profile.rglob("*") if path.is_file()])
