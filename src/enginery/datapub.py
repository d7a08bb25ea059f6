"""Data that a running task publishes: ``ar.data`` at the client has it at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import msgpack

from enginery.engine.current import find
from enginery.wire.serialize import pack

if TYPE_CHECKING:
    from collections.abc import Mapping


def publish_data(data: Mapping[str, Any]) -> None:
    """On an engine: show the newest values of some names to the client whose task runs, while it runs on.

    There they are ``ar.data[name]``. Names published before stay, with their last value. Thread-safe.

    Raises RuntimeError outside of an engine, TypeError unless names are strings, SerializationError for values that
    cannot be sent.
    """
    runner = find("publish_data()")
    packed: dict[str, tuple[bytes, list[memoryview]]] = {}
    if not all(isinstance(name, str) for name in data):
        msg = f"publish_data() takes a mapping of names to values; these are no names: {list(data)}."
        raise TypeError(msg)
    for name, value in data.items():
        # One by one, so that the client can replace one value without a look at the others.
        packed[name] = pack(value)
    runner.outputs.show("data", msgpack.encode(packed))
