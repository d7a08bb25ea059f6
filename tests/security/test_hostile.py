"""Peers that mean harm, one test for each row of the threat model: cut off with a reason, and others notice nothing."""

from __future__ import annotations

import contextlib
import select
import socket
import struct

import pytest

import enginery as ipp
from enginery.client.client import Client
from enginery.client.link import Link
from enginery.errors import Refused
from enginery.net.channel import ChannelClosed
from enginery.net.connection_file import ConnectionInfo
from enginery.net.curve import KeyPair, has_curve
from enginery.net.stream import MAGIC
from enginery.wire import messages as m
from enginery.wire.serialize import NONE
from security.conftest import MANY, PATIENCE
from security.peers import peer

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not has_curve(), reason="this libzmq has no CURVE")]

PREFIX = struct.Struct("<HII")


def other_key(info):
    pair = KeyPair.make()
    wrong = {"public_key": pair.public, "secret_key": pair.secret} if info.server_key else {"exec_key": "f" * 64}
    return {**info.to_dict(), **wrong}


def are_closed(ends):
    """Wait until all are closed from the other side."""
    for end in ends:
        with contextlib.suppress(ConnectionResetError), end:
            while end.recv(1000):
                pass


def leave(engine, fortress):
    fortress.wait_until(lambda: engine.welcome.number in fortress.rc.ids)
    engine.say(m.Bye())
    fortress.wait_until(lambda: fortress.rc.ids == [0, 1])


class TestKeys:
    def test_a_wrong_key(self, fortress):
        with pytest.raises((ConnectionError, TimeoutError)):
            Client(other_key(fortress.info["client"]), timeout=PATIENCE)
        fortress.wait_for_log("does not open")

    def test_no_key(self, fortress):
        plain = fortress.info["client"].to_dict()
        for name in ("server_key", "public_key", "secret_key", "exec_key"):
            plain[name] = ""
        with pytest.raises((ConnectionError, TimeoutError)):
            Client(plain, timeout=1)

    @pytest.mark.parametrize(("mine", "port"), [("engine", "client"), ("client", "engine")])
    def test_the_key_of_the_other_port(self, fortress, mine, port):
        keys = {name: getattr(fortress.info[mine], name) for name in ("public_key", "secret_key", "exec_key")}
        info = ConnectionInfo.from_dict({**fortress.info[port].to_dict(), **keys})
        with pytest.raises(ChannelClosed), peer(info, hello=False) as one:
            one.hello()

    @pytest.mark.parametrize(
        ("mine", "port"), [("engine", "client"), ("client", "engine"), ("", "client"), ("", "engine")]
    )
    def test_on_this_host_too(self, fortress, mine, port):
        info = fortress.over_ipc(port)
        with peer(info, hello=False) as one:
            one.key = fortress.info[mine].exec_key if mine else "guessed"
            with contextlib.suppress(ChannelClosed):
                one.hello()
                pytest.fail("it was let in")
            assert one.hear(m.Refused).kind == "Refused"

    def test_another_version(self, fortress):
        with peer(fortress.info["client"], hello=False) as one:
            one.say(m.ClientHello(m.VERSION + 7, "s", 1, "h", "u", key=one.key))
            refused = one.hear(m.Refused)
            assert refused.kind == "VersionMismatch"
            assert f"version {m.VERSION + 7}" in refused.reason

    def test_somebody_who_does_not_say_hello(self, fortress):
        with peer(fortress.info["engine"], hello=False) as one:
            one.say(m.Done([m.Result(1, m.Status.OK, NONE)]))
            assert "say hello first" in one.hear(m.Refused).reason
            assert one.is_cut_off()


