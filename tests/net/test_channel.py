"""Both kinds of channel offer the same, and a closed one is a lost connection to everybody."""

from __future__ import annotations

import inspect

import pytest

from enginery.net.channel import Channel, ChannelClosed
from enginery.net.routed import RoutedChannel
from enginery.net.stream import Stream


def test_its_end_is_a_connection_error():
    assert issubclass(ChannelClosed, ConnectionError)


@pytest.mark.parametrize("kind", [Stream, RoutedChannel])
def test_both_kinds_have_all_of_it(kind):
    for name, method in inspect.getmembers(Channel, inspect.isfunction):
        if name.startswith("_"):
            continue
        assert list(inspect.signature(getattr(kind, name)).parameters) == list(inspect.signature(method).parameters), (
            name
        )
