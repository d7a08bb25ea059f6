"""What BroadcastView adds to a DirectView: its marks."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("coalescing", [False, True])
def test_requests_say_how_they_were_sent(client, coalescing):
    view = client.broadcast_view(is_coalescing=coalescing)
    assert view.is_coalescing is coalescing
    for result, expected in (
        (view.apply_async(abs, -1), coalescing),
        (view.push({"x": 1}), coalescing),
        (view.execute("pass"), False),
        (view.map_async(abs, [1, 2, 3]), False),
        (view.scatter("x", [1, 2, 3]), False),
        (view.gather("x"), False),
    ):
        assert set(result.is_broadcast) == {True}
        assert set(result.is_coalescing) == {expected}
    assert set(client[:].apply_async(abs, -1).is_broadcast) == {False}


def test_an_order_of_targets_and_errors_of_its_own(client):
    view = client.broadcast_view([1, 0], is_coalescing=True)
    result = view.apply_async(abs, -1)
    assert list(result.engine_id) == [1, 0]
    assert view.with_flags(is_coalescing=False).is_coalescing is False
