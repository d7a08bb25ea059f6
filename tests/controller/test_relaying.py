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
        self.ended = []

    def send(self, peer, header, frames):
        self.sent.append((peer, self.decode(header), [bytes(frame) for frame in frames]))
        return peer not in self.ended

    def introduced(self, peer):
        pass

    def overdue(self, now):
        return []

    def forget(self, peer):
        return 100


class World:
    """A restored controller that knows a client and two engines of one host, with their nanny (or one each, at a place)."""

    def __init__(self, place=""):
        self.now = 1000.0
        self.pushed = 0
        self.answered = []
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
        self.nannies = [self.add_nanny(place, *each) for each in ([["e0"], ["e1"]] if place else [["e0", "e1"]])]
        self.nanny = self.nannies[0]
        self.client = Peer(self.clients)
        self.hear(
            self.client, m.ClientHello(m.VERSION, "ours", 11, "there", "ada", client=CLIENT, token="token", epoch=6)
        )

    def hear(self, peer, message, frames=()):
        self.server.hear(peer.port, peer, m.encode(message), list(frames), self.now)
        self.server.act(self.now)

    def add_nanny(self, place, *engines):
        peer = Peer(self.engines)
        self.hear(peer, m.NannyHello(m.VERSION, 33, "there", list(engines)))
        self.hear(peer, m.Shares(place))
        return peer

    def engine(self, number, connection=1, holding=()):
        peer = Peer(self.engines)
        hello = m.EngineHello(m.VERSION, f"e{number}", 20 + number, "there", number)
        hello.epoch, hello.connection, hello.holding = 6, connection, list(holding)
        self.hear(peer, hello)
        return peer

    def push(self):
        task = m.Task((CLIENT << m.CLIENT_SHIFT) + 2 * self.pushed, m.Action.PUSH, b"", NONE, frames=1)
        self.pushed += 1
        self.hear(self.client, m.Direct([m.Request([0, 1], task)]), [BUFFER])

    def arrive(self, nanny=None, name="h1-1"):
        """The nanny says of each portion that it has come; returns how many there were."""
        count, nanny = len(self.answered), nanny or self.nanny
        while left := [each for each in self.told(nanny, m.Relay) if each[0] not in self.answered]:
            relay, frames = left[0]
            end = relay.at + len(frames[0])
            self.hear(nanny, m.Relayed(relay.number, end, name if end == relay.size else ""))
            self.answered.append(relay)
        return len(self.answered) - count

    def lose(self, nanny):
        self.server.hung_up(nanny.port, nanny)
        self.server.act(self.now)

    def told(self, peer, kind):
        return [(message, frames) for to, message, frames in peer.port.sent if to is peer and isinstance(message, kind)]

    def given(self, *peers):
        """The ids of tasks that some connections were told of."""
        return [task.id for peer in peers for message, _ in self.told(peer, m.Assign) for task in message.tasks]


@pytest.fixture
def world():
    return World()


def sharing(world, number, place="", **kwargs):
    peer = world.engine(number, **kwargs)
    world.hear(peer, m.Shares(place))
    return peer


def names(world, peer):
    """The segments that an engine was told of, in their order; "" for a buffer that came as a frame."""
    tasks = [(task, frames) for message, frames in world.told(peer, m.Assign) for task in message.tasks]
    assert all(task.shared or frames == [BUFFER] for task, frames in tasks)
    return [task.shared[0].name if task.shared else "" for task, _ in tasks]


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


@pytest.mark.parametrize("how", ["bye", "hung up", "killed", "silent"])
def test_engines_get_frames_where_the_nanny_is_gone_or_silent(world, how):
    peers = [sharing(world, 0), sharing(world, 1)]
    world.push()
    if how == "bye":
        world.hear(world.nanny, m.Bye(""))
    elif how == "hung up":
        world.server.hung_up(world.nanny.port, world.nanny)
    elif how == "killed":
        world.engines.ended.append(world.nanny)  # and nobody is told before something is sent there
        world.now = world.server.next_deadline()
        world.server.look_around(world.now)
    else:
        world.now += SILENCE + 1
        world.server.look_around(world.now)
    world.server.act(world.now)
    for peer in peers:
        ((message, frames),) = world.told(peer, m.Assign)
        assert message.tasks[0].shared is None
        assert frames == [BUFFER]


