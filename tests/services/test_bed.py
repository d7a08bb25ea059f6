"""The bed itself: its hosts are separate, faults are what they say, and nothing is left of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from services.bed import Bed
from services.daemons import wait_until


def test_each_host_has_its_own_name_network_processes_and_disk(bed):
    for name in bed.names:
        assert bed.run(name, ["hostname"]).stdout.strip() == name
        addresses = bed.run(name, ["ip", "-br", "-4", "addr", "show", "dev", "eth0"]).stdout
        assert f"{bed.address(name)}/24" in addresses
        assert len(bed.run(name, ["sh", "-c", "ls -d /proc/[0-9]*"]).stdout.split()) < 15
        bed.run(name, ["sh", "-c", f"echo {name} > {bed.local}/who"])
    assert [bed.run(name, ["cat", f"{bed.local}/who"]).stdout.strip() for name in bed.names] == bed.names
    assert not (bed.local / "who").exists()


def test_hosts_reach_one_another_by_name_until_a_cable_is_cut(bed, ssh):
    assert bed.run("h1", ["ssh", "h2", "hostname"]).stdout == "h2\n"
    bed.cut("h2")
    try:
        with pytest.raises(subprocess.CalledProcessError):
            bed.run("h1", ["ssh", "-o", "ConnectTimeout=1", "h2", "hostname"])
    finally:
        bed.join("h2")
    assert bed.run("h1", ["ssh", "h2", "hostname"]).stdout == "h2\n"
    assert (
        subprocess.run([*ssh.command, bed.address("h1"), "hostname"], capture_output=True, check=True).stdout == b"h1\n"
    )


def test_killing_what_was_started_kills_it_on_the_host(bed):
    sleep = bed.popen("h1", ["sleep", "4711"])
    bed.send(sleep, 15)
    assert sleep.wait(10) != 0
    sleep = bed.popen("h1", ["sleep", "4712"])
    try:
        wait_until(lambda: "sleep 4712" in bed.processes("h1").values(), "the program on its host")
    finally:
        sleep.kill()
        sleep.wait(10)
    wait_until(lambda: "sleep 4712" not in bed.processes("h1").values(), "its end")


def test_two_beds_do_not_meet_and_power_comes_and_goes(bed):
    with Bed(1) as other:
        assert other.address("head") != bed.address("head")
        process = other.popen("h1", ["sleep", "60"])
        other.poweroff("h1")
        assert process.wait(10) != 0
        other.boot("h1")
        assert other.run("h1", ["hostname"]).stdout == "h1\n"
        assert other.run("h1", ["ls", str(other.local)]).stdout == "run\n"
        bridge, folder = other.namespace("head").partition("-")[0], other.folder
    assert not folder.exists()
    assert not list(Path("/run/netns").glob(f"{bridge}-*"))
    assert not list(Path("/sys/class/net").glob(f"{bridge}*"))
    assert bed.run("h1", ["hostname"]).stdout == "h1\n"
