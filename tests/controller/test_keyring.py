"""Keys: which there are, what opens with them and for how long, and that they are the same after a restart."""

from __future__ import annotations

import json
import stat

import pytest

from enginery.controller.keyring import DEFAULTS, Keyring, read_stored
from enginery.core.scopes import Scope
from enginery.errors import ConnectionFileError
from enginery.net.signed import key_id


class Lot:
    """Pairs that can be told from each other."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self):
        self.count += 1
        return f"public {self.count}", f"secret {self.count}"


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def ring(make_pair=None, stored=None, clock=None, **kwargs):
    keyring = Keyring(clock=clock or Clock(), **kwargs)
    keyring.fill(make_pair, stored)
    return keyring


def test_every_controller_has_two():
    keyring = ring(Lot())
    assert {name: key.scope for name, key in keyring.keys.items()} == DEFAULTS
    client, engine = keyring.keys["client"], keyring.keys["engine"]
    assert client.token != engine.token
    assert set(keyring.pairs) == {"server", "client", "engine"}
    assert keyring.allowed == {"client": {client.public}, "engine": {engine.public}}
    assert keyring.by_token(client.token) is client
    assert keyring.by_public(engine.public) is engine
    assert keyring.secret_of("client", key_id(client.token)) == client.token
    assert keyring.secret_of("engine", key_id(client.token)) is None


@pytest.mark.parametrize("token", ["", "x", "é", "f" * 64])
def test_what_is_no_key(token):
    keyring = ring()
    assert keyring.by_token(token) is None
    assert keyring.by_public(token) is None
    assert keyring.secret_of("client", token) is None
    assert keyring.pairs == {}


def test_secrets_are_not_printed():
    keyring = ring(Lot())
    key, _ = keyring.create(Scope.WATCH)
    told = f"{keyring!r} {key!r} {key.describe()}"
    assert key.name in told
    for each in keyring.keys.values():
        assert each.token not in told


def test_a_key_that_ends():
    clock = Clock()
    keyring = ring(Lot(), clock=clock)
    key, pair = keyring.create(Scope.ENGINE, seconds=10)
    assert pair[0] in keyring.allowed["engine"]
    clock.now += 9.9
    assert keyring.by_token(key.token) is key
    assert keyring.drop_expired() == []
    clock.now += 0.2
    assert keyring.by_token(key.token) is keyring.by_public(key.public) is None
    assert keyring.drop_expired() == [key]
    assert pair[0] not in keyring.allowed["engine"]


def test_revoking():
    keyring = ring(Lot())
    key, pair = keyring.create(Scope.SUBMIT, note="anna")
    assert keyring.revoke(key.name) is key
    assert keyring.by_token(key.token) is None
    assert pair[0] not in keyring.allowed["client"]
    with pytest.raises(ValueError, match="there is no key"):
        keyring.revoke(key.name)
    with pytest.raises(ValueError, match="key rotate"):
        keyring.revoke("client")


def test_rotating():
    keyring = ring(Lot())
    other, _ = keyring.create(Scope.SUBMIT)
    server, old = keyring.pairs["server"], dict(keyring.keys)
    assert keyring.rotate() == [old["client"], old["engine"]]
    for name in DEFAULTS:
        assert keyring.keys[name].token != old[name].token
        assert keyring.keys[name].public != old[name].public
        assert keyring.by_public(old[name].public) is None
    assert keyring.pairs["server"] == server
    assert keyring.by_token(other.token) is other


def test_the_next_start(tmp_path):
    first = ring(Lot())
    key, _ = first.create(Scope.WATCH, seconds=100, note="anna")
    path = tmp_path / "keys.json"
    first.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    second = ring(Lot(), read_stored(path))
    assert second.pairs == first.pairs
    assert {name: each.token for name, each in second.keys.items()} == {n: k.token for n, k in first.keys.items()}
    assert second.keys[key.name].describe() == key.describe()
    assert ring(None, read_stored(path)).pairs == {}  # on this host only, this time


def test_a_given_key_makes_the_same_ones():
    one, other, another = (ring(given=given) for given in ("secret", "secret", "Secret"))
    tokens = [{name: key.token for name, key in each.keys.items()} for each in (one, other, another)]
    assert tokens[0] == tokens[1]
    assert set(tokens[0].values()).isdisjoint(tokens[2].values())
    assert "secret" not in repr(tokens)
    with pytest.raises(ValueError, match="Session.key"):
        one.rotate()


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"pairs": 1, "keys": []}',
        '{"pairs": {}, "keys": [1]}',
        '{"pairs": {"a": 1}, "keys": []}',
        '{"pairs": {}, "keys": [{"scope": "god"}]}',
        json.dumps({"pairs": {}, "keys": [{"scope": "watch", "secret": 1}]}),
    ],
)
def test_a_damaged_file(tmp_path, text):
    path = tmp_path / "keys.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConnectionFileError, match="Remove it to get new keys"):
        read_stored(path)


def test_a_file_that_others_can_read(tmp_path):
    path = tmp_path / "keys.json"
    ring().save(path)
    path.chmod(0o640)
    with pytest.raises(ConnectionFileError, match="chmod 600"):
        read_stored(path)


def test_no_file(tmp_path):
    assert read_stored(tmp_path / "keys.json") is None
