"""A Slurm of our own: munged, slurmctld and two slurmd, on this host or on those of a bed, in a private folder."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

from services import daemons
from services.bed import Bed

CONFIG = """\
ClusterName=enginery
SlurmctldHost={head}
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
MpiDefault=none
ReturnToService=2
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmdSpoolDir={folder}/spool-%n
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
JobAcctGatherType=jobacct_gather/none
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=200000
InactiveLimit=0
KillWait=5
MinJobAge=300
SlurmctldTimeout=30
SlurmdTimeout=60
SlurmdParameters=config_overrides
{nodes}
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""
#: What each node has; more than the machine, so that hundreds of engines find a place.
ROOM = "CPUs=128 RealMemory=4000 State=UNKNOWN"


@contextlib.contextmanager
def slurm(folder: Path, bed: Bed | None = None) -> Iterator[dict[str, str]]:
    """Start it, its nodes on the hosts of ``bed`` if there is one; the value is what commands need in their environment."""
    daemons.need("slurmctld", "slurmd", "munged", "sbatch")
    nodes = [name for name in bed.names if name != "head"] if bed else ["n1", "n2"]
    for name in ("munge", "run", "log", "state", *(f"spool-{node}" for node in nodes)):
        (folder / name).mkdir(parents=True, mode=0o755)
    folder.chmod(0o755)
    config = folder / "slurm.conf"
    head, lines, ports = on_hosts(bed, nodes) if bed else on_this_host(nodes)
    config.write_text(CONFIG.format(head=head, nodes="\n".join(lines), ports=ports, folder=folder))
    environment = {"SLURM_CONF": str(config)}

    with contextlib.ExitStack() as ends:

        def start(host: str, program: str, name: str, *arguments: str) -> None:
            pid_file = folder / "run" / f"{name}.pid"
            if bed is None:
                daemons.run([program, *arguments], environment)
                ends.callback(daemons.end_daemon, pid_file)
            else:
                daemons.run(bed.command(host, [program, *arguments]), environment)
                # Its process id is the host's own.
                ends.callback(bed.run, host, ["sh", "-c", f"kill $(cat {pid_file})"], check=False)

        start_munge(folder / "munge")
        ends.callback(daemons.end_daemon, folder / "munge" / "pid")
        start("head", "slurmctld", "slurmctld", "-c")
        for node in nodes:
            start(node, "slurmd", f"slurmd-{node}", *([] if bed else ["-N", node]))
        daemons.wait_until(lambda: idle_nodes(environment, bed) == len(nodes), "idle nodes of Slurm")
        yield environment


def on_this_host(nodes: list[str]) -> tuple[str, list[str], list[int]]:
    """Where the controller and the nodes are, and ports: all here."""
    host = socket.gethostname()
    ports = daemons.free_ports(1 + len(nodes))
    lines = [
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} {ROOM}"
        for node, port in zip(nodes, ports[1:], strict=True)
    ]
    return f"{host}(127.0.0.1)", lines, ports


def on_hosts(bed: Bed, nodes: list[str]) -> tuple[str, list[str], list[int]]:
    """The same on hosts of their own."""
    lines = [f"NodeName={node} NodeAddr={bed.address(node)} {ROOM}" for node in nodes]
    return f"head({bed.address('head')})", lines, [16817]


def start_munge(folder: Path) -> None:
    """Start the daemon that vouches for users, with a key and a socket of our own."""
    key = folder / "key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    files = {"key-file": key, "socket": folder / "socket", "pid-file": folder / "pid", "log-file": folder / "log"}
    # Forced: it finds fault with the modes of /tmp, above our folder.
    daemons.run(
        ["munged", "--force", f"--seed-file={folder / 'seed'}", *(f"--{name}={path}" for name, path in files.items())]
    )


def idle_nodes(environment: dict[str, str], bed: Bed | None) -> int:
    """How many nodes wait for work."""
    command = ["sinfo", "-h", "-N", "-o", "%t"]
    return daemons.run(bed.command("head", command) if bed else command, environment).split().count("idle")


def queue(environment: dict[str, str]) -> list[str]:
    """Jobs that wait or run."""
    return daemons.run(["squeue", "-h"], environment).splitlines()


if __name__ == "__main__":
    # To look at it by hand: python slurm.py FOLDER, then set SLURM_CONF in another terminal.
    import sys

    with slurm(Path(sys.argv[1])) as found:
        print(found, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            os.read(0, 1)
