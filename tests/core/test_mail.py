"""Counting and keeping messages until the other side has them."""

from __future__ import annotations

import pytest

from enginery.core import mail as room
from enginery.core.mail import Mail
from enginery.wire import messages as m


@pytest.fixture
def mail():
    return Mail()


def test_what_the_other_side_has_is_let_go_of(mail):
    for at in range(5):
        mail.keep(b"%d" % at, [])
    mail.heard_received(2)
    assert mail.kept() == [(b"2", []), (b"3", []), (b"4", [])]
    assert mail.sent == 5


def test_the_rest_is_sent_again_and_still_kept(mail):
    for at in range(3):
        mail.keep(b"%d" % at, [b"frame"])
    assert mail.again(2) == [(b"2", [b"frame"])]
    assert len(mail) == 1


@pytest.mark.parametrize("count", [0, 1, 99])
def test_counts_that_cannot_be_do_no_harm(mail, count):
    mail.keep(b"0", [])
    mail.heard_received(count)
    mail.heard_received(0)
    mail.keep(b"1", [])
    assert mail.kept()[-1] == (b"1", [])
    assert mail.acknowledged == min(count, 1)


def test_many_messages_are_acknowledged_now_and_then(mail):
    assert not any(mail.came(()) for _ in range(room.MESSAGES - 1))
    assert mail.came(())
    assert mail.receipt() == m.Received(room.MESSAGES)
    assert not mail.came(())
    assert mail.owes()


def test_large_messages_are_acknowledged_at_once(mail):
    assert not mail.came([b"small"])
    assert mail.came([bytes(room.BYTES)])
    mail.receipt()
    assert not mail.owes()


def test_another_controller_counts_from_the_beginning(mail):
    mail.keep(b"0", [])
    mail.came(())
    mail.restart([(b"1", [])])
    assert mail.received == mail.acknowledged == 0
    assert mail.kept() == [(b"1", [])]
    assert "kept=1" in repr(mail)


def test_what_has_come_and_is_not_saved_is_asked_for_again():
    mail = Mail()
    for _ in range(5):
        mail.came([])
    mail.saved = 3
    assert mail.ask_again() == 3
    assert (mail.received, mail.again_to_come) == (5, 2)
