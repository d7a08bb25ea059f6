"""The controller's loop with real sockets: peers come, speak, stall and go, and one fault costs one message."""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import tempfile
import threading
from collections import deque
from pathlib import Path

import pytest

from enginery.controller.loop import Loop
from enginery.controller.ports import Port
from enginery.controller.server import Server
from enginery.core.scheduler import Scheduler
from enginery.net.channel import ChannelClosed
from enginery.net.signals import SignalWatch
from enginery.net.sockets import listen_on_path
from enginery.net.stream import Stream
from enginery.wire import messages as m
from enginery.wire.serialize import NONE

PATIENCE = 20
HELLO = m.ClientHello(m.VERSION, "s", 1, "h", "u")


class House:
    """A loop in this thread, and what others do meanwhile in another."""

    def __init__(self, folder) -> None:
        self.paths = {name: Path(folder, name) for name in ("clients", "engines")}
        self.ports = [Port(name, [], listen_on_path(path), None) for name, path in self.paths.items()]
        self.server = Server(
            Scheduler(random=random.Random(0)),
            clients=self.ports[0],
            engines=self.ports[1],
            welcome=m.Welcome(-1, "", 1, 3.0, 1 << 20),
            silence=30.0,
        )
        self.signals = SignalWatch()
        self.loop = Loop(self.server, self.ports, None, self.signals)
        self.failures = []

    def run(self, work):
        """Serve while ``work`` runs in another thread."""

        def safely():
            try:
                work()
            except BaseException as error:
                self.failures.append(error)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=safely)
        thread.start()
        reason = self.loop.run()
        thread.join()
        if self.failures:
            raise self.failures[0]
        return reason

    def dial(self, name="clients"):
        end = socket.socket(socket.AF_UNIX)
        end.connect(str(self.paths[name]))
        return Stream(end)


def say(stream, *messages, frames=()):
    for message in messages:
        stream.send(m.encode(message), list(frames))


def hear(stream, kind, decode=m.decode_to_client):
    """The next message of a kind; those before it are dropped, those after it kept."""
    inbox = vars(stream).setdefault("inbox", deque())
    while True:
        while inbox:
            message = inbox.popleft()
            if isinstance(message, kind):
                return message
        assert select.select([stream], [], [], PATIENCE)[0], "nothing came"
        inbox.extend(decode(bytes(header)) for header, _ in stream.receive())


@pytest.fixture
def house():
    with tempfile.TemporaryDirectory(prefix="eng-") as folder:
        house = House(folder)
        yield house
        house.signals.close()
        for port in house.ports:
            port.close(0.0)


def test_peers_are_heard_and_answered(house):
    def work():
        peers = [house.dial() for _ in range(5)]
        for peer in peers:
            say(peer, HELLO)
        assert sorted(hear(peer, m.Welcome).number for peer in peers) == [1, 2, 3, 4, 5]
        for peer in peers:
            say(peer, m.Ping(9))
            assert hear(peer, m.Pong).number == 9
            peer.close(0)

    assert house.run(work) == "signal SIGTERM"


def test_one_that_hangs_up_is_forgotten(house):
    def work():
        one, other = house.dial(), house.dial()
        say(one, HELLO)
        hear(one, m.Welcome)
        one.close(0)
        say(other, HELLO)
        hear(other, m.Welcome)
        while True:
            say(other, m.Query(1, "statistics"))
            if hear(other, m.Answer).value["clients"] == 1:
                break
        other.close(0)

    house.run(work)


def test_nobody_is_judged_by_what_was_not_read_yet(house, monkeypatch):
    """However long a turn takes: what is due is seen to as of the moment until which everybody was heard."""
    server, heard, looks = house.server, [], []
    hears, looks_around = server.hear, server.look_around
    monkeypatch.setattr(server, "next_deadline", lambda: 0.0)  # something is due in each turn

    def hear_slowly(*arguments):
        heard.append(arguments[-1])
        hears(*arguments)

    def look(now):
        looks.append((now, heard[:]))
        heard.clear()
        looks_around(now)

    monkeypatch.setattr(server, "hear", hear_slowly)
    monkeypatch.setattr(server, "look_around", look)

    def work():
        peer = house.dial()
        say(peer, HELLO)
        hear(peer, m.Welcome)
        peer.close(0)

    house.run(work)
    assert any(before for _, before in looks)
    assert all(now <= moment for now, before in looks for moment in before)


def test_garbage_is_the_end_of_its_sender_only(house):
    def work():
        good, bad = house.dial(), house.dial()
        say(good, HELLO)
        hear(good, m.Welcome)
        bad._socket.sendall(b"garbage! and more")
        with pytest.raises(ChannelClosed):
            hear(bad, m.Welcome)
        say(good, m.Ping(1))
        hear(good, m.Pong)
        good.close(0)
        bad.close(0)

    house.run(work)


def test_a_peer_that_does_not_read_keeps_nobody_waiting(house):
    def work():
        engine, slow, quick = house.dial("engines"), house.dial(), house.dial()
        say(engine, m.EngineHello(m.VERSION, "e", 1, "h"))
        hear(engine, m.Welcome, m.decode_to_engine)
        for client in (slow, quick):
            say(client, HELLO)
        first = hear(slow, m.Welcome).number << m.CLIENT_SHIFT
        hear(quick, m.Welcome)
        say(slow, m.Submit([m.Task(first, 4, b"", NONE)]))
        task = hear(engine, m.Assign, m.decode_to_engine).tasks[0]
        say(engine, m.Done([m.Result(task.id, 0, b"", 1, 1.0, 2.0)]), frames=[bytes(10 << 20)])
        while engine.wants_write:
            select.select([], [engine], [], PATIENCE)
            engine.write()
        for _ in range(20):
            say(quick, m.Ping(1))
            hear(quick, m.Pong)
        hear(slow, m.Results)  # all of it, now that it is read
        for each in (engine, slow, quick):
            each.close(0)

    house.run(work)


def test_a_fault_of_ours_costs_one_message(house, monkeypatch, caplog):
    monkeypatch.setattr(house.server.scheduler, "functions_arrived", lambda *args: 1 / 0)

    def work():
        client = house.dial()
        say(client, HELLO, m.Functions({}), m.Query(1, "statistics"))
        hear(client, m.Welcome)
        assert hear(client, m.Answer).value["rejected"] == 1
        client.close(0)

    house.run(work)
    assert "could not be handled" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_a_client_ends_it(house):
    def work():
        client = house.dial()
        say(client, HELLO, m.Shutdown(1, [], controller=True))
        hear(client, m.Answer)
        client.close(0)

    thread = threading.Thread(target=work)
    thread.start()
    assert house.loop.run() == "a client asked for it"
    thread.join()


def test_the_end_of_its_owner_ends_it(house):
    process = os.posix_spawn("/bin/sleep", ["sleep", "30"], {})
    house.loop.watch_owner(process)
    threading.Timer(0.05, os.kill, (process, signal.SIGKILL)).start()
    assert "owner" in house.loop.run()
    os.waitpid(process, 0)


def test_an_owner_that_is_gone_already(house):
    process = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(process, 0)
    house.loop.watch_owner(process)
    assert "owner" in house.loop.run()


def test_a_signal_from_before_the_loop_ends_it(house):
    os.kill(os.getpid(), signal.SIGTERM)
    assert house.loop.run() == "signal SIGTERM"
