"""Fixtures of the client's tests: a client on a link without a socket."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Tests are not a package; this is how they share a helper.
sys.path.insert(0, str(Path(__file__).parent))

from fake_link import FakeLink

from enginery.client.client import Client


@pytest.fixture
def link() -> FakeLink:
    return FakeLink(engines=2)


@pytest.fixture
def client(link: FakeLink) -> Iterator[Client]:
    with Client.on(link) as client:
        yield client


@pytest.fixture
def lview(client: Client):
    return client.load_balanced_view()


@pytest.fixture
def dview(client: Client):
    return client[:]
