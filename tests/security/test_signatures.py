"""Where nothing is encrypted, everything is signed: somebody between the two can read, and change nothing."""

from __future__ import annotations

import select
import threading

import pytest
import zmq

from enginery.client.client import Client
from enginery.net.channel import ChannelClosed
from enginery.net.routed import RoutedChannel
from enginery.net.signed import SignedChannel
from enginery.wire import messages as m
from security.conftest import PATIENCE
from security.peers import peer

pytestmark = pytest.mark.slow


class Recorder(SignedChannel):
    """Keeps what it has sent, as it went over the wire."""

    def __init__(self, info) -> None:
        self.sent = []
        inner = RoutedChannel(info, info.url)
        send = inner.send

        def record(header, frames):
            self.sent.append((header, list(frames)))
            send(header, frames)

        inner.send = record
        self.inner, self.put = inner, send
        super().__init__(inner, info.exec_key)


class TestSignatures:
    """Where there is no encryption, somebody may sit between the two."""

    @pytest.fixture
    def watched(self, signed):
        info = signed.info["client"]
        with peer(info, Recorder(info)) as one:
            one.say(m.Query(1, "statistics"))
            one.hear(m.Answer)
            yield one
        signed.assert_works()

    def test_a_repeated_message(self, watched, signed):
        watched.channel.put(*watched.channel.sent[-1])
        assert watched.is_cut_off()
        signed.wait_for_log("repeated, or reordered")

    def test_reordered_messages(self, watched, signed):
        seal = watched.channel._seal
        first, second = (seal.sign(m.encode(m.Query(n, "statistics")), []) for n in (2, 3))
        watched.channel.put(second, [])
        watched.channel.put(first, [])
        assert watched.is_cut_off()

    def test_a_changed_message_and_a_changed_buffer(self, signed):
        info = signed.info["client"]
        for harm in ("header", "frame", "one frame more", "no frame", "short"):
            with peer(info, Recorder(info)) as one:
                frames = [b"x" * 5000]
                header = bytearray(one.channel._seal.sign(m.encode(m.Submit([])), frames))
                if harm == "header":
                    header[-1] ^= 1
                sent = {
                    "frame": [b"y" + frames[0][1:]],
                    "one frame more": [*frames, b""],
                    "no frame": [],
                }.get(harm, frames)
                one.channel.put(bytes(header[:20] if harm == "short" else header), sent)
                assert one.is_cut_off(), harm
        signed.assert_works()

    def test_a_whole_recorded_conversation(self, watched, signed):
        """Played to the controller on another connection."""
        info = signed.info["client"]
        clients = signed.rc.link.ask("statistics")["clients"]
        channel = RoutedChannel(info, info.url)
        try:
            for header, frames in watched.channel.sent:
                channel.send(header, frames)
            with pytest.raises(ChannelClosed):
                while True:
                    if not channel.has_unseen():
                        select.select([channel], [], [], PATIENCE)
                    list(channel.receive())
        finally:
            channel.close(0)
        assert signed.rc.link.ask("statistics")["clients"] == clients

    def test_an_impostor_in_place_of_the_controller(self, signed):
        """Without the key it can answer a knock, and nothing more."""
        with zmq.Context() as context, context.socket(zmq.ROUTER) as impostor:
            port = impostor.bind_to_random_port("tcp://127.0.0.1")
            impostor.linger = 0
            info = {**signed.info["client"].to_dict(), "urls": [f"tcp://127.0.0.1:{port}"]}

            def answer():
                who, knock = impostor.recv_multipart()
                impostor.send_multipart([who, knock[: -16 - 16] + bytes(16)])
                impostor.send_multipart([who, bytes(40) + m.encode(m.Welcome(1, "", 1, 3.0))])

            thread = threading.Thread(target=answer)
            thread.start()
            with pytest.raises((ConnectionError, TimeoutError), match="not signed by the controller"):
                Client(info, timeout=PATIENCE)
            thread.join(PATIENCE)
