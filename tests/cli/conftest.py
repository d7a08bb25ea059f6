"""Fixtures of the tests of commands."""

from __future__ import annotations

import pytest

from commands import Commands


@pytest.fixture
def commands(tmp_path, warm):
    """Commands in a private IPython folder; what was started is gone at the end."""
    commands = Commands(tmp_path, warm)
    yield commands
    commands.end()
