"""How much clients leave unread is measured wherever it waits for them, and engines are told in time."""

from __future__ import annotations

import random

import pytest

from enginery.controller.ports import Peer
from enginery.controller.server import Server
from enginery.core.invariants import check
from enginery.core.scheduler import Scheduler
from enginery.wire import messages as m

MOST = 10_000
EPOCH = 7


class FakePort:
    """Keeps what is sent, by peer; and may count it, as for peers on other hosts."""

    def __init__(self, name, decode):
        self.name, self.decode = name, decode
        self.sent = []
        self.counts = False

    def send(self, peer, header, frames):
        if self.counts:
            peer.sent = peer.asked = peer.sent + len(header) + sum(map(len, frames))
        self.sent.append((peer, self.decode(header), frames))
        return True

    def introduced(self, peer):
        pass

    def overdue(self, now):
        return []

    def forget(self, peer):
        return 100


class Scene:
    """A server with one engine, and a client that asks it for results of any size."""

    def __init__(self):
        self.now = 1000.0
        self.clients = FakePort("clients", m.decode_to_client)
        self.engines = FakePort("engines", m.decode_to_engine)
        self.server = Server(
            Scheduler(random=random.Random(0), most_unread=MOST),
            clients=self.clients,
            engines=self.engines,
            welcome=m.Welcome(-1, "", EPOCH, 3.0, 1 << 20, patience=60.0),
            silence=30.0,
            clock=lambda: self.now,
        )
        self.engine = Peer(self.engines)
        self.hear(self.engine, m.EngineHello(m.VERSION, "uuid", 22, "there"))
        self.client = self.connect()
        self.asked = 0

    def hear(self, peer, message, frames=()):
        self.server.hear(peer.port, peer, m.encode(message), list(frames), self.now)
        self.server.act(self.now)
        check(self.server.scheduler)

    def connect(self, **known):
        peer = Peer(self.clients)
        self.hear(peer, m.ClientHello(m.VERSION, "s", 11, "there", "me", **known))
        return peer

    def finish(self, size, client=1):
        """The engine ends a task of the client that comes to so many bytes."""
        task = (client << m.CLIENT_SHIFT) + self.asked
        self.asked += 1
        client = self.server.scheduler.clients[client]
        self.server.scheduler.requests_submitted(client, [m.Request([0], m.Task(task, 0, b"", b""))], [])
        self.hear(self.engine, m.Done([m.Result(task, 0, b"", 1)]), [bytes(size)])

    def told(self):
        """What the engine was told last, and how often."""
        said = [message.clients for peer, message, _ in self.engines.sent if isinstance(message, m.Hold)]
        return said[-1] if said else None, len(said)


@pytest.fixture
def scene():
    return Scene()


def test_what_waits_in_its_connection(scene):
    scene.client.sent = MOST
    scene.finish(10)
    assert scene.told() == (None, 0)
    scene.client.sent = scene.client.asked = MOST + 1
    scene.finish(10)
    scene.finish(10)
    assert scene.told() == ([1], 1)
    scene.hear(scene.client, m.Pong(-MOST // 4))
    assert scene.told() == ([1], 1)
    scene.hear(scene.client, m.Pong(-MOST))
    assert scene.told() == ([], 2)


def test_what_waits_while_it_is_away(scene):
    number, token = 1, scene.server.scheduler.clients[1].token
    scene.server.hung_up(scene.clients, scene.client)
    scene.finish(MOST)
    assert scene.told() == ([1], 1)
    scene.finish(10)
    assert scene.told() == ([1], 1)
    client = scene.connect(client=number, token=token, epoch=EPOCH)
    assert [len(frames[0]) for peer, message, frames in scene.clients.sent if peer is client and frames] == [MOST, 10]
    assert scene.told() == ([], 2)


def test_it_is_still_to_read_it_when_it_is_back(scene):
    token = scene.server.scheduler.clients[1].token
    scene.server.hung_up(scene.clients, scene.client)
    scene.finish(MOST)
    scene.clients.counts = True
    client = scene.connect(client=1, token=token, epoch=EPOCH)
    assert scene.told() == ([1], 1)
    scene.hear(client, m.Pong(-client.sent))
    assert scene.told() == ([], 2)


def test_who_is_waited_for_in_vain_is_forgotten(scene):
    scene.server.hung_up(scene.clients, scene.client)
    scene.finish(MOST)
    scene.now += 61.0
    scene.hear(scene.engine, m.Ping(1))
    scene.server.look_around(scene.now)
    scene.server.act(scene.now)
    assert scene.told() == ([], 2)


def test_the_engine_may_say_what_it_has_set_aside(scene):
    scene.client.sent = scene.client.asked = MOST + 1
    scene.finish(10)
    task = (1 << m.CLIENT_SHIFT) + 100
    scene.hear(scene.client, m.Direct([m.Request([0], m.Task(task, 0, b"", b""))]))
    scene.hear(scene.engine, m.Paused([task]))
    assert scene.server.scheduler.engines[0].paused == {task}
    scene.hear(scene.client, m.Pong(-MOST))
    assert not scene.server.scheduler.engines[0].paused
