"""Where a controller's connection files are."""

from __future__ import annotations

from pathlib import Path

import pytest

from enginery.controller.options import ControllerOptions

HOME = Path("/home/me/profile_x")


@pytest.mark.parametrize(
    ("kwargs", "path"),
    [
        ({}, "security/ipcontroller-client.json"),
        ({"cluster_id": "7"}, "security/ipcontroller-7-client.json"),
        ({"client_file": Path("mine.json")}, "security/mine.json"),
        ({"client_file": Path("/tmp/mine.json")}, "/tmp/mine.json"),
    ],
)
def test_of_clients(kwargs, path):
    assert ControllerOptions(HOME, **kwargs).connection_path("client") == HOME / path


def test_of_engines():
    options = ControllerOptions(HOME, client_file=Path("mine.json"), engine_file=Path("theirs.json"))
    assert options.connection_path("engine") == HOME / "security/theirs.json"
    assert ControllerOptions(HOME).connection_path("engine").name == "ipcontroller-engine.json"
