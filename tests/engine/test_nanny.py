"""The nanny against a keeper and a socket made of lists: what it says, and when it leaves."""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections import deque

import pytest

from enginery.engine import limits, nanny
from enginery.engine.channel import Leave, Started
from enginery.engine.nanny import STUCK, Nanny
from enginery.engine.options import EngineOptions
from enginery.net.channel import ChannelClosed
from enginery.net.connection_file import ConnectionInfo
from enginery.net.stream import Stream
from enginery.wire.messages import (
    Bye,
    Deliver,
    EngineExited,
    NannyHello,
    Ping,
    Pong,
    Refused,
    Restart,
    Shutdown,
    Welcome,
    decode_from_engine,
    encode,
)

PATIENCE = 20.0


class FakeKeeper:
    def __init__(self):
        self.reader, self.writer = os.pipe()
        self.queue = []
        self.done = []
        self.ends = []

    def fileno(self):
        return self.reader

    def bring(self, *messages):
        self.queue += messages
        os.write(self.writer, b"x")

    def news(self):
        os.read(self.reader, 1)
        news, self.queue = self.queue, []
        return news

    def deliver(self, uuid, number):
        self.done.append(("deliver", uuid, number))

    def restart(self, uuid, reason=""):
        self.done.append(("restart", uuid, reason))

    def limits(self):
        return self.ends

    def restart_all(self):
        self.done.append(("restart all",))

    def stop(self, reason, grace, code):
        self.done.append(("stop", reason, code))


@pytest.fixture
def keeper():
    fake = FakeKeeper()
    yield fake
    os.close(fake.reader)
    os.close(fake.writer)


class FarEnd:
    """The controller's end of the nanny's connection."""

    def __init__(self, socket) -> None:
        self.stream = Stream(socket)
        self.heard = deque()

    def send(self, message):
        self.stream.send(message, [])

    def poll(self, seconds):
        """Whether something has been said that was not received yet."""
        while select.select([self.stream], [], [], seconds)[0]:
            try:
                self.heard.extend(bytes(header) for header, _ in self.stream.receive())
            except ChannelClosed:
                break
        return bool(self.heard)

    def recv(self):
        self.poll(0)
        return self.heard.popleft()


@pytest.fixture
def ends():
    """The nanny's channel and the controller's."""
    near, far = socket.socketpair()
    ends = Stream(near), FarEnd(far)
    yield ends
    near.close()
    far.close()


def run(ends, keeper, *messages, **settings):
    """Let the controller say ``messages``, run the nanny to its end, and return what it said and why it left."""
    near, far = ends
    for message in messages:
        far.send(message if isinstance(message, bytes) else encode(message))
    why = Nanny(near, keeper, engines=["a", "b"], **settings).run()
    said = []
    while far.poll(0):
        said.append(decode_from_engine(far.recv()))
    return said, why


def test_it_says_hello_first_and_names_its_engines(ends, keeper):
    said, _ = run(ends, keeper, Bye())
    assert isinstance(said[0], NannyHello)
    assert (said[0].engines, said[0].pid) == (["a", "b"], os.getpid())


def test_a_death_is_passed_on_as_it_is(ends, keeper):
    exited = EngineExited("a", 1, -9, 5, 6, "killed")
    keeper.bring(exited, Leave("all engines have ended"))
    said, why = run(ends, keeper)
    assert said[1:] == [exited, Bye("all engines have ended")]
    assert why == "all engines have ended"
    assert keeper.done == []


def test_a_new_engine_makes_a_new_hello(ends, keeper):
    keeper.bring(Started("a", 1, 0), Started("b", 2, 1))
    near, far = ends
    nanny = Nanny(near, keeper, engines=["a", "b"])
    nanny._hear_keeper()
    assert not far.poll(0)
    keeper.bring(EngineExited("a", 1, -9, restarting=True), Started("c", 3, 0))
    nanny._hear_keeper()
    assert isinstance(decode_from_engine(far.recv()), EngineExited)
    assert decode_from_engine(far.recv()).engines == ["b", "c"]
    assert repr(nanny) == "<Nanny engines=2 epoch=-1 misses=0>"


