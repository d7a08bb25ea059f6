"""The engine's link where it ends before it has begun."""

from __future__ import annotations

import socket

import pytest

from enginery.engine.begun import shared_cells
from enginery.engine.link import Link
from enginery.engine.options import EngineOptions
from enginery.engine.program import _leave_early
from enginery.net.addresses import runtime_folder
from enginery.net.beat import LEASE
from enginery.net.connection_file import ConnectionInfo
from enginery.net.sockets import listen_on_path
from enginery.wire import messages as m
from fake_controller import FakeController
from waiting import wait_until

PATIENCE = 30
pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets")


def test_a_connection_that_ends_before_the_welcome_interrupts_nobody():
    path = runtime_folder("test_link") / "engines"
    with listen_on_path(path) as listener:
        listener.setblocking(True)
        options = EngineOptions(connection=ConnectionInfo("engine", f"ipc://{path}"))
        link = Link(options, "e" * 32, shared_cells(1)[0])
        listener.accept()[0].close()
        # There is no user code yet that would have to be interrupted, only this wait, which ends by itself.
        assert link.wait_for_welcome(PATIENCE)
        assert "the controller is gone" in link.member.leaving
        link.line.close()


def test_a_refusal_that_answers_no_hello_is_a_lost_connection():
    """As when libzmq has reconnected by itself: another controller in that place does not know who speaks."""
    controller = FakeController("engine")
    try:
        link = Link(EngineOptions(connection=controller.info), "e" * 32, shared_cells(1)[0])
        link.flush()
        controller.welcome(patience=PATIENCE, returns=True)
        assert link.wait_for_welcome(PATIENCE)
        controller.say(m.Refused("ConnectionLost", "say hello first"))
        hello = controller.expect(m.EngineHello)
        assert (hello.id, hello.epoch, hello.connection) == (3, 1, 1)
        assert link.member.leaving is None
        link.line.close()
    finally:
        controller.close()


@pytest.fixture
def welcomed():
    """A controller for whose return this engine waits, and the engine's link."""
    controller = FakeController("engine")
    link = Link(EngineOptions(connection=controller.info), "e" * 32, shared_cells(1)[0])
    link.flush()
    controller.welcome(period=1000.0, patience=PATIENCE, returns=True)
    assert link.wait_for_welcome(PATIENCE)
    yield controller, link
    link.line.close()
    controller.close()


def test_a_controller_that_was_silent_for_long_has_given_us_up_and_is_not_waited_for(welcomed):
    controller, link = welcomed
    link._heard -= PATIENCE + LEASE
    controller.hang_up()
    wait_until(lambda: link.member.leaving is not None)
    assert "the controller is gone" in link.member.leaving


def test_own_sleep_is_not_the_controllers_silence(welcomed):
    controller, link = welcomed
    link._heard -= PATIENCE + LEASE
    link._next_ping -= 3000.0
    controller.hang_up()
    assert controller.expect(m.EngineHello).connection == 1
    assert link.member.leaving is None


@pytest.mark.parametrize("let_in", [True, False])
def test_who_is_sent_away_before_its_first_task_leaves_in_good_order_if_it_was_let_in(let_in):
    controller = FakeController("engine")
    try:
        link = Link(EngineOptions(connection=controller.info), "e" * 32, shared_cells(1)[0])
        link.flush()
        if let_in:
            controller.welcome()
            controller.say(m.Bye("it is over"))
        else:
            controller.expect(m.EngineHello)
            controller.say(m.Refused("Refused", "it is over"))
        wait_until(lambda: link.member.leaving is not None)
        assert _leave_early(link.member) == (0 if let_in else 1)
        if let_in:
            link.flush()
            assert controller.expect(m.Bye).reason == "it is over"
        link.line.close()
    finally:
        controller.close()
