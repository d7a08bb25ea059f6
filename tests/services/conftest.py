"""Fixtures of the real services: one of each for the whole run. What is missing fails, it is not skipped."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.bed import Bed
from services.sshd import SshNet


@pytest.fixture(scope="session")
def bed() -> Iterator[Bed]:
    """Three hosts: head, h1, h2."""
    with Bed(2) as bed:
        yield bed


@pytest.fixture(scope="session")
def ssh(bed: Bed) -> Iterator[SshNet]:
    """sshd on each host of the bed, and a key for all of them."""
    with SshNet(bed) as net:
        yield net
