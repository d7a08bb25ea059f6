"""What is fuzzed: one function of bytes for each decoder, and one for the stimuli of the scheduler.

Each raises only what it names; any other exception, and a broken invariant, is a finding.
"""

from __future__ import annotations

import contextlib
import random
import socket
import typing
from collections.abc import Callable

from enginery.controller.departures import REPORT_PATIENCE
from enginery.controller.limits import Limits
from enginery.controller.ports import Peer
from enginery.controller.server import Server
from enginery.core.invariants import check
from enginery.core.scheduler import Scheduler
from enginery.engine.channel import LENGTH, Channel
from enginery.errors import ConnectionFileError
from enginery.net import connection_file
from enginery.net.channel import ChannelClosed
from enginery.net.signed import KNOCK, NONCE, Forged, Notary, Seal, key_id
from enginery.net.stream import MAGIC, Bounds, Stream
from enginery.wire import messages as m
from fuzz import shapes

#: For streams: what is announced need not be made room for.
SMALL = Bounds(header=1 << 16, frames=1 << 8, size=1 << 16)


def decoder(decode: Callable[[bytes], object]) -> Callable[[bytes], None]:
    def target(data: bytes) -> None:
        with contextlib.suppress(*m.UNDECODABLE):
            m.encode(decode(data))

    return target


def stream(data: bytes) -> None:
    """What comes over a Unix socket."""
    one, other = socket.socketpair()
    reader = Stream(one)
    reader.bounds = SMALL
    with other:
        try:
            other.sendall(data)
            other.shutdown(socket.SHUT_WR)
            while True:
                for header, frames in reader.receive():
                    assert len(bytes(header)) + sum(map(len, frames)) <= len(data)
        except ChannelClosed:
            pass
        finally:
            reader.close(0.0)


class NoRouter:
    def send(self, identity: bytes, header: bytes, frames: object) -> None:
        assert header.startswith(KNOCK)


def signed(data: bytes) -> None:
    """What comes over tcp where it is signed: nobody who fuzzes knows the key."""
    notary = Notary(NoRouter(), {key_id("secret"): "secret"}.get)
    parts = data.split(b"|")
    for at, part in enumerate(parts):
        with contextlib.suppress(Forged):
            assert notary.open(b"i", part, parts[at + 1 :]) is None
    with contextlib.suppress(Forged):
        Seal("secret", bytes(NONCE), bytes(NONCE), dials=False).check(data, [])
        raise AssertionError("a signature was guessed")


def file(data: bytes) -> None:
    """The text of a connection file."""
    with contextlib.suppress(ConnectionFileError):
        info = connection_file.loads(data.decode(errors="replace"))
        assert connection_file.loads(info.dumps()) == info


def nanny(data: bytes) -> None:
    """What an engine host says to its nanny, and the other way."""
    for receive in (Channel.receive_at_nanny, Channel.receive_at_host):
        one, other = socket.socketpair()
        channel = Channel(one)
        with other:
            other.sendall(data)
            try:
                receive(channel)
            except m.UNDECODABLE:
                pass
            finally:
                channel.close()


# --- the scheduler ------------------------------------------------------------------------------------------------


#: Bytes of results after which nothing more is begun for a client: few, so that it happens.
UNREAD = 300


class FakePort:
    """Takes what is sent, and drops it. Peers are asked each time whether they have read it."""

    name = "port"
    limits = Limits(rejected=50)

    def __init__(self, kind: str, decode: Callable[[bytes], object]) -> None:
        self.kind = kind
        self.decode = decode

    def send(self, peer: Peer, header: bytes, frames: list[object]) -> bool:
        self.decode(header)
        peer.sent += len(header)
        peer.asked = peer.sent
        return True

    def introduced(self, peer: Peer) -> None:
        pass

    def overdue(self, now: float) -> list[Peer]:
        return []

    def forget(self, peer: Peer) -> int:
        return -1


