"""An HTCondor of our own: a pool of this host alone, in a private folder, whose daemons take us for an ordinary user.

HTCondor runs no jobs of root. So its daemons live in a user namespace, where root has another name: what they make
belongs to root all the same, and jobs may read what root's tests write.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from services import daemons

#: Where install_condor.sh puts it.
INSTALLED = Path(__file__).parents[2] / ".services" / "condor"
#: Who root is to it: the number of some user of the system, who has nothing to do with it.
USER = 34
CONFIG = """\
RELEASE_DIR = {installed}
LOCAL_DIR = {folder}
LOCAL_CONFIG_FILE =
LOCAL_CONFIG_DIR =
RUN = $(LOCAL_DIR)/run
LOG = $(LOCAL_DIR)/log
LOCK = $(LOCAL_DIR)/lock
SPOOL = $(LOCAL_DIR)/spool
EXECUTE = $(LOCAL_DIR)/execute
BIN = $(RELEASE_DIR)/bin
LIB = $(RELEASE_DIR)/lib
SBIN = $(RELEASE_DIR)/sbin
LIBEXEC = $(RELEASE_DIR)/libexec
CONDOR_HOST = 127.0.0.1
COLLECTOR_HOST = 127.0.0.1:{port}
NETWORK_INTERFACE = 127.0.0.1
BIND_ALL_INTERFACES = False
ENABLE_IPV6 = False
UID_DOMAIN = enginery.test
FILESYSTEM_DOMAIN = enginery.test
TRUST_UID_DOMAIN = True
use ROLE: Personal
SEC_DEFAULT_AUTHENTICATION_METHODS = FS
ALLOW_READ = *
ALLOW_WRITE = *
ALLOW_ADMINISTRATOR = *
ALLOW_DAEMON = *
ALLOW_NEGOTIATOR = *
USE_SHARED_PORT = True
SHARED_PORT_PORT = {port}
NUM_CPUS = 8
NEGOTIATOR_INTERVAL = 2
NEGOTIATOR_CYCLE_DELAY = 1
NEGOTIATOR_MIN_INTERVAL = 1
SCHEDD_INTERVAL = 2
UPDATE_INTERVAL = 5
RUNBENCHMARKS = False
START = True
SUSPEND = False
PREEMPT = False
KILL = False
WANT_SUSPEND = False
NUM_SLOTS_TYPE_1 = 1
SLOT_TYPE_1 = 100%
SLOT_TYPE_1_PARTITIONABLE = True
PROCD_ADDRESS = $(RUN)/procd_pipe
MAIL = /bin/true
JOB_START_DELAY = 0
"""


@contextlib.contextmanager
def condor(folder: Path) -> Iterator[dict[str, str]]:
    """Start it; the value is what its commands need in their environment."""
    assert (INSTALLED / ".ready").exists(), f"HTCondor is not in {INSTALLED}; run tests/services/install_condor.sh"
    for name in ("run", "log", "lock", "spool", "execute"):
        (folder / name).mkdir(mode=0o755)
    config = folder / "condor_config"
    config.write_text(CONFIG.format(installed=INSTALLED, folder=folder, port=daemons.free_ports(1)[0]))
    environment = {
        "CONDOR_CONFIG": str(config),
        "CONDOR_IDS": f"{USER}.{USER}",
        "PATH": os.pathsep.join([str(INSTALLED / "bin"), str(INSTALLED / "sbin"), daemons.path_with_daemons()]),
    }
    with (folder / "log" / "master").open("wb") as log:
        master = subprocess.Popen(
            ["unshare", "--user", f"--map-user={USER}", f"--map-group={USER}", "condor_master", "-f"],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        daemons.wait_until(lambda: has_slots(environment), "a slot of HTCondor")
        yield environment
    finally:
        master.terminate()
        try:
            master.wait(30)
        finally:
            master.kill()


def has_slots(environment: dict[str, str]) -> bool:
    """Whether the pool has reported, so that jobs can start."""
    try:
        return bool(daemons.run(["condor_status", "-af", "Name"], environment).strip())
    except AssertionError:  # the collector is not up yet
        return False


def queue(environment: dict[str, str]) -> list[str]:
    """Jobs that wait, run, or are held."""
    lines = daemons.run(["condor_q", "-allusers", "-af", "ClusterId", "ProcId", "JobStatus"], environment).splitlines()
    return [line for line in lines if line.split()[2] in {"1", "2", "5"}]


if __name__ == "__main__":
    # To look at it by hand: python condor.py FOLDER, then set what it prints in another terminal.
    import sys

    with condor(Path(sys.argv[1])) as found:
        print("\n".join(f"export {key}={value}" for key, value in found.items()), flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            os.read(0, 1)
