from __future__ import annotations

import pytest

from enginery.engine.channel import Leave, Started, Stop, channel_pair
from enginery.wire.messages import Deliver, EngineExited, Restart


@pytest.fixture
def ends():
    host, nanny = channel_pair()
    yield host, nanny
    host.close()
    nanny.close()


def test_messages_arrive_in_order_both_ways(ends):
    host, nanny = ends
    exited = EngineExited("a", 1, -9, 5, 6, "killed")
    host.send(Started("a", 1, 0), exited)
    host.send(Leave("done"))
    assert nanny.receive_at_nanny() == [Started("a", 1, 0), exited, Leave("done")]
    nanny.send(Deliver("a", "SIGINT"), Restart("a"), Stop("enough", 0.5, 1))
    assert host.receive_at_host() == [Deliver("a", "SIGINT"), Restart("a"), Stop("enough", 0.5, 1)]
    assert host.receive_at_host() == []
    assert not host.closed


def test_nobody_blocks_on_an_end_that_does_not_read(ends):
    host, nanny = ends
    messages = [Leave(f"{number}" * 1000) for number in range(2000)]
    host.send(*messages)
    assert host.unsent > 0
    received = []
    while len(received) < len(messages):
        received += nanny.receive_at_nanny()
        host.flush()
    assert received == messages
    assert host.unsent == 0


def test_last_words_are_heard_before_the_end(ends):
    host, nanny = ends
    nanny.send(Stop("bye"))
    nanny.close()
    # Talking to one that has gone does no harm and does not lose what it had said.
    host.send(Leave("x"))
    host.send(Leave("y"))
    assert host.receive_at_host() == [Stop("bye")]
    assert host.closed
    assert "closed" in repr(host)


def test_a_message_cut_in_two_is_put_together(ends):
    host, nanny = ends
    host.send(Leave("a" * 100_000))
    received = []
    while not received:
        received = nanny.receive_at_nanny()
        host.flush()
    assert received == [Leave("a" * 100_000)]
