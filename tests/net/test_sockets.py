"""Dialling: the best endpoint for this host, at once or patiently; and listening where nobody else may enter."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
import threading
from pathlib import Path

import pytest
import zmq

from enginery.net import sockets
from enginery.net.channel import ChannelClosed
from enginery.net.connection_file import ConnectionInfo
from enginery.net.routed import RoutedChannel
from enginery.net.sockets import dial, dial_patiently, is_deserted, listen_on_path, redial
from enginery.net.stream import Stream


@pytest.fixture
def path():
    with tempfile.TemporaryDirectory(prefix="eng-") as folder:  # paths of sockets are short
        yield Path(folder, "s")


def info(*urls):
    return ConnectionInfo(kind="client", url=urls[-1], urls=urls, location=socket.gethostname())


def test_on_this_host_it_is_a_unix_socket(path):
    with listen_on_path(path) as listener:
        channel = dial(info(f"ipc://{path}", "tcp://127.0.0.1:9"))
        assert isinstance(channel, Stream)
        other = Stream(listener.accept()[0])
        channel.send(b"hello", [])
        assert bytes(other.receive()[0][0]) == b"hello"
        channel.close(0)
        other.close(0)


def test_elsewhere_it_is_tcp():
    channel = dial(info("tcp://127.0.0.1:9"))
    assert isinstance(channel, RoutedChannel)
    channel.close(0)


def test_a_signed_connection_that_ends_at_once_is_closed(monkeypatch):
    """The other side wants encryption, and hangs up before the first word."""
    made = []

    def fail(channel, *_args):
        made.append(channel)
        raise ChannelClosed("it hung up")

    monkeypatch.setattr(RoutedChannel, "send", fail)
    with pytest.raises(OSError, match="it hung up"):
        dial(ConnectionInfo(kind="client", url="tcp://127.0.0.1:9", exec_key="k" * 32))
    assert made[0]._socket.closed
    assert made[0]._context.closed


def test_what_cannot_be_dialled_leaves_no_socket(monkeypatch):
    made, destroy = [], zmq.Context.destroy

    def note(context, linger):
        made.append(context)
        destroy(context, linger)

    monkeypatch.setattr(zmq.Context, "destroy", note)
    with pytest.raises(zmq.ZMQError):
        RoutedChannel(ConnectionInfo(kind="client", url="tcp://127.0.0.1:9"), "no such endpoint")
    assert made[0].closed


def test_nobody_listens(path):
    with pytest.raises(FileNotFoundError):
        dial(info(f"ipc://{path}"))
    listen_on_path(path).close()
    with pytest.raises(ConnectionRefusedError):
        dial(info(f"ipc://{path}"))


@pytest.mark.parametrize("reason", [TimeoutError("timed out"), OSError(errno.EHOSTUNREACH, "No route to host")])
def test_a_network_that_is_cut_says_nothing_of_who_listens(reason, path, monkeypatch):
    def fail(*_args, **_kwargs):
        raise reason

    monkeypatch.setattr(sockets.sockets, "create_connection", fail)
    with pytest.raises(OSError, match="timed out|No route to host") as caught:
        redial(info("tcp://192.0.2.1:9"))
    assert not is_deserted(caught.value)


def test_a_port_that_nobody_listens_at_is_deserted(path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for url in (f"tcp://127.0.0.1:{port}", f"ipc://{path}"):
        with pytest.raises(OSError, match="refused|No such file") as caught:
            redial(info(url))
        assert is_deserted(caught.value)


def test_patience_has_an_end(path):
    with pytest.raises(FileNotFoundError):
        dial_patiently(info(f"ipc://{path}"), 0.03)


def test_patience_pays(path, monkeypatch):
    tried = threading.Event()
    sleep = sockets.time.sleep

    def pause(seconds):
        tried.set()
        sleep(seconds)

    monkeypatch.setattr(sockets.time, "sleep", pause)
    found = []
    thread = threading.Thread(target=lambda: found.append(dial_patiently(info(f"ipc://{path}"), 20)))
    thread.start()
    assert tried.wait(20)
    with listen_on_path(path):
        thread.join(20)
    assert isinstance(found[0], Stream)
    found[0].close(0)


def test_a_path_that_is_too_long_is_named():
    with pytest.raises(OSError, match=r"/x+' is longer than 100 bytes\. Set XDG_RUNTIME_DIR"):
        listen_on_path(Path("/" + "x" * 200))


def test_a_folder_that_is_not_there_is_named(path):
    with pytest.raises(OSError, match="Cannot listen at .*nowhere"):
        listen_on_path(path / "nowhere")


def test_what_a_killed_one_left_is_replaced(path):
    listen_on_path(path).close()
    with listen_on_path(path) as listener:
        assert not listener.getblocking()
        dial(info(f"ipc://{path}")).close(0)
    assert not os.access(path.parent / "other", os.F_OK)
