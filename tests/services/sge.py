"""A Grid Engine of our own on this host: qmaster and one execution host, in a private folder, on free ports."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from services import daemons

PROGRAMS = Path("/usr/lib/gridengine")
SHARED = Path("/usr/share/gridengine")
BOOTSTRAP = """\
Version: 6.2
admin_user              none
default_domain          none
ignore_fqdn             true
spooling_method         berkeleydb
spooling_lib            libspoolb
spooling_params         {root}/spool/db
binary_path             /usr/sbin
qmaster_spool_dir       {root}/spool/qmaster
security_mode           none
listener_threads        2
worker_threads          2
scheduler_threads       1
"""
#: Settings of the default configuration that differ here: root may submit, and accounts are written at once.
DIFFERENT = {
    "min_uid": "0",
    "min_gid": "0",
    "mailer": "/bin/true",
    "load_report_time": "00:00:03",
    "reporting_params": "accounting=true reporting=false flush_time=00:00:01 joblog=false sharelog=00:00:00 "
    "accounting_flush_time=00:00:01",
}
HOST = """\
hostname localhost
load_scaling NONE
complex_values NONE
user_lists NONE
xuser_lists NONE
projects NONE
xprojects NONE
usage_scaling NONE
report_variables NONE
"""
GROUP = "group_name @allhosts\nhostlist localhost\n"
QUEUE = {
    "qname": "all.q",
    "hostlist": "@allhosts",
    "seq_no": "0",
    "load_thresholds": "NONE",
    "suspend_thresholds": "NONE",
    "nsuspend": "1",
    "suspend_interval": "00:05:00",
    "priority": "0",
    "min_cpu_interval": "00:05:00",
    "processors": "UNDEFINED",
    "qtype": "BATCH INTERACTIVE",
    "ckpt_list": "NONE",
    "pe_list": "NONE",
    "rerun": "FALSE",
    "slots": "8",
    "tmpdir": "/tmp",
    "shell": "/bin/sh",
    "prolog": "NONE",
    "epilog": "NONE",
    "shell_start_mode": "unix_behavior",
    "starter_method": "NONE",
    "suspend_method": "NONE",
    "resume_method": "NONE",
    "terminate_method": "NONE",
    "notify": "00:00:60",
    "owner_list": "NONE",
    "user_lists": "NONE",
    "xuser_lists": "NONE",
    "subordinate_list": "NONE",
    "complex_values": "NONE",
    "projects": "NONE",
    "xprojects": "NONE",
    "calendar": "NONE",
    "initial_state": "default",
    **{
        f"{kind}_{limit}": "INFINITY"
        for kind in "sh"
        for limit in ("rt", "cpu", "fsize", "data", "stack", "core", "rss", "vmem")
    },
}
#: How soon the scheduler looks at new and ended jobs.
SCHEDULE = {"schedule_interval": "0:0:1", "flush_submit_sec": "1", "flush_finish_sec": "1", "schedd_job_info": "true"}


@contextlib.contextmanager
def sge(folder: Path) -> Iterator[dict[str, str]]:
    """Start it; the value is what its commands need in their environment."""
    daemons.need("sge_qmaster", "sge_execd", "qsub", "qconf")
    root = folder / "sge"
    qmaster, execd = daemons.free_ports(2)
    environment = {
        "SGE_ROOT": str(root),
        "SGE_CELL": "default",
        "SGE_QMASTER_PORT": str(qmaster),
        "SGE_EXECD_PORT": str(execd),
        "SGE_CLUSTER_NAME": "enginery",
    }
    make_root(root, environment)
    with contextlib.ExitStack() as ends:
        daemons.run(["sge_qmaster"], environment)
        ends.callback(daemons.end_daemon, root / "spool" / "qmaster" / "qmaster.pid")
        daemons.wait_until(lambda: answers(environment), "an answer of Grid Engine's master")
        configure(folder, environment)
        daemons.run(["sge_execd"], environment)
        ends.callback(stop_execution, root, environment)
        daemons.wait_until(lambda: has_slots(environment), "a queue of Grid Engine with slots")
        yield environment


def make_root(root: Path, environment: dict[str, str]) -> None:
    """Make the folder in which a Grid Engine lives, without its interactive installer."""
    for name in ("bin", "lib", "utilbin", "default/common", "spool/qmaster/job_scripts", "spool/execd", "spool/db"):
        (root / name).mkdir(parents=True)
    (root / "util").symlink_to(SHARED / "util")
    for name in ("bin", "lib", "utilbin"):
        (root / name / "lx-amd64").symlink_to(PROGRAMS)
    common = root / "default" / "common"
    (common / "bootstrap").write_text(BOOTSTRAP.format(root=root))
    (common / "act_qmaster").write_text("localhost\n")
    # The host's own name leads to loopback here, and it insists on one name for one address.
    (common / "host_aliases").write_text(f"localhost {socket.gethostname()}\n")
    lines = (SHARED / "default-configuration").read_text().splitlines()
    different = {**DIFFERENT, "execd_spool_dir": f"{root}/spool/execd"}
    settings = [line for line in lines if line.partition(" ")[0] not in different]
    (root / "configuration").write_text(
        "\n".join([*settings, *(f"{key} {value}" for key, value in different.items()), ""])
    )
    daemons.run([PROGRAMS / "spoolinit", "berkeleydb", "libspoolb", root / "spool" / "db", "init"], environment)
    resources = SHARED / "util" / "resources"
    for what, given in (
        ("configuration", root / "configuration"),
        ("complexes", resources / "centry"),
        ("usersets", resources / "usersets"),
        ("managers", "root"),
    ):
        daemons.run([PROGRAMS / "spooldefaults", what, given], environment)


def answers(environment: dict[str, str]) -> bool:
    """Whether the master listens: its command returns a little before it does."""
    try:
        daemons.run(["qconf", "-sm"], environment)
    except AssertionError:
        return False
    return True


def configure(folder: Path, environment: dict[str, str]) -> None:
    """Tell the master of this host, of a queue, and to be quick."""

    def given(name: str, text: str) -> Path:
        path = folder / name
        path.write_text(text)
        return path

    daemons.run(["qconf", "-Ae", given("host", HOST)], environment)
    daemons.run(["qconf", "-as", "localhost"], environment)
    daemons.run(["qconf", "-Ahgrp", given("group", GROUP)], environment)
    daemons.run(
        ["qconf", "-Aq", given("queue", "".join(f"{key} {value}\n" for key, value in QUEUE.items()))], environment
    )
    lines = daemons.run(["qconf", "-ssconf"], environment).splitlines()
    kept = [line for line in lines if line.partition(" ")[0] not in SCHEDULE]
    text = "\n".join([*kept, *(f"{key} {value}" for key, value in SCHEDULE.items()), ""])
    daemons.run(["qconf", "-Msconf", given("schedule", text)], environment)


def has_slots(environment: dict[str, str]) -> bool:
    """Whether the queue's host has reported, so that jobs can start."""
    line = daemons.run(["qstat", "-f"], environment).splitlines()
    states = [each.split() for each in line if each.startswith("all.q")]
    return any(len(fields) == 5 for fields in states)  # a sixth one says what is wrong


def stop_execution(root: Path, environment: dict[str, str]) -> None:
    """End the execution host with its jobs."""
    with contextlib.suppress(AssertionError):
        daemons.run(["qconf", "-kej", "localhost"], environment)
    for pid_file in (root / "spool" / "execd").glob("*/execd.pid"):
        daemons.end_daemon(pid_file)


def queue(environment: dict[str, str]) -> list[str]:
    """Jobs that wait or run."""
    return daemons.run(["qstat"], environment).splitlines()[2:]


if __name__ == "__main__":
    # To look at it by hand: python sge.py FOLDER, then set what it prints in another terminal.
    import sys

    with sge(Path(sys.argv[1])) as found:
        print("\n".join(f"export {key}={value}" for key, value in found.items()), flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            os.read(0, 1)
