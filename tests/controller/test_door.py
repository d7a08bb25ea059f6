"""Who comes in by which key, what a scope makes of the handlers, and what is answered to what it does not allow."""

from __future__ import annotations

import pytest

from enginery.controller.door import OPEN, Door, handlers_by_scope, refusal
from enginery.controller.keyring import Keyring
from enginery.core.scopes import Scope
from enginery.net.signed import key_id
from enginery.wire import messages as m
from enginery.wire.serialize import NONE


class FakePeer:
    def __init__(self, *, is_local=True, credential="", key=None) -> None:
        self.is_local = is_local
        self.credential = credential
        self.key = key


@pytest.fixture
def ring():
    ring = Keyring(clock=lambda: ring.now)
    ring.now = 1000.0
    numbers = iter(range(100))
    ring.fill(lambda: (f"public {next(numbers)}", "secret"))
    return ring


@pytest.fixture
def door(ring):
    door = Door(ring, describe=lambda key, _pair: {"exec_key": key.token}, changed=lambda: door.changes.append(1))
    door.changes = []
    return door


class TestJudging:
    def test_on_this_host_by_what_the_hello_shows(self, ring, door):
        for name in ("client", "engine"):
            assert door.judge(FakePeer(), name, ring.keys[name].token) is ring.keys[name]
            other = "engine" if name == "client" else "client"
            assert "does not open the port" in door.judge(FakePeer(), other, ring.keys[name].token)
        for wrong in ("", "x", ring.keys["client"].public, "client"):
            assert "is not one of this controller's" in door.judge(FakePeer(), "client", wrong)

    def test_from_elsewhere_by_what_the_connection_has_shown(self, ring, door):
        key = ring.keys["client"]
        for credential in (key.public, key_id(key.token)):
            assert door.judge(FakePeer(is_local=False, credential=credential), "client", "") is key
        for wrong in ("", "x", key.token):
            assert isinstance(door.judge(FakePeer(is_local=False, credential=wrong), "client", key.token), str)

    def test_without_keys_everybody(self):
        door = Door()
        assert door.judge(FakePeer(), "client", "") is OPEN["client"]
        assert door.judge(FakePeer(), "engine", "").scope is Scope.ENGINE
        assert door.take_over() == []
        answer = door.answer(FakePeer(key=OPEN["client"]), m.Query(1, "key_list"))
        assert "--no-secure" in answer.error


class TestQuestions:
    def ask(self, door, ring, question, arguments, who="client"):
        return door.answer(FakePeer(key=ring.keys[who]), m.Query(7, question, arguments))

    def test_making_and_revoking(self, door, ring):
        made = self.ask(door, ring, "key_create", {"scope": "watch", "seconds": 5, "note": "n" * 999}).value
        name = made["key"]["name"]
        assert made["connection"]["exec_key"] == ring.keys[name].token
        assert len(made["key"]["note"]) == 200
        assert [key["name"] for key in self.ask(door, ring, "key_list", {}).value] == ["client", "engine", name]
        key = ring.keys[name]
        assert self.ask(door, ring, "key_revoke", {"name": name}).value["name"] == name
        assert [(each, name in why) for each, why in door.take_over()] == [(key, True)]
        assert door.take_over() == []
        assert len(door.changes) == 2

    def test_the_end_of_a_key(self, door, ring):
        self.ask(door, ring, "key_create", {"scope": "engine", "seconds": 5})
        assert door.take_over() == []
        ring.now += 6
        ((key, why),) = door.take_over()
        assert key.scope is Scope.ENGINE
        assert "expired" in why

    def test_those_of_others_are_left_to_them(self, door, ring):
        assert self.ask(door, ring, "queue_status", {}) is None

    def test_who_may_not(self, door, ring):
        name = self.ask(door, ring, "key_create", {"scope": "submit"}).value["key"]["name"]
        answer = self.ask(door, ring, "key_create", {"scope": "admin"}, who=name)
        assert (answer.number, "scope 'admin'" in answer.error) == (7, True)


def test_handlers():
    def handle(*_):
        """Does it."""

    def otherwise(*_):
        """Says no."""

    tables = handlers_by_scope({m.Submit: handle, m.Shutdown: handle, m.Query: handle}, otherwise)
    assert tables == {
        Scope.WATCH: {m.Submit: otherwise, m.Shutdown: otherwise, m.Query: handle},
        Scope.SUBMIT: {m.Submit: handle, m.Shutdown: otherwise, m.Query: handle},
        Scope.ADMIN: {m.Submit: handle, m.Shutdown: handle, m.Query: handle},
    }


def test_refusals():
    def task(number):
        return m.Task(number, 0, b"", NONE)

    for asked in (m.Query(5, "x"), m.Signal(5, [0], 2), m.Shutdown(5, [])):
        reply = refusal(Scope.WATCH, asked)
        assert (type(reply), reply.number) == (m.Answer, 5)
    submitted = refusal(Scope.WATCH, m.Submit([task(1), task(2)]))
    assert [(result.id, result.status) for result in submitted.results] == [(1, 4), (2, 4)]
    direct = refusal(Scope.WATCH, m.Direct([m.Request([0, 1], task(7)), m.Request([3], task(9))]))
    assert [result.id for result in direct.results] == [7, 8, 9]
    for silent in (m.Functions({}), m.Abort([1]), m.Release([]), m.Submit([])):
        assert refusal(Scope.WATCH, silent) is None
