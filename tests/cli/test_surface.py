"""Every flag and alias of former generations is known to its command, or said to be idle or gone."""

from __future__ import annotations

import pytest
from traitlets.utils.importstring import import_item

from enginery.cli.ipcluster import IPCluster
from enginery.cli.ipcontroller import IPController
from enginery.cli.ipengine import IPEngine
from enginery.cli.iplogger import IPLogger
from enginery.config import former
from enginery.config.arguments import BUILT_IN, flat_names

BASE = """debug quiet init log-to-file show-config show-config-json h help help-all version log-level profile-dir profile
ipython-dir config work-dir clean-logs log-url cluster-id"""
SUBCOMMANDS = {name: import_item(path) for name, (path, _) in IPCluster.subcommands.items()}
APPLICATIONS = {
    "ipcontroller": (
        IPController,
        """usethreads reuse restore secure no-secure ssh enginessh location ip transport port ports client-port engine-port
        ping scheme hwm ident user keyfile""",
    ),
    "ipengine": (IPEngine, "mpi file furl-file c s timeout ident user keyfile secure no-secure"),
    "ipcluster start": (SUBCOMMANDS["start"], "daemonize n engines controller delay ip location"),
    "ipcluster engines": (SUBCOMMANDS["engines"], "daemonize n engines"),
    "ipcluster stop": (SUBCOMMANDS["stop"], "all signal"),
    "ipcluster list": (SUBCOMMANDS["list"], "o"),
    "ipcluster status": (SUBCOMMANDS["status"], "o"),
    "ipcluster clean": (SUBCOMMANDS["clean"], "force all"),
    "iplogger": (IPLogger, "url topics"),
}


@pytest.mark.parametrize("command", APPLICATIONS)
def test_names_that_users_type(command):
    application, own = APPLICATIONS[command]
    program = command.partition(" ")[0]
    tables = (former.ARGUMENTS, former.IDLE_ARGUMENTS)
    known = {*flat_names(application.flags), *flat_names(application.aliases), *BUILT_IN}
    known |= {name for table in tables for name in table.get(program, {})}
    assert sorted({*BASE.split(), *own.split()} - known) == []


def test_no_name_is_both_idle_and_in_use():
    for application in (IPController, IPEngine):
        settings = {
            f"{owner.__name__}.{name}"
            for owner in application.mro()
            for name in getattr(owner, "class_trait_names", list)()
        }
        assert not settings & former.IDLE.keys()
