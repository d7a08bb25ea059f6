"""What is relayed to a host, where its engines or its nanny come back, or do not."""

from __future__ import annotations

import random

import pytest

from enginery.controller.limits import Limits
from enginery.controller.ports import Peer
from enginery.controller.relaying import SILENCE
from enginery.controller.server import Server
from enginery.core import logbook as book
from enginery.core.recall import Recall
from enginery.core.scheduler import Scheduler
from enginery.wire import messages as m
from enginery.wire.serialize import NONE

EPOCH = 7
CLIENT = 1
BUFFER = bytes(1 << 20)


class FakePort:
    """Keeps what is sent, by peer."""

    name = "port"
    limits = Limits()

    def __init__(self, decode):
        self.decode = decode
        self.sent = []

    def send(self, peer, header, frames):
        self.sent.append((peer, self.decode(header), [bytes(frame) for frame in frames]))
        return True

    def introduced(self, peer):
        pass

    def overdue(self, now):
        return []

    def forget(self, peer):
        return 100


class World:
    """A restored controller that knows a client and two engines of one host, with their nanny."""

    def __init__(self):
        self.now = 1000.0
        self.clients, self.engines = FakePort(m.decode_to_client), FakePort(m.decode_to_engine)
        self.server = Server(
            Scheduler(random=random.Random(0), first_client=4001),
            clients=self.clients,
            engines=self.engines,
            welcome=m.Welcome(-1, "", EPOCH, 3.0, 1 << 20, patience=60.0),
            silence=1000.0,
            clock=lambda: self.now,
        )
        recall = Recall()
        for entry in (
            book.Joined(CLIENT, "ada@there:11", "ours", "token"),
            book.Came(m.EngineInfo(0, "e0", 20, "there")),
            book.Came(m.EngineInfo(1, "e1", 21, "there")),
        ):
            recall.read(book.decode(book.encode(entry)), [])
        self.server.recall(recall)
        self.nanny = Peer(self.engines)
        self.hear(self.nanny, m.NannyHello(m.VERSION, 33, "there", ["e0", "e1"]))
        self.hear(self.nanny, m.Shares())
        self.client = Peer(self.clients)
        self.hear(
            self.client, m.ClientHello(m.VERSION, "ours", 11, "there", "ada", client=CLIENT, token="token", epoch=6)
        )

    def hear(self, peer, message, frames=()):
        self.server.hear(peer.port, peer, m.encode(message), list(frames), self.now)
        self.server.act(self.now)

    def engine(self, number, connection=1, holding=()):
        peer = Peer(self.engines)
        hello = m.EngineHello(m.VERSION, f"e{number}", 20 + number, "there", number)
        hello.epoch, hello.connection, hello.holding = 6, connection, list(holding)
        self.hear(peer, hello)
        return peer

    def push(self):
        task = m.Task(CLIENT << m.CLIENT_SHIFT, m.Action.PUSH, b"", NONE, frames=1)
        self.hear(self.client, m.Direct([m.Request([0, 1], task)]), [BUFFER])

    def arrive(self):
        """The nanny says of each portion that it has come."""
        answered = 0
        while answered < len(relays := self.told(self.nanny, m.Relay)):
            relay, frames = relays[answered]
            end = relay.at + len(frames[0])
            self.hear(self.nanny, m.Relayed(relay.number, end, "h1-1" if end == relay.size else ""))
            answered += 1
        return answered

    def told(self, peer, kind):
        return [(message, frames) for to, message, frames in peer.port.sent if to is peer and isinstance(message, kind)]

    def given(self, *peers):
        """The ids of tasks that some connections were told of."""
        return [task.id for peer in peers for message, _ in self.told(peer, m.Assign) for task in message.tasks]


@pytest.fixture
def world():
    return World()


def sharing(world, number, **kwargs):
    peer = world.engine(number, **kwargs)
    world.hear(peer, m.Shares())
    return peer


def test_a_buffer_for_two_engines_goes_to_their_nanny_once(world):
    peers = [sharing(world, 0), sharing(world, 1)]
    world.push()
    assert world.given(*peers) == []
    assert world.arrive() == 1
    assert [len(world.given(peer)) for peer in peers] == [1, 1]
    assert all(message.tasks[0].shared for peer in peers for message, _ in world.told(peer, m.Assign))


def test_an_engine_that_has_heard_nothing_and_is_recalled_again_gets_its_task_once(world):
    first, other = sharing(world, 0), sharing(world, 1)
    world.push()
    # Its connection broke before it heard a word; what waits for the nanny is seen to anew, and is not sent besides.
    second = world.engine(0, connection=2)
    world.arrive()
    assert len(world.given(first, second)) == 1
    assert len(world.given(other)) == 1


@pytest.mark.parametrize("how", ["bye", "hung up", "silent"])
def test_engines_get_frames_where_the_nanny_is_gone_or_silent(world, how):
    peers = [sharing(world, 0), sharing(world, 1)]
    world.push()
    if how == "bye":
        world.hear(world.nanny, m.Bye(""))
    elif how == "hung up":
        world.server.hung_up(world.nanny.port, world.nanny)
    else:
        world.now += SILENCE + 1
        world.server.look_around(world.now)
    world.server.act(world.now)
    for peer in peers:
        ((message, frames),) = world.told(peer, m.Assign)
        assert message.tasks[0].shared is None
        assert frames == [BUFFER]
