"""Real clusters as fixtures that several folders share: one for each file of tests, and their quick starts."""

from __future__ import annotations

import os
import sys

import pytest

from enginery.cluster.cluster import Cluster
from enginery.cluster.launchers.process import LocalProcess, birth


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two engines, started and connected; ``cluster.client`` is the client."""
    cluster = Cluster(n=2, profile_dir=str(tmp_path_factory.mktemp("profile")))
    cluster.client = cluster.start_and_connect_sync()
    yield cluster
    cluster.stop_cluster_sync()


@pytest.fixture(scope="module")
def quick_starts(warm):
    """Have the programs of clusters forked, where their start is not what is tested."""
    if warm is None:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalProcess, "start", Quick(warm, LocalProcess.start))
        yield


class Quick:
    """Takes the place of ``LocalProcess.start``."""

    def __init__(self, warm, plainly):
        self.warm = warm
        self.plainly = plainly

    def __call__(self, command, *, environment, output, pipe_stdin=False, pass_fds=(), stdout=None):
        if stdout is not None or list(command[:2]) != [sys.executable, "-m"]:
            return self.plainly(
                command, environment=environment, output=output, pipe_stdin=pipe_stdin, pass_fds=pass_fds, stdout=stdout
            )
        given, writes = os.pipe() if pipe_stdin else (os.open(os.devnull, os.O_RDONLY), None)
        try:
            with output.open("wb") as log:
                descriptors = {0: given, 1: log.fileno(), 2: log.fileno(), **{fd: fd for fd in pass_fds}}
                environment = {**os.environ, **environment}
                child = self.warm.start(command[2], list(command[3:]), environment, descriptors, session=True)
        finally:
            os.close(given)
        child.stdin = open(writes, "wb") if pipe_stdin else None  # noqa: SIM115 - closed by the launcher
        return LocalProcess(child.pid, birth(child.pid) or 0.0, child)
