"""ipcluster status: what runs of one cluster, what its engines have to do, and how to connect to it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from traitlets import Enum, Unicode

from enginery.cli.cluster_command import IPClusterApplication
from enginery.cluster.manager import cluster_key
from enginery.config.application import BASE_ALIASES, NO_CLUSTER
from enginery.errors import ConnectionFileError, IPythonError
from enginery.net import connection_file, profile_paths
from enginery.net.liveness import is_controller_there

if TYPE_CHECKING:
    from enginery.cluster.cluster import Cluster
    from enginery.net.connection_file import ConnectionInfo

#: How long the controller may take to answer, in seconds.
PATIENCE = 5.0


class IPClusterStatus(IPClusterApplication):
    """Shows one cluster."""

    needs_profile = False
    name = Unicode("ipcluster status")
    description = Unicode(
        "Show what runs of a cluster, however it was started, and what its engines have to do. Exit code 0 says that "
        "its controller runs, 12 that it does not."
    )
    examples = Unicode("ipcluster status\nipcluster status --profile=mycluster --cluster-id=abcd -o json")
    aliases = {**BASE_ALIASES, "o": "IPClusterStatus.output_format"}  # noqa: RUF012 - as traitlets declares it

    output_format = Enum(("text", "json"), default_value="text", help="text or json").tag(config=True)

    def start(self) -> None:
        """Print a few lines, or the cluster as JSON."""
        super().start()
        cluster, info = self.find_cluster(), self.find_controller()
        key = cluster_key(self.profile_dir, self.cluster_id)
        if info is None and not (cluster is not None and cluster.is_running):
            self.fail(
                f"no cluster {key!r} runs. Start it with `ipcluster start`; `ipcluster list` shows others.", NO_CLUSTER
            )
        told = self.ask(info) if info is not None else {}
        if self.output_format == "json":
            print(json.dumps({**(cluster.to_dict() if cluster is not None else {}), **told}))
        else:
            print("\n".join(self.lines(key, cluster, info, told)))
        sys.exit(0 if info is not None else NO_CLUSTER)

    def find_cluster(self) -> Cluster | None:
        """The cluster as its file has it; None if the programs were started one by one."""
        try:
            return self.load_cluster(self.cluster_id)
        except (OSError, ValueError):
            return None

    def find_controller(self) -> ConnectionInfo | None:
        """How to reach the controller, if it is there."""
        try:
            info = connection_file.load(profile_paths.connection_path(self.profile_dir, "client", self.cluster_id))
        except (OSError, ConnectionFileError):
            return None
        return info if is_controller_there(info) else None

    def ask(self, info: ConnectionInfo) -> dict[str, Any]:
        """What the controller says of its engines; empty if it does not answer."""
        # Only who asks a controller needs what a client needs.
        from enginery.client.client import Client

        try:
            with Client(info, timeout=PATIENCE) as client:
                status = client.queue_status()
        except (IPythonError, OSError) as error:
            self.log.warning("The controller does not answer: %s", error)
            return {}
        waiting = status.pop("unassigned")
        busy = [each["queue"] + each["tasks"] for each in status.values()]
        return {"ids": sorted(status), "busy": sum(map(bool, busy)), "waiting": waiting + sum(busy)}

    def lines(self, key: str, cluster: Cluster | None, info: ConnectionInfo | None, told: dict[str, Any]) -> list[str]:
        """What people want to know."""
        lines = [f"Cluster {key!r}"]
        if info is not None:
            lines.append(f"  controller  pid {info.pid} on {info.location}, {info.url}")
        else:
            lines.append("  controller  does not run any more")
        for name, launcher in (cluster.engines if cluster is not None else {}).items():
            lines.append(f"  engine set  {name}: {launcher.n} by {launcher!r}")
        if told:
            ids = told["ids"]
            lines.append(f"  engines     {len(ids)} connected, {told['busy']} busy: {ids}")
            lines.append(f"  tasks       {told['waiting']} not done")
            lines.append(f"  connect     {self.connect_command()}")
        if cluster is not None:
            lines.append(f"  stop        {self.stop_command()}")
        return lines
