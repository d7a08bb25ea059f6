"""How clients of the first generation find their controller: a ``.furl`` file means the JSON file beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from enginery.client.client import Client

#: The file that holds today what the ``.furl`` files of both clients held.
SUCCESSOR = "ipcontroller-client.json"


def connected(source: Any, options: dict[str, Any]) -> Client:
    """The client that ``source`` is or leads to: a Client, a connection file or what it holds, a ``.furl`` file, None.

    Raises what Client raises; OSError names the file that is missing.
    """
    if isinstance(source, Client):
        return source
    if isinstance(source, str | Path) and Path(source).suffix == ".furl":
        source = Path(source).with_name(SUCCESSOR)
    return Client(source, **options)
