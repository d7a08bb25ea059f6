"""The life of a client's connection, against a controller that says whatever a test wants."""

from __future__ import annotations

import logging
import threading
import time

import msgspec
import pytest
from real_link import ENGINE, Sink, connect, task

from enginery.client import connection as connection_module
from enginery.client.link import Link
from enginery.errors import ConnectionLost, Refused, VersionMismatch
from enginery.net.channel import ChannelClosed
from enginery.net.connection_file import ConnectionInfo
from enginery.net.routed import RoutedChannel
from enginery.wire import messages as m
from fake_controller import PATIENCE, FakeController


@pytest.fixture
def controller():
    controller = FakeController()
    yield controller
    controller.close()


@pytest.fixture
def link(controller):
    link = connect(controller, engines=[ENGINE])
    yield link
    link.close()


class TestConnecting:
    def test_welcome(self, controller):
        link = connect(controller, number=5, engines=[ENGINE])
        assert link.number == 5
        assert link.engines == {0: ENGINE}
        assert link.take_id() >> m.CLIENT_SHIFT == 5
        link.close()

    @pytest.mark.parametrize(("kind", "error"), [("VersionMismatch", VersionMismatch), ("Refused", Refused)])
    def test_refusals(self, controller, kind, error):
        def refuse():
            controller.expect(m.ClientHello)
            controller.say(m.Refused(kind, "for this reason"))

        with pytest.raises(error, match="refused this client: for this reason"):
            connect(controller, refuse)

    def test_no_answer(self, controller):
        with pytest.raises(TimeoutError, match=r"Nothing answered within 0.05 s.*ipcluster list"):
            connect(controller, lambda: None, timeout=0.05)

    def test_the_end_instead_of_an_answer(self, controller):
        def leave():
            controller.expect(m.ClientHello)
            controller.hang_up()

        with pytest.raises(ConnectionLost, match="closed by the other side"):
            connect(controller, leave)

    def test_nobody_is_there(self, controller):
        controller.listener.close()
        with pytest.raises(TimeoutError, match=r"Nobody listens.*is gone"):
            Link.connect(controller.info)


class TestNews:
    def test_engines_come_and_go(self, controller, link):
        told = []
        link.add_news_callback(lambda joined, left: told.append(([e.id for e in joined], [d.id for d in left])))
        before = link.engines
        controller.say(m.News([m.EngineInfo(4, "u4", 1, "h")], [m.Departure(0, "uuid", "reason")]))
        assert link.wait_for(lambda: list(link.engines) == [4], PATIENCE)
        assert list(before) == [0]
        assert link.wait_for(lambda: told == [([4], [0])], PATIENCE)

    def test_what_cannot_be_understood_is_dropped(self, controller, link, caplog):
        with caplog.at_level(logging.WARNING, "enginery.client"):
            controller.say(
                b"garbage", msgspec.msgpack.encode({"type": "new-kind"}), m.encode(m.ClientHello(1, "", 1, "", ""))
            )
            controller.say(m.Ping(8))
            assert controller.expect(m.Pong).number == 8
        assert len([record for record in caplog.records if "could not be understood" in record.message]) == 3

    def test_signs_of_life(self, controller):
        link = connect(controller, period=0.02)
        for _ in range(3):
            controller.expect(m.Ping)
            controller.say(m.Pong(0))
        link.close()


