"""Faults are drawn by seed, counted, and independent of one another."""

from __future__ import annotations

from enginery.testing.clock import Clock
from enginery.testing.connections import Connection, End
from enginery.testing.faults import NAMES, Faults


def test_nothing_happens_unasked():
    faults = Faults(1)
    assert not any(faults.strikes(name) for name in NAMES for _ in range(100))
    assert repr(faults) == "<Faults none>"


def test_what_happens_is_counted():
    faults = Faults(1, kill=1.0)
    assert faults.strikes("kill")
    assert faults.counts == {"kill": 1}
    assert repr(faults) == "<Faults kill=1>"
    faults.stop()
    assert not faults.strikes("kill")


def test_equal_seeds_draw_alike_whatever_else_is_switched_on():
    one, other = Faults(5, kill=0.3), Faults(5, kill=0.3, delay=0.5, repeat=0.5)
    draws = []
    for faults in (one, other):
        drawn = []
        for _ in range(100):
            faults.strikes("delay")
            drawn.append(faults.strikes("kill"))
        draws.append(drawn)
    assert draws[0] == draws[1]
    assert draws[0] != [Faults(6, kill=0.3).strikes("kill") for _ in range(100)]


def test_travel_takes_time():
    assert 0.1 <= Faults(1, latency=(0.1, 0.2)).travel_time() <= 0.2
    assert Faults(1, latency=(0.1, 0.2), reorder=1.0).travel_time() >= 0.7
    assert Faults(1, latency=(0.0, 0.0), delay=1.0, long_delay=9.0).travel_time() > 0.0


def connect(**options):
    clock, heard = Clock(), []
    ends = [
        End(
            lambda header, _frames, at=at: heard.append((at, header)),
            lambda at=at: heard.append((at, "hung up")),
            sees_repetitions=True,
        )
        for at in ("top", "bottom")
    ]
    connection = Connection(clock, Faults(3, **options), top=ends[0], bottom=ends[1])
    return clock, connection, heard


def test_messages_arrive_in_order_and_the_end_last():
    clock, connection, heard = connect(delay=0.3, reorder=0.3)
    for number in range(50):
        connection.up.send(b"%d" % number, [])
    connection.up.close()
    connection.up.close()
    clock.advance(100.0)
    assert heard == [*[("top", b"%d" % number) for number in range(50)], ("top", "hung up")]
    assert repr(connection) == "<Connection closed>"


def test_a_lost_message_takes_its_connection_with_it():
    clock, connection, heard = connect(lose=1.0)
    connection.down.send(b"lost", [])
    connection.faults.stop()
    connection.up.send(b"lost, too", [])
    connection.up.close()
    clock.advance(100.0)
    assert heard == []
    assert repr(connection) == "<Connection cut>"


def test_messages_may_be_repeated():
    clock, connection, heard = connect(repeat=1.0)
    connection.up.send(b"a", [])
    connection.up.send(b"b", [])
    clock.advance(1.0)
    assert [header for _, header in heard] == [b"a", b"a", b"b", b"b"]


def test_a_way_can_be_held_up():
    clock, connection, heard = connect()
    connection.up.hold(5.0)
    connection.up.send(b"a", [])
    clock.advance(4.9)
    assert heard == []
    clock.advance(0.2)
    assert heard == [("top", b"a")]
