"""A Slurm of our own on this host: munged, slurmctld and two slurmd, in a private folder, on free ports."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

from services import daemons

CONFIG = """\
ClusterName=enginery
SlurmctldHost={host}(127.0.0.1)
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
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=128 RealMemory=4000 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=128 RealMemory=4000 State=UNKNOWN
PartitionName=debug Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""
NODES = ("n1", "n2")


@contextlib.contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Start it; the value is what its commands need in their environment."""
    daemons.need("slurmctld", "slurmd", "munged", "sbatch")
    for name in ("munge", "run", "log", "state", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir(parents=True, mode=0o755)
    folder.chmod(0o755)
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(host=socket.gethostname(), ports=daemons.free_ports(3), folder=folder))
    environment = {"SLURM_CONF": str(config)}
    with contextlib.ExitStack() as ends:
        start_munge(folder / "munge")
        ends.callback(daemons.end_daemon, folder / "munge" / "pid")
        daemons.run(["slurmctld", "-c"], environment)
        ends.callback(daemons.end_daemon, folder / "run" / "slurmctld.pid")
        for node in NODES:
            daemons.run(["slurmd", "-N", node], environment)
            ends.callback(daemons.end_daemon, folder / "run" / f"slurmd-{node}.pid")
        daemons.wait_until(lambda: idle_nodes(environment) == len(NODES), "idle nodes of Slurm")
        yield environment


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


def idle_nodes(environment: dict[str, str]) -> int:
    """How many nodes wait for work."""
    return daemons.run(["sinfo", "-h", "-N", "-o", "%t"], environment).split().count("idle")


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
