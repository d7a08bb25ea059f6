"""Keys, and who keeps the door: a key opens the port it was made for and no other."""

from __future__ import annotations

import pytest
import zmq

from enginery.net.curve import ZAP_ENDPOINT, Doorkeeper, KeyPair, has_curve

pytestmark = pytest.mark.skipif(not has_curve(), reason="this libzmq has no CURVE")

VERSION = b"1.0"


@pytest.fixture
def context():
    with zmq.Context() as context:
        yield context


@pytest.fixture
def asking(context):
    """A socket that asks as libzmq does, and the doorkeeper who answers."""
    door = context.socket(zmq.ROUTER)
    door.bind(ZAP_ENDPOINT)
    keys = KeyPair.make()
    keeper = Doorkeeper(door, {"clients": {keys.public}})
    asker = context.socket(zmq.REQ)
    asker.connect(ZAP_ENDPOINT)
    yield asker, keeper, keys
    asker.close(0)
    keeper.close()


def ask(asking, *parts):
    asker, keeper, _ = asking
    asker.send_multipart(parts)
    keeper.answer()
    return asker.recv_multipart()


def raw(key):
    return zmq.utils.z85.decode(key)


def test_pairs_differ_and_do_not_tell_their_secret():
    one, other = KeyPair.make(), KeyPair.make()
    assert len({one.public, one.secret, other.public, other.secret}) == 4
    assert one.public in repr(one)
    assert one.secret not in repr(one)


def test_the_right_key_opens(asking):
    answer = ask(asking, VERSION, b"7", b"clients", b"127.0.0.1", b"", b"CURVE", raw(asking[2].public))
    assert answer == [VERSION, b"7", b"200", b"OK", asking[2].public.encode(), b""]
    assert asking[1].refused == 0


@pytest.mark.parametrize(
    ("domain", "mechanism", "version"),
    [
        (b"engines", b"CURVE", VERSION),
        (b"clients", b"NULL", VERSION),
        (b"clients", b"CURVE", b"2.0"),
        (b"\xff", b"CURVE", VERSION),
    ],
    ids=["another port", "no encryption", "unknown version", "no domain at all"],
)
def test_what_does_not_open(asking, domain, mechanism, version):
    answer = ask(asking, version, b"7", domain, b"127.0.0.1", b"", mechanism, raw(asking[2].public))
    assert answer[1:3] == [b"7", b"400"]
    assert asking[1].refused == 1


def test_another_key_does_not_open(asking):
    answer = ask(asking, VERSION, b"7", b"clients", b"127.0.0.1", b"", b"CURVE", raw(KeyPair.make().public))
    assert answer[2] == b"400"


@pytest.mark.parametrize("parts", [[b""], [VERSION], [VERSION, b"7"], [b"x"] * 20])
def test_a_question_of_another_shape_is_answered_with_no(asking, parts):
    assert ask(asking, *parts)[2] == b"400"
