"""What no well-behaved peer would say, on both ports: refused or dropped, counted, and the cluster goes on."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from pathlib import Path

import msgspec
import pytest

from enginery.net.channel import ChannelClosed
from enginery.net.connection_file import load
from enginery.net.routed import RoutedChannel
from enginery.net.stream import MAGIC, Stream
from enginery.wire import messages as m
from enginery.wire.callables import pack_function
from enginery.wire.serialize import NONE, pack_call, unpack

PATIENCE = 20
pytestmark = pytest.mark.slow

PREFIX = struct.Struct("<HII")
HELLO = m.ClientHello(m.VERSION, "s", os.getpid(), "here", "me")
ENGINE_HELLO = m.EngineHello(m.VERSION, "stranger", os.getpid(), "here")
NANNY_HELLO = m.NannyHello(m.VERSION, os.getpid(), "here", [])
HELLOS = {"client": HELLO, "engine": ENGINE_HELLO, "nanny": NANNY_HELLO}
DECODERS = {"client": m.decode_to_client, "engine": m.decode_to_engine, "nanny": m.decode_to_engine}


class Peer:
    """Somebody who says whatever a test wants, over either transport."""

    def __init__(self, sturdy, port, transport="ipc") -> None:
        kind = "client" if port == "client" else "engine"
        info = load(
            Path(sturdy.cluster.profile_dir) / "security" / f"ipcontroller-{sturdy.cluster.cluster_id}-{kind}.json"
        )
        self.decode = DECODERS[port]
        self.hello = msgspec.structs.replace(HELLOS[port], key=info.exec_key if transport == "ipc" else "")
        (url,) = [url for url in info.urls if url.startswith(transport)]
        if transport == "ipc":
            end = socket.socket(socket.AF_UNIX)
            end.connect(url.removeprefix("ipc://"))
            self.channel = Stream(end)
            self.raw = end
        else:
            self.channel = RoutedChannel(info, url)
        self.got = []

    def say(self, *messages, frames=()):
        for message in messages:
            self.channel.send(message if isinstance(message, bytes) else m.encode(message), list(frames))

    def put(self, data):
        """Bytes as they are."""
        self.raw.setblocking(True)
        try:
            self.raw.sendall(data)
        except OSError:
            pass  # they may be enough for a refusal before the last of them
        self.raw.setblocking(False)

    def hear(self, kind, matching=lambda _: True):
        """The next message of a kind."""
        deadline = time.monotonic() + PATIENCE
        while True:
            for at, message in enumerate(self.got):
                if isinstance(message, kind) and matching(message):
                    del self.got[at]
                    return message
            assert time.monotonic() < deadline, f"no {kind.__name__} came; heard {self.got}"
            if not self.channel.has_unseen():
                select.select([self.channel], [], [], 0.1)
            for header, _ in self.channel.receive():
                self.got.append(self.decode(bytes(header)))

    def is_dismissed(self):
        """Whether the controller closes the connection."""
        try:
            self.hear(type(None))
        except ChannelClosed:
            return True
        return False

    def close(self):
        self.channel.close(0)


@pytest.fixture
def rc(sturdy):
    yield sturdy.rc
    sturdy.assert_works()
    assert sturdy.rc.ids == [0, 1]
    # Dropped because it is known to be wrong, not because something went wrong.
    assert "could not be handled" not in sturdy.cluster.controller.get_output()


@pytest.fixture
def peer(sturdy):
    made = []

    def make(port, transport="ipc", hello=True):
        one = Peer(sturdy, port, transport)
        made.append(one)
        if hello:
            one.say(one.hello)
            one.welcome = one.hear(m.Welcome)
        return one

    yield make
    for one in made:
        one.close()
    # Engines of a test are gone before the next one looks.
    deadline = time.monotonic() + PATIENCE
    while sturdy.rc.ids != [0, 1] and time.monotonic() < deadline:
        time.sleep(0.005)


def rejected(rc):
    return rc.link.ask("statistics")["rejected"]


PORTS = pytest.mark.parametrize("port", ["client", "engine"])
TRANSPORTS = pytest.mark.parametrize("transport", ["ipc", "tcp"])


class TestBytes:
    @PORTS
    @pytest.mark.parametrize(
        "data",
        [
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"\0" * 100,
            os.urandom(5000),
            PREFIX.pack(MAGIC ^ 0xFF, 0, 4) + b"abcd",
            PREFIX.pack(MAGIC, 0, 0xFFFFFFFF),
            PREFIX.pack(MAGIC, 0xFFFFFFFF, 1),
            PREFIX.pack(MAGIC, 1, 4) + struct.pack("<Q", 2**63) + b"abcd",
            PREFIX.pack(MAGIC, 3, 4) + struct.pack("<3Q", 2**39, 2**39, 2**39) + b"abcd",
        ],
        ids=["http", "zeros", "noise", "wrong magic", "long header", "many frames", "long frame", "terabytes"],
    )
    def test_garbage(self, rc, peer, port, data):
        stranger = peer(port, hello=False)
        stranger.put(data)
        rc[:].apply_async(int).get(PATIENCE)

    @PORTS
    def test_garbage_after_a_proper_hello(self, rc, peer, port):
        stranger = peer(port)
        stranger.put(os.urandom(1000))
        assert stranger.is_dismissed()

    @PORTS
    def test_half_a_message(self, rc, peer, port):
        whole = m.encode(HELLOS[port])
        for cut in (1, 5, 11, len(whole)):
            stranger = peer(port, hello=False)
            stranger.put((PREFIX.pack(MAGIC, 0, len(whole)) + whole)[:cut])
            rc[:].apply_async(int).get(PATIENCE)
            stranger.close()

    @PORTS
    def test_nothing_at_all(self, rc, peer, port):
        for _ in range(20):
            peer(port, hello=False).close()
        silent = [peer(port, hello=False) for _ in range(20)]
        rc[:].apply_async(int).get(PATIENCE)
        assert silent

    def test_half_a_large_message_and_then_the_end(self, rc, peer):
        client = peer("client")
        client.put(PREFIX.pack(MAGIC, 1, 4) + struct.pack("<Q", 1 << 30) + b"head" + bytes(1 << 20))
        client.close()


class TestMessages:
    @PORTS
    @TRANSPORTS
    @pytest.mark.parametrize(
        "message",
        [
            b"",
            b"\x00",
            b"not msgpack at all",
            msgspec.msgpack.encode({"type": "no such message"}),
            msgspec.msgpack.encode([1, 2, 3]),
            msgspec.msgpack.encode({"type": "client-hello"}),
            msgspec.msgpack.encode({"type": "client-hello", "version": "one"}),
            msgspec.msgpack.encode({"type": "engine-hello", "version": [1]}),
            b"\x91" * 5000,
            msgspec.msgpack.encode({"type": "submit", "tasks": 7}),
        ],
        ids=[
            "empty",
            "nil",
            "text",
            "unknown",
            "a list",
            "no fields",
            "wrong type",
            "wrong type too",
            "deep",
            "no tasks",
        ],
    )
    def test_what_cannot_be_understood_is_refused(self, rc, peer, port, transport, message):
        before = rejected(rc)
        stranger = peer(port, transport, hello=False)
        stranger.say(message)
        assert stranger.hear(m.Refused).kind == "Refused"
        assert rejected(rc) == before + 1

    @pytest.mark.parametrize("port", ["client", "engine", "nanny"])
    @TRANSPORTS
    def test_another_version_is_refused(self, rc, peer, port, transport):
        stranger = peer(port, transport, hello=False)
        stranger.say(msgspec.structs.replace(HELLOS[port], version=m.VERSION + 1))
        refused = stranger.hear(m.Refused)
        assert refused.kind == "VersionMismatch"
        assert f"version {m.VERSION + 1}" in refused.reason
        assert f"version {m.VERSION}" in refused.reason

    @TRANSPORTS
    @pytest.mark.parametrize(
        ("port", "message"),
        [
            ("client", m.Submit([])),
            ("client", m.Query(1, "statistics")),
            ("client", m.Shutdown(1, [0, 1], controller=True)),
            ("engine", m.Done([])),
            ("engine", m.EngineExited("x", 1, 0)),
            ("engine", m.Ping(1)),
        ],
    )
    def test_strangers_are_asked_to_say_hello(self, rc, peer, port, transport, message):
        stranger = peer(port, transport, hello=False)
        stranger.say(message)
        assert "say hello first" in stranger.hear(m.Refused).reason

    @pytest.mark.parametrize(
        ("port", "message"),
        [
            ("client", HELLO),
            ("engine", m.EngineExited("x", 1, 0)),
            ("engine", ENGINE_HELLO),
            ("nanny", m.Done([])),
            ("nanny", m.EngineHello(m.VERSION, "x", 1, "y")),
        ],
    )
    def test_the_words_of_another_role_are_dropped(self, rc, peer, port, message):
        before = rejected(rc)
        one = peer(port)
        one.say(message, m.Ping(7))
        assert one.hear(m.Pong).number == 7
        assert rejected(rc) == before + 1

    def test_clients_words_do_not_count_on_the_engines_port(self, rc, peer):
        before = rejected(rc)
        stranger = peer("engine", hello=False)
        stranger.say(HELLO)
        assert stranger.hear(m.Refused)
        engine = peer("engine")
        engine.say(m.Shutdown(1, [0, 1], controller=True), m.Ping(3))
        assert engine.hear(m.Pong).number == 3
        assert rejected(rc) == before + 2

    def test_who_was_refused_is_not_heard_any_more(self, rc, peer):
        clients = rc.link.ask("statistics")["clients"]
        stranger = peer("client", hello=False)
        whole = b"".join(
            PREFIX.pack(MAGIC, 0, len(text)) + text
            for text in (b"garbage", m.encode(HELLO), m.encode(m.Query(1, "statistics")))
        )
        stranger.put(whole)
        assert stranger.hear(m.Refused)
        assert stranger.is_dismissed()
        assert rc.link.ask("statistics")["clients"] == clients


def task(number, function=None, frames=0, payload=None):
    payload = pack_call((), {})[0] if payload is None else payload
    return m.Task(number, m.Action.APPLY, function.digest if function else b"", payload, frames)


class TestForgery:
    @pytest.fixture
    def client(self, peer):
        return peer("client")

    @pytest.fixture
    def function(self, client):
        packed = pack_function(int)
        client.say(m.Functions({packed.digest: packed.body}))
        return packed

    @pytest.fixture
    def base(self, client):
        return client.welcome.number << m.CLIENT_SHIFT

    def test_tasks_of_another_client(self, rc, client, function, base):
        result = rc[0].apply_async(time.sleep, 0.2)
        mine = rc.link.number << m.CLIENT_SHIFT
        client.say(
            m.Submit([task(mine + 5_000_000, function), task(0, function)]),
            m.Direct([m.Request([0], task(mine + 6_000_000, function))]),
            m.Abort([result._first, mine + 7_000_000], interrupt=True),
            m.Submit([task(base, function)]),
        )
        assert unpack(client.hear(m.Results).results[0].payload) == 0
        assert result.get(PATIENCE) is None

    def test_ids_used_twice(self, rc, client, function, base):
        client.say(m.Submit([task(base + 3, function), task(base + 3, function), task(base + 4, function)]))
        client.say(m.Submit([task(base + 3, function)]), m.Direct([m.Request([0, 1], task(base + 3, function))]))
        client.say(m.Submit([task(base + 9, function)]))
        got = []
        while not {base + 3, base + 4, base + 9} <= set(got):
            got += [result.id for result in client.hear(m.Results).results]
        client.say(m.Direct([m.Request([0, 1], task(base + 10, function))]))  # behind all that is still under way
        while not {base + 10, base + 11} <= set(got):
            got += [result.id for result in client.hear(m.Results).results]
        assert len(got) == 5

    def test_out_of_order(self, rc, client, function, base):
        client.say(m.Submit([task(base + 8, function)]), m.Submit([task(base + 2, function), task(base + 5, function)]))
        got = set()
        while len(got) < 3:
            got |= {result.id - base for result in client.hear(m.Results).results}
        assert got == {2, 5, 8}

    @pytest.mark.parametrize(
        "wrong",
        [
            {"id": -1},
            {"id": 2**64 - 1},
            {"frames": -1},
            {"frames": 2**40},
            {"action": "run"},
            {"payload": "text"},
        ],
        ids=str,
    )
    def test_values_out_of_range(self, rc, client, function, base, wrong):
        before = rejected(rc)
        values = {"id": base, "action": 0, "function": function.digest, "payload": NONE, "frames": 0} | wrong
        client.say(msgspec.msgpack.encode({"type": "submit", "tasks": [list(values.values())]}))
        client.say(m.Ping(1))
        assert client.hear(m.Pong)
        assert rejected(rc) == before + 1

    def test_frames_that_are_not_there(self, rc, client, function, base):
        before = rejected(rc)
        client.say(m.Submit([task(base, function, frames=2)]))
        client.say(m.Submit([task(base + 1, function, frames=2)]), frames=[b"one"])
        client.say(m.Submit([task(base + 2, function)]), frames=[b"one"])
        client.say(m.Direct([m.Request([0], task(base + 3, function, frames=1))]))
        client.say(m.Ping(1))
        assert client.hear(m.Pong)
        assert rejected(rc) == before + 4

    def test_actions_and_functions_that_do_not_exist(self, rc, client, function, base):
        client.say(
            m.Submit(
                [
                    m.Task(base, 99, function.digest, NONE),
                    m.Task(base + 1, m.Action.APPLY, b"", NONE),
                    m.Task(base + 2, m.Action.MAP, function.digest, b"no pickle"),
                    m.Task(base + 3, m.Action.EXECUTE, b"", NONE),
                    m.Task(base + 4, m.Action.APPLY, function.digest, b"\x80\x05garbage."),
                ]
            ),
            m.Direct([m.Request([0, 1], m.Task(base + 5, m.Action.PUSH, b"", pack_call((1,), {})[0]))]),
        )
        got = {}
        while len(got) < 7:
            got.update((result.id - base, result) for result in client.hear(m.Results).results)
        assert all(result.status for result in got.values())

    def test_bodies_that_are_no_functions(self, rc, client, base):
        client.say(m.Functions({b"digest": b"garbage", b"other": NONE}))
        client.say(m.Submit([m.Task(base, 0, b"digest", NONE), m.Task(base + 1, 0, b"other", pack_call((), {})[0])]))
        got = {}
        while len(got) < 2:
            got.update((result.id - base, result) for result in client.hear(m.Results).results)
        assert all(result.status == m.Status.ERROR for result in got.values())

    def test_functions_nobody_has(self, rc, client, base):
        client.say(m.Submit([m.Task(base, 0, b"unheard of", NONE)]))
        assert client.hear(m.Missing).digests == [b"unheard of"]
        rc[:].apply_async(int).get(PATIENCE)

    def test_engines_that_do_not_exist(self, rc, client, function, base):
        client.say(m.Direct([m.Request([99], task(base, function))]))
        assert "not registered" in client.hear(m.Results).results[0].fault.evalue
        client.say(m.Direct([m.Request([], task(base + 1, function))]), m.Signal(1, [99, -5], 2), m.Shutdown(2, [99]))
        assert "99" in client.hear(m.Answer, lambda a: a.number == 1).error or True
        assert client.hear(m.Answer, lambda a: a.number == 2)

    @pytest.mark.parametrize("name", ["why", "story", "queue_status", "statistics", "nothing", ""])
    @pytest.mark.parametrize(
        "arguments", [{}, {"task": "x"}, {"tasks": ["x", None]}, {"targets": ["x"]}, {"targets": [[]]}], ids=str
    )
    def test_odd_questions(self, rc, client, name, arguments):
        client.say(m.Query(5, name, arguments))
        assert client.hear(m.Answer).number == 5

    def test_segments_outside_of_the_folder(self, rc, client, function, base):
        segments = [m.Segment(0, name, 100) for name in ("../../etc/passwd", "/etc/passwd", "", "c1-99999")]
        for at, segment in enumerate(segments):
            client.say(m.Submit([m.Task(base + at, 0, function.digest, NONE, 0, None, [segment])]))
        got = {}
        while len(got) < len(segments):
            got.update((result.id - base, result) for result in client.hear(m.Results).results)
        assert all(result.status for result in got.values())
        client.say(m.Release(["../../etc/passwd", ""]), m.Ping(1))
        assert client.hear(m.Pong)


class TestForgedEngines:
    def test_results_of_tasks_it_does_not_hold(self, rc, peer):
        engine = peer("engine")
        result = rc[0].apply_async(lambda: time.sleep(0.2) or "true")
        time.sleep(0.05)
        forged = m.Result(result._first, m.Status.OK, NONE, 0, 1.0, 2.0)
        engine.say(
            m.Done([forged, forged]), m.Said([m.Output(result._first, "stdout", "false")]), m.Returned([result._first])
        )
        engine.say(m.Missing([b"x"]), m.Ping(1))
        assert engine.hear(m.Pong)
        assert result.get(PATIENCE) == "true"
        assert result.stdout == ""

    def test_results_twice(self, rc, peer):
        engine = peer("engine")
        number = engine.welcome.number
        assert rc.link.wait_for(lambda: number in rc.ids, PATIENCE)
        result = rc[number].apply_async(abs, -1)
        held = engine.hear(m.Assign).tasks[0]
        done = m.Result(held.id, m.Status.OK, NONE, 0, 1.0, 2.0)
        engine.say(m.Done([done]), m.Done([done, done]))
        assert result.get(PATIENCE) is None
        engine.say(m.Bye("enough"))

    def test_one_that_takes_tasks_and_hangs_up(self, rc, peer):
        engine = peer("engine")
        number = engine.welcome.number
        assert rc.link.wait_for(lambda: number in rc.ids, PATIENCE)
        result = rc[number].apply_async(abs, -1)
        engine.hear(m.Assign)
        engine.close()
        assert f"Engine {number}" in str(result.exception(PATIENCE))
        assert rc.link.wait_for(lambda: rc.ids == [0, 1], PATIENCE)

    def test_ids_far_out(self, rc, peer):
        stranger = peer("engine", hello=False)
        stranger.say(msgspec.structs.replace(ENGINE_HELLO, id=2**63))
        assert stranger.hear(m.Refused)
        for wanted in (-5, 2**31):
            stranger = peer("engine", hello=False)
            stranger.say(msgspec.structs.replace(ENGINE_HELLO, id=wanted))
            assert stranger.hear(m.Refused)

    def test_news_of_engines_it_does_not_watch(self, rc, peer):
        nanny = peer("nanny")
        nanny.say(m.EngineExited("no such engine", 1, -9), m.EngineExited("", 0, 0), m.Ping(1))
        assert nanny.hear(m.Pong)
