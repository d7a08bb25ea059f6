from __future__ import annotations

import pytest

from enginery.engine.deaths import MemoryWitness, amount, describe, signal_name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"code": 0}, "left in good order"),
        ({"code": 3}, "ended with exit code 3 (its log has the reason, unless user code ended the process itself)"),
        ({"code": 137}, "ended with exit code 137 (which often stands for SIGKILL)"),
        ({"code": 255}, "ended with exit code 255 (its log has the reason, unless user code ended the process itself)"),
        ({"code": 0, "cause": "its owner is gone"}, "ended with exit code 0 (its owner is gone)"),
        ({"code": -9, "peak": 7_200_000_000}, "killed by SIGKILL (possibly out of memory; last seen at 7.2 GB)"),
        (
            {"code": -9, "peak": 7_200_000_000, "out_of_memory": True},
            "killed by SIGKILL (out of memory: the kernel killed it; last seen at 7.2 GB)",
        ),
        (
            {"code": -9, "peak": 52_000_000, "out_of_memory": False},
            "killed by SIGKILL (not by the kernel: memory had not run out; last seen at 52 MB)",
        ),
        ({"code": -9, "peak": 10**9, "cause": "restart on request"}, "killed by SIGKILL (restart on request)"),
        ({"code": -11, "peak": 10**8}, "killed by SIGSEGV (a crash in native code; last seen at 100 MB)"),
        ({"code": -15}, "killed by SIGTERM"),
        ({"code": -63, "peak": 2000}, "killed by signal 63 (last seen at 2 kB)"),
    ],
)
def test_deaths_in_words(arguments, words):
    assert describe(**arguments) == words


def test_names_and_amounts():
    assert (signal_name(9), signal_name(200)) == ("SIGKILL", "signal 200")
    assert (amount(999), amount(10**6), amount(1_960_000_000)) == ("1 kB", "1 MB", "2.0 GB")


@pytest.fixture(params=["first generation", "second generation"])
def machine(request, tmp_path):
    """A root folder with the kernel's counters, and a function that sets them."""
    if request.param == "first generation":
        group, counter = "9:name=systemd:/\n4:cpu,memory:/box", "sys/fs/cgroup/memory/box/memory.oom_control"
    else:
        group, counter = "0::/box", "sys/fs/cgroup/box/memory.events"

    def write(name, text):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def count(ours, everywhere):
        write(counter, f"under_oom 0\noom_kill {ours}\n")
        write("proc/vmstat", f"nr_free_pages 12\noom_kill {everywhere}\n")

    write("proc/self/cgroup", group + "\n")
    count(1, 5)
    return tmp_path, count


def test_what_the_kernel_killed_in_our_group_is_ours(machine):
    root, count = machine
    witness = MemoryWitness(root)
    assert witness.out_of_memory() is False
    count(2, 6)
    assert witness.out_of_memory() is True
    # Told once: the next death has its own reason.
    assert witness.out_of_memory() is False


def test_what_the_kernel_killed_elsewhere_may_have_been_ours(machine):
    root, count = machine
    witness = MemoryWitness(root)
    count(1, 6)
    assert witness.out_of_memory() is None


def test_without_counters_nothing_is_claimed(tmp_path):
    assert MemoryWitness(tmp_path).out_of_memory() is None


def test_the_counters_of_this_machine_can_be_read():
    assert MemoryWitness().out_of_memory() in {True, False, None}
