"""The connection file: what a client or an engine must know to reach a controller.

Rules of the room:

1. A connection file is a capability: whoever can read it may connect. It is written with mode 0600, atomically, and
   its keys never appear in a repr, a log line, an error or on a command line. One with a key that others may read is
   refused.
2. Client and engine files hold different keys and say by ``kind`` which of the two they are.
3. The shape stays that of the first generation (``url``, ``exec_key``, ``ssh``, ``location``) plus what is new, so
   that unknown keys are ignored and missing new ones have defaults. A file of the oldest form does not say its kind: it
   is of the one that its reader wants.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import sys
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, cast

from enginery.errors import ConnectionFileError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Keys without which a file is of no use.
REQUIRED: Final = ("kind", "url")
#: Keys of the oldest form, which did not say the kind.
OLDEST: Final = frozenset({"url", "exec_key"})
#: Keys that only files of the original ipyparallel have; they deserve a clearer message than a missing key.
FOREIGN: Final = ("registration", "interface")
#: Schemes of endpoints, and what follows them.
ENDPOINT: Final = re.compile(r"(?:ipc://.+|inproc://.+|tunnel://.+|tcp://(?:\[[^\]]+\]|[^:/\s]+):\d{1,5})")
#: Length of a CURVE key in Z85.
CURVE_LENGTH: Final = 40
HIGHEST_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """What is needed to reach a controller. ``exec_key`` and the CURVE keys are empty where they are not in use.

    ``urls`` lists every endpoint in the order of preference (ipc first); ``url`` is the one to quote to people.
    ``ssh`` names the server to tunnel through and ``location`` the controller's host, which stands in for a wildcard
    address. ``pid`` and ``epoch`` are the controller's. ``reuse`` is 1 if a later controller is going to listen there
    again, so that who finds nobody may wait.
    """

    kind: Literal["client", "engine"]
    url: str
    urls: tuple[str, ...] = ()
    exec_key: str = field(default="", repr=False)
    ssh: str = ""
    location: str = ""
    cluster_id: str = ""
    epoch: int = 0
    pid: int = 0
    reuse: int = 0
    server_key: str = field(default="", repr=False)
    public_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    version: int = 1

    def __post_init__(self) -> None:
        if not self.urls:
            object.__setattr__(self, "urls", (self.url,))

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON, keys included: treat the outcome as a secret."""
        plain: dict[str, object] = {name: getattr(self, name) for name in FIELDS}
        plain["urls"] = list(self.urls)
        return plain

    @classmethod
    def from_dict(
        cls, mapping: Mapping[str, object], *, source: str = "connection info", kind: str = ""
    ) -> ConnectionInfo:
        """Check ``mapping`` and build the info from it; ``kind`` is assumed where the oldest form does not say.

        Raises ConnectionFileError that names ``source`` and the key at fault.
        """
        _reject_foreign(mapping, source)
        if kind and not mapping.get("kind") and mapping.keys() >= OLDEST:
            mapping = {**mapping, "kind": kind}
        for name in REQUIRED:
            if not mapping.get(name):
                msg = (
                    f"{source} has no {name!r}: it is damaged or no connection file. Fetch it anew from the controller."
                )
                raise ConnectionFileError(msg, key=name)
        values: dict[str, object] = {}
        for name, wanted in TYPES.items():
            value = mapping.get(name)
            if value is None:
                continue
            if name == "urls":
                values[name] = _urls(value, source)
                continue
            if not isinstance(value, wanted) or isinstance(value, bool):
                shown = f"a {type(value).__name__}" if name in SECRETS else repr(value)
                msg = f"{source}: {name!r} must be {wanted.__name__}, not {shown}. Fetch the file anew."
                raise ConnectionFileError(msg, key=name)
            values[name] = value
        _check_values(values, source)
        return cls(**values)  # type: ignore[arg-type]  # each was checked against TYPES above

    def dumps(self) -> str:
        """The text of the file."""
        return json.dumps(self.to_dict(), indent=1) + "\n"

    def save(self, path: str | Path) -> Path:
        """Write the file atomically with mode 0600 and return its path; the folder is made (0700) if missing."""
        path = Path(path)
        write_private(path, self.dumps())
        return path


def with_keys(info: ConnectionInfo, given: Mapping[str, str]) -> ConnectionInfo:
    """``info`` with ``given`` CURVE keys (by the names of its fields) where it has none: files may be kept without.

    Raises ConnectionFileError for what cannot be a key.
    """
    missing = {name: key for name, key in given.items() if key and not getattr(info, name)}
    for name, key in missing.items():
        _check_key(name, key, f"${KEY_VARIABLES[name]}, or the setting that overrides it")
    return replace(info, **missing) if missing else info  # type: ignore[arg-type]  # keys are text


def keys_in_environment() -> dict[str, str]:
    """The CURVE keys that the environment holds, by the names of fields."""
    return {name: os.environ.get(variable, "") for name, variable in KEY_VARIABLES.items()}