def test_wishes_go_to_the_keeper_in_order(ends, keeper):
    words = [Deliver("a", "SIGINT"), Restart("b"), Shutdown(1, [], restart=True), Ping(7), Bye("closing time")]
    said, why = run(ends, keeper, *words)
    assert keeper.done == [
        ("deliver", "a", "SIGINT"),
        ("restart", "b", ""),
        ("restart all",),
        ("stop", "the controller left: closing time", 0),
    ]
    assert said[1:] == [Pong(7)]
    assert why == "the controller left: closing time"


def test_a_refusal_ends_in_an_error(ends, keeper):
    run(ends, keeper, Refused("VersionMismatch", "too old"))
    assert keeper.done == [("stop", "the controller refused: too old", 1)]


def test_a_controller_that_forgot_it_hears_its_name_again(ends, keeper):
    said, _ = run(ends, keeper, Refused("ConnectionLost", "who are you?"), Bye())
    assert [type(message) for message in said] == [NannyHello, NannyHello]


@pytest.mark.parametrize("garbage", [b"", b"\xff", b"\x80", b"hello", encode({"type": "nonsense"})])
def test_garbage_is_ignored(ends, keeper, garbage):
    said, _ = run(ends, keeper, garbage, Ping(1), Bye())
    assert said[1:] == [Pong(1)]


def test_silence_is_counted_in_heartbeats(ends, keeper):
    said, why = run(ends, keeper, period=0.01, max_misses=3)
    assert why.startswith("the controller has been silent for")
    assert keeper.done == [("stop", why, 1)]
    # A beat, then three unanswered ones; the last of them is the end.
    assert [type(message) for message in said] == [NannyHello, Ping, NannyHello, Ping, NannyHello, Ping]


def test_the_period_is_the_controllers_choice(ends, keeper):
    said, _ = run(ends, keeper, Welcome(0, "", 4, 0.01), period=1000.0, max_misses=1)
    assert Ping(1) in said


def test_engines_stuck_beyond_a_limit_are_started_anew(ends, keeper):
    now = time.monotonic()
    keeper.ends = [("a", now - limits.GRACE - limits.SLACK - 1), ("b", now + 1000)]
    run(ends, keeper, Ping(1), Bye())
    assert keeper.done[0] == ("restart", "a", STUCK) or keeper.done[1] == ("restart", "a", STUCK)
    assert "b" not in [each[1] for each in keeper.done if each[0] == "restart"]


@pytest.fixture
def again():
    """Another connection to the controller: the nanny's end and the far end, which says what ends the test."""
    near, far = socket.socketpair()
    end = FarEnd(far)
    end.send(encode(Bye("enough")))
    yield Stream(near), end
    near.close()
    far.close()


def run_cut_off(ends, keeper, attempts, **settings):
    """Break the nanny's first connection before it is welcomed; ``attempts`` are what comes of dialling anew."""
    outcomes = iter(attempts)

    def redial():
        outcome = next(outcomes)
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    ends[1].stream.close(0.0)
    return Nanny(ends[0], keeper, engines=["a"], redial=redial, patience=PATIENCE, **settings).run()


def test_a_connection_that_breaks_before_we_are_welcomed_is_made_anew(ends, keeper, again):
    cut = [TimeoutError("timed out"), OSError(errno.EHOSTUNREACH, "No route to host")]
    assert run_cut_off(ends, keeper, [*cut, again[0]]) == "the controller left: enough"
    assert decode_from_engine(again[1].recv()).engines == ["a"]


def test_a_controller_that_may_be_started_again_is_waited_for_before_we_are_welcomed(ends, keeper, again):
    attempts = [ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), FileNotFoundError(), again[0]]
    assert run_cut_off(ends, keeper, attempts, returns=True) == "the controller left: enough"


def test_any_other_is_gone_when_nobody_listens(ends, keeper):
    refused = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
    assert "the controller is gone" in run_cut_off(ends, keeper, [refused])
    assert [what for what, *_ in keeper.done] == ["stop"]


def test_it_is_always_patient_with_a_network_and_with_a_restart_where_there_may_be_one(ends, keeper, monkeypatch):
    made = []
    monkeypatch.setattr(nanny, "dial_patiently", lambda *_: ends[0])
    monkeypatch.setattr(Nanny, "run", lambda self: made.append(self) or "")
    for reuse in (0, 1):
        info = ConnectionInfo("engine", "tcp://127.0.0.1:9", reuse=reuse)
        nanny.watch_over(keeper, EngineOptions(connection=info, timeout=2.0, max_misses=3), ["a"])
    assert [(each._patience, each._returns) for each in made] == [(6.0, False), (6.0, True)]
