"""What the subcommands of ipcluster have in common."""

from __future__ import annotations

from traitlets import Unicode

from enginery.cluster.cluster import Cluster
from enginery.config.application import BaseIPythonApplication, BaseParallelApplication
from enginery.net import profile_paths


class IPClusterApplication(BaseParallelApplication):
    """What the subcommands have in common: they are all configured by ipcluster_config."""

    name = Unicode("ipcluster")

    #: Whether there must be a profile; those who only look or clean up make none.
    needs_profile = True

    def init_profile(self) -> None:
        """As of every command, unless there is nothing to put into a profile."""
        if self.needs_profile or self.auto_create:
            super().init_profile()
        else:
            self.check_profile()

    @property
    def config_name(self) -> str:
        """All subcommands share one configuration file."""
        return "ipcluster_config"

    def companions(self) -> list[BaseIPythonApplication]:
        """A cluster's profile configures its programs as well."""
        # A third of the time that ipcluster takes to start, and only default configuration files need them.
        from enginery.cli.ipcontroller import IPController
        from enginery.cli.ipengine import IPEngine

        return [IPController(), IPEngine()]

    def load_cluster(self, cluster_id: str) -> Cluster:
        """The cluster with this id, by its file. Raises FileNotFoundError, ValueError."""
        return Cluster.from_file(
            profile_dir=self.profile_dir, cluster_id=cluster_id, parent=self, log=self.log, load_profile=False
        )

    def identity(self) -> dict[str, str]:
        """What tells this cluster from others, as arguments of Client; empty for the default one."""
        name = profile_paths.profile_name(self.profile_dir)
        usual = bool(name) and profile_paths.profile_folder(name) == self.profile_dir
        told = (
            {"profile": name if name != profile_paths.DEFAULT else ""}
            if usual
            else {"profile_dir": str(self.profile_dir)}
        )
        return {key: value for key, value in {**told, "cluster_id": self.cluster_id}.items() if value}

    def connect_command(self) -> str:
        """The line of Python that connects to this cluster."""
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.identity().items())
        return f"rc = ipp.Client({arguments})"

    def stop_command(self) -> str:
        """The command that stops this cluster."""
        options = (f"--{key.replace('_', '-')}={value}" for key, value in self.identity().items())
        return " ".join(["ipcluster stop", *options])
