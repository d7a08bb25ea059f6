"""ipcluster: the command that starts, lists and stops clusters."""

from __future__ import annotations

import sys
from typing import Any

from traitlets import Unicode

from enginery.cli.cluster_command import IPClusterApplication
from enginery.config.application import USAGE


class IPCluster(IPClusterApplication):
    """The command itself: hands over to its subcommands."""

    needs_profile = False
    name = Unicode("ipcluster")
    description = Unicode("Start, list and stop clusters of a controller and engines.")
    examples = Unicode("ipcluster start -n 4\nipcluster list\nipcluster stop")
    # By name, so that each imports only what it needs itself.
    subcommands = {  # noqa: RUF012 - traitlets declares it as a plain attribute
        "start": ("enginery.cli.cluster_start.IPClusterStart", "Start a controller and engines."),
        "engines": ("enginery.cli.cluster_start.IPClusterEngines", "Start engines for a controller that runs."),
        "stop": ("enginery.cli.cluster_look.IPClusterStop", "Stop a cluster."),
        "list": ("enginery.cli.cluster_look.IPClusterList", "Show all clusters."),
        "status": ("enginery.cli.cluster_look.IPClusterStatus", "Show one cluster."),
        "key": ("enginery.cli.cluster_key.IPClusterKey", "Make, list, revoke and replace keys."),
        "clean": ("enginery.cli.cluster_look.IPClusterClean", "Remove files of clusters that are gone."),
    }

    def reject_unknown(self, argv: Any) -> None:
        """A first word that is no subcommand is named as such."""
        word = next((each for each in argv if not each.startswith("-")), None)
        if word is not None and word == argv[0]:
            if word == "nbextension":
                self.fail("`nbextension` was for notebooks before version 7; start clusters with Cluster().", USAGE)
            self.fail(f"there is no subcommand {word!r}. There are {', '.join(self.subcommands)}.", USAGE)
        super().reject_unknown(argv)

    def start(self) -> None:
        """Run the subcommand; without one, say which there are."""
        if self.subapp is None:
            self.print_help()
            sys.exit(USAGE)
        self.subapp.start()


def main() -> None:
    """Run the command line of ipcluster."""
    argv = sys.argv[1:]
    if (argv and argv[0].startswith(("-n", "--n="))) or argv[:1] == ["--n"]:
        # The first generation's `ipcluster -n 4`.
        argv = ["start", *argv]
        sys.stderr.write(f"ipcluster: understood as `ipcluster {' '.join(argv)}`\n")
    IPCluster.launch_instance(argv)