class TestForgery:
    def test_results_of_another_engines_task(self, fortress):
        result = fortress.rc[0].apply_async(eval, "__import__('time').sleep(0.3) or 'true'")
        with peer(fortress.info["engine"]) as engine:
            forged = m.Result(result._first, m.Status.OK, NONE, 0, 1.0, 2.0)
            engine.say(m.Done([forged]), m.Said([m.Output(result._first, "stdout", "false")]), m.Ping(3))
            engine.hear(m.Pong)
            assert result.get(PATIENCE) == "true"
            assert result.stdout == ""
            leave(engine, fortress)

    def test_the_id_of_another_engine(self, fortress):
        with peer(fortress.info["engine"], hello=False) as engine:
            engine.say(m.EngineHello(m.VERSION, "e", 1, "h", id=0, key=engine.key))
            engine.welcome = engine.hear(m.Welcome)
            assert engine.welcome.number not in {0, 1}
            leave(engine, fortress)

    def test_news_of_another_nannys_engine(self, fortress):
        uuids = [info.uuid for info in fortress.rc.link.engines.values()]
        with peer(fortress.info["engine"], hello=False) as nanny:
            nanny.say(m.NannyHello(m.VERSION, 1, "h", [], nanny.key))
            nanny.hear(m.Welcome)
            nanny.say(*[m.EngineExited(uuid, 1, -9) for uuid in uuids], m.Ping(1))
            nanny.hear(m.Pong)
        fortress.assert_works()

    def test_an_engine_that_wants_to_be_a_client(self, fortress):
        with peer(fortress.info["engine"]) as engine:
            engine.say(m.encode(m.Shutdown(1, [0, 1], controller=True)), m.encode(m.Query(1, "key_list")), m.Ping(1))
            engine.hear(m.Pong)
            leave(engine, fortress)

    def test_nonsense_again_and_again(self, fortress):
        before = fortress.log()
        with peer(fortress.info["client"]) as one:
            for _ in range(12):
                one.say(b"nonsense")
            assert one.is_cut_off()
        fortress.wait_for_log("made no sense", before)


class TestFloods:
    """Connections, bytes, and messages that nobody reads."""

    def test_connections_that_say_nothing(self, fortress):
        (url,) = [url for url in fortress.over_ipc("client").urls if url.startswith("ipc://")]
        before = fortress.log()
        silent = [fortress.knock(kind) for _ in range(3 * MANY) for kind in ("client", "engine")]
        for _ in range(3 * MANY):
            silent.append(socket.socket(socket.AF_UNIX))
            silent[-1].settimeout(PATIENCE)
            silent[-1].connect(url.removeprefix("ipc://"))
        fortress.assert_works()
        are_closed(silent)
        assert fortress.log().count("had not said hello") > before.count("had not said hello")

    def test_connections_that_speak_something_else(self, fortress):
        said = b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100, b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(60)
        strangers = [fortress.knock() for _ in range(MANY)]
        for at, each in enumerate(strangers):
            with contextlib.suppress(OSError):
                each.sendall(said[at % 3])
        fortress.assert_works()
        are_closed(strangers)

    def test_more_than_a_stranger_may_say(self, fortress):
        (url,) = [url for url in fortress.over_ipc("client").urls if url.startswith("ipc://")]
        for data in (PREFIX.pack(MAGIC, 0, 2 << 20), PREFIX.pack(MAGIC, 1, 4) + struct.pack("<Q", 10) + b"head"):
            with socket.socket(socket.AF_UNIX) as end:
                end.settimeout(PATIENCE)
                end.connect(url.removeprefix("ipc://"))
                end.sendall(data)
                assert end.recv(100) == b""

    def test_an_oversize_frame(self, fortress):
        with peer(fortress.info["client"]) as one:
            one.say(m.Submit([]), frames=[bytes(60_000_000)])
            assert one.is_cut_off()
        with peer(fortress.over_ipc("client")) as one:
            one.channel._socket.sendall(PREFIX.pack(MAGIC, 1, 4) + struct.pack("<Q", 60_000_000) + b"head")
            assert one.is_cut_off()

    def test_a_message_that_ends_early(self, fortress):
        with peer(fortress.over_ipc("client")) as one:
            one.channel._socket.sendall(PREFIX.pack(MAGIC, 1, 4) + struct.pack("<Q", 1000) + b"head" + bytes(10))
        with peer(fortress.info["client"]) as one:
            number = one.welcome.number << m.CLIENT_SHIFT
            one.say(m.Submit([m.Task(number, m.Action.PULL, b"", NONE, frames=3)]), frames=[b"x"])
            one.say(m.Ping(1))
            one.hear(m.Pong)

    @pytest.mark.parametrize("way", ["over_tcp", "over_ipc"])
    def test_one_who_does_not_read(self, fortress, way):
        info = getattr(fortress, way)("client")
        before = fortress.log()
        with peer(info) as one:
            # The answers are larger than the questions: they pile up at the controller.
            try:
                one.say(*[m.Query(1, "why", {"tasks": [1] * 100})] * 4000)
            except ChannelClosed:
                pass  # it was cut off while it spoke
            with contextlib.suppress(ChannelClosed):
                while one.channel.wants_write:
                    select.select([], [one.channel], [], PATIENCE)
                    one.channel.write()
            fortress.wait_for_log("cut off: it has not read", before)
            fortress.wait_for_log(f"client={one.welcome.number} left")
            assert fortress.log().count("cut off: it has not read") == before.count("cut off: it has not read") + 1
            fortress.assert_works()