PLACE = "f" * 32


@pytest.fixture
def apart():
    """Two engines of one host that were started apart, each with a nanny."""
    world = World(PLACE)
    world.peers = [sharing(world, number, PLACE) for number in (0, 1)]
    return world


def test_one_of_the_nannies_of_a_place_relays_for_all_engines_there(apart):
    for count in (1, 2):
        apart.push()
        assert apart.arrive() == 1
        assert [names(apart, peer) for peer in apart.peers] == [["h1-1"] * count] * 2
    for peer in apart.peers:
        apart.hear(peer, m.Done([m.Result(number, m.Status.OK, NONE) for number in apart.given(peer)]))
    assert [message.names for message, _ in apart.told(apart.nanny, m.Release)] == [["h1-1"]] * 2
    assert apart.told(apart.nannies[1], m.Relay) == [], "always the same"


def test_where_it_is_lost_in_the_middle_everything_arrives_and_the_next_one_relays(apart):
    first, other = apart.nannies
    apart.push()
    apart.lose(first)
    assert [names(apart, peer) for peer in apart.peers] == [[""]] * 2
    apart.push()
    assert apart.arrive(other, "h2-1") == 1
    assert [names(apart, peer) for peer in apart.peers] == [["", "h2-1"]] * 2
    again = apart.add_nanny(PLACE, "e0")
    apart.push()
    assert apart.told(again, m.Relay) == [], "the other one is still there"
    apart.lose(other)
    apart.push()
    assert apart.arrive(again, "h3-1") == 1
    assert [names(apart, peer)[-1] for peer in apart.peers] == ["h3-1"] * 2


def test_one_that_is_silent_is_passed_over_until_it_comes_anew(apart):
    first, other = apart.nannies
    apart.push()
    apart.now += SILENCE + 1
    for peer in (other, *apart.peers):
        apart.hear(peer, m.Ping(1))
    apart.server.look_around(apart.now)
    apart.server.act(apart.now)
    assert [names(apart, peer) for peer in apart.peers] == [[""]] * 2
    apart.hear(first, m.Ping(1))
    apart.push()
    assert apart.arrive(other, "h2-1") == 1
    apart.hear(first, m.Shares(PLACE))
    apart.lose(other)
    apart.push()
    assert len(apart.told(first, m.Relay)) == 2


@pytest.mark.parametrize("place", ["", "e" * 32], ids=["no place", "another place"])
def test_an_engine_elsewhere_gets_a_copy_and_does_not_take_part(apart, place):
    apart.hear(apart.peers[1], m.Shares(place))
    apart.push()
    assert apart.told(apart.nanny, m.Relay) == [], "there is only one engine left there"
    assert [names(apart, peer) for peer in apart.peers] == [[""]] * 2


def test_a_nanny_of_another_place_relays_nothing(apart):
    stranger = apart.add_nanny("e" * 32)
    for nanny in apart.nannies:
        apart.lose(nanny)
    apart.push()
    assert apart.told(stranger, m.Relay) == []
    assert [names(apart, peer) for peer in apart.peers] == [[""]] * 2


def test_an_engine_whose_own_nanny_sees_other_memory_gets_nothing_from_it(world):
    peers = [sharing(world, number, PLACE) for number in (0, 1)]
    world.push()
    assert world.told(world.nanny, m.Relay) == []
    assert [names(world, peer) for peer in peers] == [[""]] * 2


def test_a_place_that_is_too_long_is_no_message(apart):
    before = apart.server.rejected
    apart.hear(apart.peers[1], m.Shares("x" * 65))
    assert apart.server.rejected == before + 1
    apart.push()
    assert apart.arrive() == 1
