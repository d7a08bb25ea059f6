"""Signatures: what was said comes out; what was changed, repeated, reordered or sent back is found out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginery.net.signed import KNOCK, MOST_UNPROVEN, NONCE, Forged, Notary, Seal, key_id

NONCES = b"d" * NONCE, b"l" * NONCE
MESSAGES = st.lists(st.tuples(st.binary(max_size=50), st.lists(st.binary(max_size=50), max_size=4)), max_size=6)


def seals(one="secret", other="secret"):
    return Seal(one, *NONCES, dials=True), Seal(other, *NONCES, dials=False)


@given(MESSAGES)
def test_there_and_back(messages):
    dialler, listener = seals()
    for sender, receiver in ((dialler, listener), (listener, dialler)):
        for header, frames in messages:
            assert bytes(receiver.check(sender.sign(header, frames), frames)) == header


def flipped(data, bit):
    changed = bytearray(data)
    changed[bit // 8 % len(changed)] ^= 1 << bit % 8
    return bytes(changed)


@given(st.binary(max_size=30), st.lists(st.binary(min_size=1, max_size=30), max_size=3), st.integers(0, 10_000))
def test_every_bit_counts(header, frames, bit):
    sender, receiver = seals()
    signed = sender.sign(header, frames)
    with pytest.raises(Forged):
        receiver.check(flipped(signed, bit), frames)
    if frames:
        at = bit % len(frames)
        with pytest.raises(Forged):
            receiver.check(signed, [*frames[:at], flipped(frames[at], bit), *frames[at + 1 :]])
    assert bytes(receiver.check(signed, frames)) == header


@pytest.mark.parametrize(
    ("signed", "received"),
    [
        ([b"ab"], []),
        ([], [b""]),
        ([b"a", b"b"], [b"ab"]),
        ([b"ab"], [b"a", b"b"]),
        ([b"a", b"b"], [b"b", b"a"]),
        ([b"a"], [b"a", b""]),
    ],
)
def test_frames_cut_otherwise(signed, received):
    sender, receiver = seals()
    with pytest.raises(Forged):
        receiver.check(sender.sign(b"header", signed), received)


def test_part_of_the_header_as_a_frame():
    sender, receiver = seals()
    signed = sender.sign(b"header", [])
    with pytest.raises(Forged):
        receiver.check(signed[:-3], [signed[-3:]])


def test_repeated_left_out_reordered():
    sender, receiver = seals()
    first, second, third = (sender.sign(text, []) for text in (b"1", b"2", b"3"))
    with pytest.raises(Forged, match="number 1 came where number 0"):
        receiver.check(second, [])
    receiver.check(first, [])
    with pytest.raises(Forged, match="repeated, or reordered"):
        receiver.check(first, [])
    with pytest.raises(Forged):
        receiver.check(third, [])
    receiver.check(second, [])


def test_sent_back_to_its_sender():
    sender, _ = seals()
    with pytest.raises(Forged):
        sender.check(sender.sign(b"header", []), [])


def test_another_key_and_another_connection():
    dialler, listener = seals("secret", "Secret")
    with pytest.raises(Forged):
        listener.check(dialler.sign(b"x", []), [])
    later = Seal("secret", NONCES[0], b"m" * NONCE, dials=False)
    with pytest.raises(Forged):
        later.check(dialler.sign(b"x", []), [])


@given(st.binary(max_size=100))
def test_garbage(data):
    _, receiver = seals()
    with pytest.raises(Forged):
        receiver.check(data, [])


class FakeRouter:
    def __init__(self) -> None:
        self.sent = []

    def send(self, identity, header, frames):
        self.sent.append((identity, header))


@pytest.fixture
def notary():
    notary = Notary(FakeRouter(), {key_id("secret"): "secret"}.get)
    notary.said = notary._router.sent
    return notary


def knock(secret="secret", nonce=NONCES[0]):
    return KNOCK + key_id(secret).encode() + nonce


class TestNotary:
    def test_one_who_knows_the_key(self, notary):
        assert notary.open(b"i", knock(), []) is None
        ((who, answer),) = notary.said
        assert who == b"i"
        seal = Seal("secret", NONCES[0], answer[len(KNOCK) :], dials=True)
        assert notary.key_of(b"i") == ""
        assert bytes(notary.open(b"i", seal.sign(b"hello", [b"f"]), [b"f"])) == b"hello"
        assert notary.key_of(b"i") == key_id("secret")
        assert bytes(seal.check(notary.sign(b"i", b"welcome", []), [])) == b"welcome"
        notary.forget(b"i")
        assert notary.key_of(b"i") == ""

    @pytest.mark.parametrize(
        "first",
        [b"", b"x", b"\x81\xa4type", knock("other"), knock()[:-1], knock() + b"x", b"\xff" * 51, KNOCK + b"\xff" * 32],
    )
    def test_who_does_not(self, notary, first):
        with pytest.raises(Forged):
            notary.open(b"i", first, [])
        assert notary.said == []

    def test_a_knock_and_then_something_unsigned(self, notary):
        notary.open(b"i", knock(), [])
        for message in (b"hello", knock(), bytes(60)):
            with pytest.raises(Forged):
                notary.open(b"i", message, [])
        assert notary.key_of(b"i") == ""

    def test_many_who_knock_and_do_not_come_in(self, notary):
        for number in range(MOST_UNPROVEN + 10):
            notary.open(number.to_bytes(4), knock(), [])
        assert repr(notary) == f"<Notary proven=0 unproven={MOST_UNPROVEN}>"


def test_the_name_of_a_key_says_nothing_of_it():
    assert key_id("secret") != key_id("Secret")
    assert "secret" not in key_id("secret")