#: Where a peer may find its keys instead of in the file.
KEY_VARIABLES: Final = {
    "server_key": "IPP_CURVE_SERVERKEY",
    "public_key": "IPP_CURVE_PUBLICKEY",
    "secret_key": "IPP_CURVE_SECRETKEY",
}
#: Bits of a file's mode that let others than its owner read or change it.
OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
SECRETS: Final = frozenset({"exec_key", "server_key", "public_key", "secret_key"})
FIELDS: Final = tuple(each.name for each in fields(ConnectionInfo))
INTEGERS: Final = frozenset({"epoch", "pid", "reuse", "version"})
TYPES: Final[dict[str, type]] = {name: int if name in INTEGERS else str for name in FIELDS}


def load(source: str | Path | Mapping[str, object], *, kind: str = "") -> ConnectionInfo:
    """Read connection info from a file or from a mapping that came from one; ``kind`` is assumed where the oldest form does not say.

    Raises FileNotFoundError (or another OSError) if the file cannot be read, ConnectionFileError if it is damaged.
    """
    if not isinstance(source, (str, Path)):
        return ConnectionInfo.from_dict(source, kind=kind)
    path = Path(source).expanduser()
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except IsADirectoryError as error:
        why = "This is a folder, no connection file; name the one in its folder 'security'"
        raise IsADirectoryError(error.errno, why, str(path)) from None
    try:
        info = loads(text, source=f"connection file {str(path)!r}", kind=kind)
    except ConnectionFileError as error:
        error.path = str(path)
        raise
    if info.exec_key or info.secret_key:
        require_private(path, "connection file")
    return info


def require_private(path: Path, what: str) -> None:
    """Raise ConnectionFileError if others than its owner may read or change the file at ``path``, and say how to mend it."""
    if sys.platform == "win32":
        return  # there, folders of users are closed to others
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & OTHERS:
        msg = (
            f"{what} {str(path)!r} holds a key and is open to other users (mode {mode:04o}): whoever has read it can run "
            f"code as you. Run `chmod 600 {shlex.quote(str(path))}`; and if others have been on this host meanwhile, "
            "`ipcluster key rotate` puts new keys in its place."
        )
        raise ConnectionFileError(msg, path=str(path))


def loads(text: str, *, source: str = "connection info", kind: str = "") -> ConnectionInfo:
    """Parse the text of a connection file. Raises ConnectionFileError that names ``source``."""
    try:
        mapping = json.loads(text)
    except ValueError as error:
        msg = f"{source} is not valid JSON ({error}). Fetch it anew from the controller's security folder."
        raise ConnectionFileError(msg) from error
    if not isinstance(mapping, dict):
        msg = f"{source} holds a {type(mapping).__name__} where an object was expected. Fetch it anew."
        raise ConnectionFileError(msg)
    return ConnectionInfo.from_dict(mapping, source=source, kind=kind)


def write_private(path: Path, text: str) -> None:
    """Write ``text`` so that readers see the old file or the new one, never half, and only the owner reads it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Named before it exists, so that whatever interrupts this, at any point, leaves no half file behind.
    temporary = path.parent / f".{path.name}.{os.urandom(8).hex()}"
    try:
        # Opened with 0600, so there is no instant at which others could read the keys.
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _reject_foreign(mapping: Mapping[str, object], source: str) -> None:
    if "url" not in mapping and all(key in mapping for key in FOREIGN):
        msg = (
            f"{source} was written by a controller of ipyparallel, which speaks another protocol. "
            "Start the controller with enginery's ipcontroller (or ipcluster) and use its file."
        )
        raise ConnectionFileError(msg)


def _urls(value: object, source: str) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not value or not all(isinstance(each, str) for each in value):
        msg = f"{source}: 'urls' must be a list of endpoints, not {value!r}. Fetch the file anew."
        raise ConnectionFileError(msg, key="urls")
    return tuple(value)


def _check_values(values: Mapping[str, object], source: str) -> None:
    kind = values["kind"]
    if kind not in ("client", "engine"):
        msg = f"{source}: 'kind' must be 'client' or 'engine', not {kind!r}."
        raise ConnectionFileError(msg, key="kind")
    for url in (values["url"], *cast("tuple[str, ...]", values.get("urls", ()))):
        check_endpoint(cast("str", url), source=source)
    for name in KEY_VARIABLES:
        if key := cast("str", values.get(name, "")):
            _check_key(name, key, source)


def _check_key(name: str, key: str, source: str) -> None:
    if len(key) != CURVE_LENGTH:
        # The value stays out of the message: it is a secret.
        msg = f"{source}: {name!r} has {len(key)} characters where a CURVE key has {CURVE_LENGTH}."
        raise ConnectionFileError(msg, key=name)


def check_endpoint(url: str, *, source: str = "endpoint") -> None:
    """Raise ConnectionFileError unless ``url`` is an endpoint that can be dialled."""
    if not ENDPOINT.fullmatch(url):
        msg = f"{source}: {url!r} is no endpoint; expected tcp://host:port or ipc:///path."
        raise ConnectionFileError(msg, key="url")
    if url.startswith("tcp://") and not 0 < int(url.rpartition(":")[2]) <= HIGHEST_PORT:
        msg = f"{source}: the port in {url!r} is not between 1 and {HIGHEST_PORT}."
        raise ConnectionFileError(msg, key="url")
