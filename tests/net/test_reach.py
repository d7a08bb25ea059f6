"""Why a controller is not reached: the address, the host it was dialled from, and the error."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace

import pytest

from enginery.net.connection_file import ConnectionInfo
from enginery.net.reach import explain, hopeless

HERE = socket.gethostname()


@pytest.fixture
def port():
    """A port of this host at which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def nobody():
    """A port at which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def info(url, **kwargs):
    return ConnectionInfo(kind="engine", url=url, urls=(url,), location=HERE, **kwargs)


def test_refused(nobody):
    text = explain(info(f"tcp://127.0.0.1:{nobody}"))
    assert text == f"dialled from {HERE!r}: tcp://127.0.0.1:{nobody}: Connection refused"


def test_a_name_nobody_knows():
    text = explain(info("tcp://no-such-host.invalid:5000"))
    assert "tcp://no-such-host.invalid:5000: the name 'no-such-host.invalid' is not known here (" in text


def test_a_wildcard_is_dialled_where_the_controller_is(nobody):
    somewhere = replace(info(f"tcp://*:{nobody}"), location="no-such-host.invalid")
    assert f"tcp://no-such-host.invalid:{nobody}: the name" in explain(somewhere)


def test_no_answer(monkeypatch):
    def never(_address, timeout):
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", never)
    assert "no answer within 0.5 s: a firewall, or no route" in explain(info("tcp://10.0.0.1:5000"), 0.5)


def test_somebody_else_answers(port):
    assert "somebody listens there" in explain(info(f"tcp://127.0.0.1:{port}"))


def test_a_socket_that_is_not_there(tmp_path):
    url = f"ipc://{tmp_path}/engines"
    assert f"{url}: No such file or directory" in explain(info(url))


class TestHopeless:
    def test_loopback_of_another_host(self, nobody):
        there = replace(info(f"tcp://127.0.0.1:{nobody}"), location="no-such-host.invalid")
        text = hopeless(there)
        assert "listens on loopback only" in text
        assert "--ip='*'" in text
        assert f"dialled from {HERE!r}: tcp://127.0.0.1:{nobody}: Connection refused" in text

    def test_a_tunnel_leads_there(self, port):
        assert hopeless(replace(info(f"tcp://127.0.0.1:{port}"), location="no-such-host.invalid")) == ""

    def test_this_host(self, nobody):
        assert hopeless(info(f"tcp://127.0.0.1:{nobody}")) == ""


def test_through_a_tunnel_whose_local_end_always_answers(tmp_path):
    end = tmp_path / "end"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(end))
        listener.listen()
        far = replace(info("tcp://127.0.0.1:5", ssh="login"), urls=(f"tunnel://{end}",), location="far")

        def answer(words):
            with listener.accept()[0] as peer:
                peer.sendall(words)

        for words, said in ((b"", "the server cannot connect to it"), (b"x", "does not answer as a controller does")):
            thread = threading.Thread(target=answer, args=(words,))
            thread.start()
            text = explain(far)
            thread.join()
            assert text.startswith(f"dialled from {HERE!r}: tcp://127.0.0.1:5 through ssh server login: ")
            assert said in text
    assert hopeless(far) == ""
