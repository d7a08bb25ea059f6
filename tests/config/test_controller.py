"""Port lists."""

from __future__ import annotations

import pytest

from enginery.config.controller import parse_ports


@pytest.mark.parametrize(
    ("text", "ports"),
    [("", []), ("10101", [10101]), ("10101, 10200", [10101, 10200]), ("10101-10103,5", [10101, 10102, 10103, 5])],
)
def test_ports(text, ports):
    assert parse_ports(text) == ports


@pytest.mark.parametrize("text", ["x", "0", "65536", "10-5", "5-", "-5", "1.5"])
def test_what_is_no_port(text):
    with pytest.raises(ValueError, match=r"no port|no range"):
        parse_ports(text)