class TestTheEnd:
    @pytest.mark.parametrize("how", ["goodbye", "hang up", "garbage", "refusal", "silence"])
    def test_whoever_waits_hears_of_it(self, controller, how, monkeypatch):
        monkeypatch.setattr(connection_module, "MISSES", 3)
        link = connect(controller, period=0.02 if how == "silence" else 3.0)
        sinks = [Sink(), Sink()]
        for sink in sinks:
            link.submit(task(link), [], sink)
        outcomes = []

        def wait():
            try:
                link.wait_for(lambda: False, PATIENCE)
            except ConnectionLost as error:
                outcomes.append(str(error))

        threads = [threading.Thread(target=wait) for _ in range(3)]
        for thread in threads:
            thread.start()
        controller.expect(m.Submit)
        match how:
            case "goodbye":
                controller.say(m.Bye("The controller was stopped: enough."))
            case "hang up":
                controller.hang_up()
            case "garbage":
                controller.streams[-1]._socket.send(b"this is no message")
            case "refusal":
                controller.say(m.Refused("ConnectionLost", "This controller does not know you"))
        for thread in threads:
            thread.join(PATIENCE)
        assert len(set(outcomes)) == 1
        assert len(outcomes) == 3
        assert outcomes[0].endswith("Connect a new Client once a controller is running.")
        for sink in sinks:
            assert sink.over.wait(PATIENCE)
            assert sink.results[0][0].fault.kind == "ConnectionLost"
        with pytest.raises(ConnectionLost):
            link.submit(task(link), [], Sink())
        link.close()

    def test_closing_says_goodbye_after_everything_else(self, controller, link):
        sink = Sink()
        link.submit(task(link), [], sink)
        link.close()
        assert controller.expect(m.Submit)
        assert controller.expect(m.Bye)
        assert link.closed
        assert sink.results[0][0].fault.kind == "ConnectionLost"
        link.close()

    def test_who_waits_gets_the_reason_however_the_threads_run(self, controller):
        for _ in range(20):
            link = connect(controller)
            outcomes = []

            def wait(link=link, outcomes=outcomes):
                try:
                    outcomes.append(link.wait_for(lambda: False))
                except ConnectionLost as error:
                    outcomes.append("closed" in str(error))

            threads = [threading.Thread(target=wait) for _ in range(3)]
            for thread in threads:
                thread.start()
            link.close()
            for thread in threads:
                thread.join(PATIENCE)
            assert outcomes == [True] * 3

    def test_own_sleep_is_not_the_controllers_silence(self, controller, link):
        link._heard -= 1000
        link._next_ping = time.monotonic() - 1000
        link._wake()
        controller.expect(m.Ping)
        controller.say(m.Ping(1))
        controller.expect(m.Pong)


class TestComingBack:
    def test_a_refusal_that_answers_no_hello_is_a_lost_connection(self, controller):
        """As when libzmq has reconnected by itself: another controller in that place does not know who speaks."""
        link = connect(controller, patience=PATIENCE, returns=True)
        try:
            controller.say(m.Refused("ConnectionLost", "say hello first"))
            hello = controller.expect(m.ClientHello)
            assert (hello.client, hello.token) == (3, "token")
            controller.say(m.Welcome(3, "token", 1, 3.0, resumed=True, patience=PATIENCE))
            assert link.wait_for(lambda: not link.trouble(), PATIENCE)
        finally:
            link.close()

    def test_a_refusal_that_answers_a_hello_is_the_end(self, controller):
        link = connect(controller, patience=PATIENCE, returns=True)
        try:
            controller.hang_up()
            controller.expect(m.ClientHello)
            controller.say(m.Refused("ConnectionLost", "you were given up"))
            with pytest.raises(ConnectionLost, match="given up"):
                link.wait_for(lambda: False, PATIENCE)
        finally:
            link.close()


def test_a_controller_that_hangs_up_at_once(monkeypatch):
    """As one does that wants encryption, from whoever knows of none."""

    def fail(channel, *_args):
        raise ChannelClosed("the handshake failed")

    monkeypatch.setattr(RoutedChannel, "send", fail)
    info = ConnectionInfo(kind="client", url="tcp://127.0.0.1:9", exec_key="k" * 32)
    with pytest.raises(
        ConnectionLost, match=r"tcp://127\.0\.0\.1:9 hung up at once: the handshake failed\. Is it running"
    ):
        Link.connect(info)