class Bytes:
    """Reads small numbers, and a last word, out of what the fuzzer gives."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def __bool__(self) -> bool:
        return self.at < len(self.data)

    def number(self, below: int) -> int:
        self.at += 1
        return self.data[self.at - 1] % below if self.at <= len(self.data) else 0

    def text(self) -> bytes:
        size = self.number(64)
        self.at += size
        return self.data[self.at - size : self.at]

    def ids(self, base: int) -> list[int]:
        return [base + self.number(12) for _ in range(self.number(4))]


class World:
    """A server without a network, some peers, and a clock."""

    def __init__(self, seed: int) -> None:
        self.now = 100.0
        self.ports = {
            "client": FakePort("client", m.decode_to_client),
            "engine": FakePort("engine", m.decode_to_engine),
        }
        scheme = ("leastload", "lru", "pure", "twobin")[seed % 4]
        self.scheduler = Scheduler(random=random.Random(seed), scheme=scheme, most_unread=UNREAD)
        self.server = Server(
            self.scheduler,
            clients=self.ports["client"],
            engines=self.ports["engine"],
            welcome=m.Welcome(-1, "", 1, 3.0, 1 << 20),
            silence=30.0,
            clock=lambda: self.now,
        )
        self.peers: list[Peer] = []

    def hear(self, peer: Peer, message: object, frames: int = 0) -> None:
        header = message if isinstance(message, bytes) else m.encode(message)
        self.server.hear(peer.port, peer, header, [b"f"] * frames, self.now)

    def join(self, kind: str, read: Bytes) -> None:
        peer = Peer(self.ports["client" if kind == "client" else "engine"])
        self.peers.append(peer)
        if kind == "client":
            self.hear(peer, m.ClientHello(m.VERSION, "s", 1, "h", "u"))
        elif kind == "engine":
            self.hear(peer, m.EngineHello(m.VERSION, f"e{read.number(4)}", 1, "h", read.number(6) - 1))
        else:
            self.hear(peer, m.NannyHello(m.VERSION, 1, "h", [f"e{number}" for number in range(read.number(5))]))


def _task(read: Bytes, base: int) -> m.Task:
    kind = read.number(4)
    function = b"f%d" % read.number(3) if kind else b""
    options = None
    if kind == 3:
        dependency = m.Dependency(read.ids(base), bool(read.number(2)), bool(read.number(2)), bool(read.number(2)))
        options = m.Options(
            targets=[read.number(4) for _ in range(read.number(3))] or None,
            after=dependency if read.number(2) else None,
            follow=dependency if read.number(2) else None,
            timeout=read.number(9) - 2.0 if read.number(2) else None,
            retries=read.number(4) - 1,
        )
    return m.Task(base + read.number(12), read.number(9), function, b"", read.number(2), options)


def _message(read: Bytes, world: World, peer: Peer) -> tuple[object, int]:
    """Something this peer, or another one, might say, and the number of its frames."""
    base = (read.number(3) or max(peer.number, 0)) << m.CLIENT_SHIFT
    kind = read.number(18)
    tasks = [_task(read, base) for _ in range(read.number(4))]
    frames = sum(task.frames for task in tasks)
    ids = read.ids(base)
    results = [m.Result(number, read.number(6), b"", started=1.0, finished=1.0 + read.number(3)) for number in ids]
    failed = [m.Result(n, 1, b"", fault=m.Fault(("remote", "UnmetDependency")[read.number(2)], "E", "v")) for n in ids]
    requests = [m.Request([read.number(4) for _ in range(read.number(4))], task) for task in tasks]
    uuid = f"e{read.number(4)}"
    return (
        (m.Submit(tasks), frames),
        (m.Direct(requests), frames),
        (m.Done(results), 0),
        (m.Done(failed), 0),
        (m.Abort(ids, bool(read.number(2))), 0),
        (m.Functions({b"f0": b"body", b"f1": b""}), 0),
        (m.Missing([b"f%d" % read.number(3)]), 0),
        (m.Returned(ids), 0),
        (m.Said([m.Output(number, "stdout", "text") for number in ids]), 0),
        (m.Query(1, ("why", "story", "queue_status", "statistics", "x")[read.number(5)], {"tasks": ids}), 0),
        (m.EngineExited(uuid, 1, -9, ids[0] if ids else -1), 0),
        (m.Signal(1, [read.number(4)], read.number(9)), 0),
        (m.Shutdown(1, [read.number(4)], bool(read.number(2))), 0),
        (m.Pong(read.number(9) - 4), 0),
        (m.Bye(), 0),
        (read.text(), read.number(3)),
        (m.Paused(ids), 0),
        (m.Pong(-peer.asked), 0),
    )[kind]


def stimuli(data: bytes) -> None:
    """A history of a controller: peers come, say things that make sense or do not, and go; time passes."""
    read = Bytes(data)
    world = World(read.number(8))
    world.join("client", read)
    world.join("engine", read)
    while read:
        step = read.number(12)
        peer = world.peers[read.number(len(world.peers))]
        if step < 7:
            world.hear(peer, *_message(read, world, peer))
        elif step < 10:
            world.join(("client", "engine", "nanny")[step - 7], read)
        elif step == 10:
            world.server.hung_up(peer.port, peer)
        else:
            world.now += (0.1, 1.0, REPORT_PATIENCE + 0.1, 40.0)[read.number(4)]
            world.server.look_around(world.now)
        world.server.act(world.now)
    check(world.scheduler)


KINDS = {"client": list(typing.get_args(m.FromClient)), "engine": list(typing.get_args(m.FromEngine))}


def values(data: bytes) -> None:
    """Messages that are well-formed, of peers that are known, with values that nobody would expect."""
    read = Bytes(data)
    world = World(read.number(8))
    for kind in ("client", "engine", "nanny", "client"):
        world.join(kind, read)
    while read:
        peer = world.peers[read.number(len(world.peers))]
        world.hear(peer, shapes.message(read, KINDS[peer.port.kind]), read.number(3))
        world.server.act(world.now)
        world.now += (0.0, 0.1, REPORT_PATIENCE + 0.1, 40.0)[read.number(4)]
        world.server.look_around(world.now)
        world.server.act(world.now)
    check(world.scheduler)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "from_client": decoder(m.decode_from_client),
    "from_engine": decoder(m.decode_from_engine),
    "to_client": decoder(m.decode_to_client),
    "to_engine": decoder(m.decode_to_engine),
    "stream": stream,
    "signed": signed,
    "file": file,
    "nanny": nanny,
    "stimuli": stimuli,
    "values": values,
}
#: The longest input that is tried.
LONGEST = {"stimuli": 400, "values": 400, "file": 1500}
#: How every magic begins, so that a fuzzer need not guess it.
WORDS = [MAGIC.to_bytes(2, "little"), KNOCK, LENGTH.pack(8)]
