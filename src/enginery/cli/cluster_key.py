"""ipcluster key: make, list, revoke and replace the keys of a controller that runs."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any, Final, NoReturn

from traitlets import Unicode

from enginery.cli.cluster_command import IPClusterApplication
from enginery.cli.cluster_look import table
from enginery.config.application import BASE_ALIASES, NO_CLUSTER, USAGE
from enginery.core.scopes import Scope
from enginery.errors import KernelError
from enginery.net import profile_paths
from enginery.net.connection_file import ConnectionInfo

ALIASES: Final[Any] = {
    **BASE_ALIASES,
    "scope": "IPClusterKey.scope",
    "expires": "IPClusterKey.expires",
    "file": "IPClusterKey.file",
    "note": "IPClusterKey.note",
    "admin-file": "IPClusterKey.admin_file",
}
#: Seconds in each unit of a duration.
UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
#: How long the controller may take to be found, and to answer, in seconds.
PATIENCE: Final = 10.0


class IPClusterKey(IPClusterApplication):
    """Makes, lists, revokes and replaces keys."""

    needs_profile = False
    name = Unicode("ipcluster key")
    description = Unicode(
        "Make a connection file with a key of its own, which allows less than that of the controller or ends by itself: "
        "create --scope=watch|submit|admin|engine --expires=2h. Also list; revoke NAME, which cuts its holders off; and "
        "rotate, which puts new keys into the controller's own two files and lets connected peers finish."
    )
    examples = Unicode(
        "ipcluster key create --scope=watch --expires=2h\n"
        "ipcluster key create --scope=submit --expires=7d --file=for-anna.json --note=anna\n"
        "ipcluster key list\nipcluster key revoke 3f9c21aa\nipcluster key rotate"
    )
    aliases = ALIASES

    scope = Unicode("", help="What the key allows: watch, submit, admin or engine.").tag(config=True)
    expires = Unicode("", help="When the key ends: 90s, 30m, 2h, 1d12h, 2w (default: with the controller).").tag(
        config=True
    )
    file = Unicode("", help="Connection file to write (default: one in the profile's security folder).").tag(
        config=True
    )
    note = Unicode("", help="A few words, shown by list.").tag(config=True)
    admin_file = Unicode("", help="Connection file of an admin (default: the profile's).").tag(config=True)

    def start(self) -> None:
        """Do what the first word says."""
        super().start()
        verb, *names = self.extra_args or [""]
        verbs = {"create": self.create, "list": self.show, "revoke": self.revoke, "rotate": self.rotate}
        if verb not in verbs:
            self.fail(f"there is no command 'key {verb}'. There are {', '.join(verbs)}.", USAGE)
        if bool(names) != (verb == "revoke"):
            wanted = "the names of keys (`ipcluster key list` shows them)" if verb == "revoke" else "no further words"
            self.fail(f"'key {verb}' takes {wanted}.", USAGE)
        verbs[verb]()

    def create(self) -> None:
        """Have a key made, and write its connection file."""
        if self.scope not in list(Scope):
            given = f"{self.scope!r} is no scope; " if self.scope else ""
            self.fail(f"{given}say what the key is for: --scope={'|'.join(Scope)}.", USAGE)
        try:
            seconds = duration(self.expires)
        except ValueError as error:
            self.fail(f"{error} (--expires).", USAGE)
        arguments: dict[str, object] = {"scope": self.scope, "seconds": seconds, "note": self.note}
        made = self.ask("key_create", arguments)
        key, info = made["key"], ConnectionInfo.from_dict(made["connection"])
        path = Path(self.file).expanduser() if self.file else self._path(key["name"])
        try:
            info.save(path)
        except OSError as error:
            self.ask("key_revoke", {"name": key["name"]})
            self.fail(f"cannot write {str(path)!r}: {error.strerror}. Choose another place with --file.")
        print(f"Made key {key['name']} ({self.scope}, {ending(key['expires'])}): {path}")

    def show(self) -> None:
        """Print all keys."""
        rows = [
            (key["name"], key["scope"], when(key["created"]), ending(key["expires"]), key["note"])
            for key in self.ask("key_list")
        ]
        for row in table([("NAME", "SCOPE", "MADE", "ENDS", "NOTE"), *rows]):
            print(row)

    def revoke(self) -> None:
        """Have keys revoked; their holders are cut off."""
        for name in self.extra_args[1:]:
            key = self.ask("key_revoke", {"name": name})
            self._path(name).unlink(missing_ok=True)
            print(f"Revoked key {key['name']} ({key['scope']}).")

    def rotate(self) -> None:
        """Have the controller's own keys replaced."""
        self.ask("key_rotate")
        print(
            "The controller has new keys, and so have its connection files. Who is connected goes on; who comes anew needs "
            "the new files. Keys made by `ipcluster key create` stay good until they are revoked."
        )

    def ask(self, question: str, arguments: dict[str, object] | None = None) -> Any:
        """Ask the controller; leaves the program if it cannot be asked, or does not do it."""
        # Only now: --help need not wait for what a client needs.
        from enginery.client.connect import find_connection
        from enginery.client.link import Link

        try:
            info, _ = find_connection(
                self.admin_file or None,
                profile=None,
                profile_dir=self.profile_dir,
                ipython_dir=None,
                cluster_id=self.cluster_id,
                timeout=0.0,
            )
            link = Link.connect(info, timeout=PATIENCE)
        except (OSError, KernelError, ValueError) as error:
            self._give_up(error, NO_CLUSTER)
        try:
            return link.ask(question, arguments, PATIENCE)
        except (OSError, KernelError, ValueError) as error:
            self._give_up(error, 1)
        finally:
            link.close()

    def _give_up(self, error: Exception, code: int) -> NoReturn:
        self.fail(str(error), code)

    def _path(self, name: str) -> Path:
        infix = f"{self.cluster_id}-" if self.cluster_id else ""
        security = profile_paths.connection_path(self.profile_dir, "client").parent
        return security / f"ipcontroller-{infix}key-{name}.json"


def duration(text: str) -> float:
    """Seconds from ``1d12h`` or a plain number of seconds; 0 for an empty text. Raises ValueError."""
    if not text:
        return 0.0
    parts = _PART.findall(text)
    if text.replace(".", "", 1).isdigit():
        parts = [(text, "s")]
    elif "".join(number + unit for number, unit in parts) != text:
        parts = []
    seconds = sum(float(number) * UNITS[unit] for number, unit in parts)
    if not seconds:
        msg = f"{text!r} is no time from now, such as 90s, 30m, 2h or 1d12h"
        raise ValueError(msg)
    return seconds


def when(seconds: float) -> str:
    """A time of the day, in words."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def ending(expires: float) -> str:
    """When a key ends, in words."""
    return f"until {when(expires)}" if expires else "with the controller"
