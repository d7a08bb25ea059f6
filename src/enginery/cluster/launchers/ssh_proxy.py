"""A launcher that has another host start the engines: by ``ipcluster engines`` there, and whatever that is set up for."""

from __future__ import annotations

import signal
from typing import Any, Final

from traitlets import List, Unicode, default

from enginery.cluster.launchers.ssh import SSHEngineLauncher

#: What ends ipcluster; it passes other signals on to its engines.
HANG_UP: Final = int(getattr(signal, "SIGHUP", signal.SIGTERM))


class SSHProxyEngineSetLauncher(SSHEngineLauncher):
    """Engines started by ``ipcluster engines`` on another host, such as the login node of a batch system."""

    ipcluster_cmd = List(Unicode(), help="The command there (default: remote_python -m enginery.cluster).").tag(
        config=True
    )
    ipcluster_args = List(Unicode(), help="Its further arguments.").tag(config=True)

    @default("ipcluster_cmd")
    def _default_ipcluster_cmd(self) -> list[str]:
        return [self.remote_python, "-m", "enginery.cluster"]

    @property
    def program_args(self) -> list[str]:
        """The command with the cluster's arguments, then the user's."""
        engine_args = [f"--Cluster.engine_args={each}" for each in self.engine_args]
        return [*self.ipcluster_cmd, "engines", f"--n={self.n}", *self.cluster_args, *engine_args, *self.ipcluster_args]

    def host_order(self, **more: Any) -> dict[str, Any]:
        """What the carrier is told of this host."""
        return super().host_order(owned=False, stop_signal=HANG_UP, **more)
