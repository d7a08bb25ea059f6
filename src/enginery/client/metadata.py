"""What is known about one request besides its value: Metadata, and message ids as text. No I/O."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from enginery.wire.messages import CLIENT_SHIFT

_DEFAULTS: Final[dict[str, Any]] = {
    "msg_id": None,
    "submitted": None,
    "started": None,
    "completed": None,
    "received": None,
    "engine_uuid": None,
    "engine_id": None,
    "follow": None,
    "after": None,
    "status": None,
    "execute_input": None,
    "execute_result": None,
    "error": None,
    "stdout": "",
    "stderr": "",
    "outputs": None,
    "data": None,
    "label": None,
    "is_broadcast": False,
    "is_coalescing": False,
}
#: The names every Metadata has, and the only ones it can have.
KEYS: Final = frozenset(_DEFAULTS)
_LOCAL: Final = (1 << CLIENT_SHIFT) - 1


class Metadata(dict[str, Any]):
    """A mapping with a fixed set of keys, which are attributes as well.

    ``submitted``, ``started``, ``completed`` and ``received`` are timezone-aware datetimes (UTC), or None as long as
    that has not happened. Setting an unknown key raises KeyError, reading an unknown attribute AttributeError.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(_DEFAULTS)
        self["outputs"] = []
        self["data"] = {}
        self.update(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"Metadata has no {name!r}. It has: {', '.join(sorted(KEYS))}.") from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in KEYS:
            raise AttributeError(f"Metadata has no {name!r}. It has: {', '.join(sorted(KEYS))}.")
        self[name] = value

    def __setitem__(self, key: str, value: Any) -> None:
        if key not in KEYS:
            raise KeyError(f"Metadata has no {key!r}. It has: {', '.join(sorted(KEYS))}.")
        super().__setitem__(key, value)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set several keys. Raises KeyError for unknown ones."""
        for key, value in dict(*args, **kwargs).items():
            self[key] = value


def moment(seconds: float) -> datetime | None:
    """The datetime (UTC) for seconds since the epoch; None for 0, which stands for "not yet"."""
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def message_id(session: str, task: int) -> str:
    """The text by which people know the request with the id ``task``."""
    return f"{session}_{task & _LOCAL}"


def task_id(session: str, number: int, text: str) -> int:
    """The id behind a text made by ``message_id`` for client ``number``.

    Raises KeyError if the text is none of this session's.
    """
    head, _, tail = text.rpartition("_")
    if head != session or not tail.isdecimal():
        raise KeyError(f"{text!r} is not a message id of this client (they look like '{session}_17').")
    return (number << CLIENT_SHIFT) | int(tail)
