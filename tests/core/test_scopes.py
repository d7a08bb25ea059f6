"""Scopes include each other, know every message of the protocol, and are what the controller's tables are made of."""

from __future__ import annotations

import typing

import pytest

from enginery.controller import history
from enginery.controller.queries import QUERIES
from enginery.core.scopes import MESSAGES, QUESTIONS, Scope, allows, forbidden, may_ask
from enginery.wire import messages as m

CLIENTS = [Scope.WATCH, Scope.SUBMIT, Scope.ADMIN]


def test_the_scopes_of_clients_include_each_other():
    assert MESSAGES[Scope.WATCH] < MESSAGES[Scope.SUBMIT] < MESSAGES[Scope.ADMIN]


def test_every_message_to_the_controller_is_in_a_scope():
    assert MESSAGES[Scope.ADMIN] == frozenset(typing.get_args(m.FromClient))
    assert MESSAGES[Scope.ENGINE] == frozenset(typing.get_args(m.FromEngine))


def test_every_question_has_a_scope():
    assert set(QUERIES) | set(history.QUESTIONS) <= set(QUESTIONS)


@pytest.mark.parametrize(
    ("scope", "can", "cannot"),
    [
        (
            Scope.WATCH,
            [m.Query, m.Ping],
            [m.Submit, m.Direct, m.Functions, m.Abort, m.Signal, m.Shutdown, m.EngineHello],
        ),
        (Scope.SUBMIT, [m.Submit, m.Abort], [m.Signal, m.Shutdown, m.NannyHello]),
        (Scope.ADMIN, [m.Submit, m.Signal, m.Shutdown], [m.EngineHello, m.Done]),
        (Scope.ENGINE, [m.EngineHello, m.Done], [m.Query, m.Submit, m.Shutdown, m.ClientHello]),
    ],
)
def test_what_may_be_said(scope, can, cannot):
    assert all(allows(scope, kind) for kind in can)
    assert not any(allows(scope, kind) for kind in cannot)


def test_what_may_be_asked():
    assert may_ask(Scope.WATCH, "queue_status")
    assert not may_ask(Scope.SUBMIT, "key_create")
    assert not may_ask(Scope.SUBMIT, "no such question")
    assert may_ask(Scope.ADMIN, "no such question")
    assert not any(may_ask(Scope.ENGINE, question) for question in QUESTIONS)


@pytest.mark.parametrize(
    ("scope", "what", "needed"),
    [(Scope.WATCH, "Submit", "submit"), (Scope.SUBMIT, "Shutdown", "admin"), (Scope.WATCH, "key_list", "admin")],
)
def test_what_is_needed_is_said(scope, what, needed):
    text = forbidden(scope, what)
    assert f"scope {needed!r}" in text
    assert f"scope {str(scope)!r}" in text
    assert f"--scope={needed}" in text


@pytest.mark.parametrize("scope", Scope)
def test_ports(scope):
    assert scope.port == ("client" if scope in CLIENTS else "engine")