def soon_over(key):
    """A client whose key ends soon: as soon as this machine takes to connect it."""
    for seconds in (0.5, 2, 8, 30):
        _, info = key("submit", seconds)
        with contextlib.suppress(ConnectionError, TimeoutError):
            return Client(info, timeout=PATIENCE), info
    pytest.fail("nobody got in with a key that holds for 30 s")


class TestScopes:
    @pytest.fixture(params=["over_tcp", "over_ipc"])
    def key(self, request, fortress):
        """Makes a key, and gives its connection info."""

        def make(scope, seconds=0.0):
            made = fortress.rc.link.ask("key_create", {"scope": scope, "seconds": seconds})
            plain = made["connection"]
            wanted = [url for url in plain["urls"] if url.startswith("tcp" if request.param == "over_tcp" else "ipc")]
            return made["key"]["name"], {**plain, "urls": wanted}

        return make

    def test_watch(self, fortress, key):
        _, info = key("watch")
        with Client(info, timeout=PATIENCE) as rc:
            assert rc.ids == [0, 1]
            assert set(rc.queue_status()) == {0, 1, "unassigned"}
            with pytest.raises(Refused, match="needs a key of scope 'submit'"):
                rc[0].apply_async(abs, -1).get(PATIENCE)
            with pytest.raises(Refused, match="needs a key of scope 'submit'"):
                rc.load_balanced_view().apply_async(abs, -1).get(PATIENCE)
            for wrong in (
                lambda: rc.shutdown(hub=True),
                lambda: rc.send_signal("SIGKILL"),
                lambda: rc.link.ask("key_list"),
            ):
                with pytest.raises(ValueError, match="needs a key of scope 'admin'"):
                    wrong()

    def test_submit(self, fortress, key):
        _, info = key("submit")
        with Client(info, timeout=PATIENCE) as rc:
            assert rc[:].apply_async(abs, -1).get(PATIENCE) == [1, 1]
            for wrong in (lambda: rc.shutdown(hub=True), lambda: rc.link.ask("key_rotate")):
                with pytest.raises(ValueError, match="needs a key of scope 'admin'"):
                    wrong()

    def test_engine(self, fortress, key):
        _, info = key("engine")
        with pytest.raises((ConnectionError, ValueError)):
            Client(info, timeout=PATIENCE)
        with peer(ConnectionInfo.from_dict(info)) as engine:
            assert engine.welcome.number > 1
            leave(engine, fortress)

    def test_the_end_of_a_key(self, fortress, key):
        rc, info = soon_over(key)
        with rc, pytest.raises(ipp.ConnectionLost, match="has expired"):
            rc.link.wait_for(lambda: False, PATIENCE)
        with pytest.raises((ConnectionError, TimeoutError)):
            Client(info, timeout=PATIENCE)

    def test_a_revoked_key(self, fortress, key):
        name, info = key("submit")
        with Client(info, timeout=PATIENCE) as rc:
            assert rc[0].apply_async(abs, -1).get(PATIENCE) == 1
            fortress.rc.link.ask("key_revoke", {"name": name})
            with pytest.raises(ipp.ConnectionLost, match="was revoked"):
                rc.link.wait_for(lambda: False, PATIENCE)
        with pytest.raises((ConnectionError, TimeoutError)):
            Client(info, timeout=PATIENCE)

    @pytest.mark.parametrize(
        ("question", "arguments", "why"),
        [
            ("key_create", {"scope": "god"}, "the scope has to be one of"),
            ("key_create", {}, "the scope has to be one of"),
            ("key_create", {"scope": ["watch"]}, "the scope has to be one of"),
            ("key_create", {"scope": "watch", "seconds": -1}, "number of seconds"),
            ("key_create", {"scope": "watch", "seconds": float("nan")}, "number of seconds"),
            ("key_revoke", {"name": "nobody"}, "there is no key"),
            ("key_revoke", {"name": "client"}, "key rotate"),
        ],
    )
    def test_what_cannot_be_asked(self, fortress, question, arguments, why):
        with pytest.raises(ValueError, match=why):
            fortress.rc.link.ask(question, arguments)

    def test_new_keys_in_place_of_old_ones(self, fortress):
        old = fortress.info["client"]
        fortress.rc.link.ask("key_rotate")
        fortress.assert_works()  # who is connected finishes
        with pytest.raises((ConnectionError, TimeoutError)):
            Link.connect(old, timeout=PATIENCE)
        fortress.info = {kind: fortress.over_tcp(kind) for kind in ("client", "engine")}
        with Client(fortress.info["client"], timeout=PATIENCE) as rc:
            assert rc[:].apply_async(abs, -1).get(PATIENCE) == [1, 1]
