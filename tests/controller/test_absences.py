"""Who may come back, and until when."""

from __future__ import annotations

from enginery.controller.absences import Absences
from enginery.core.actions import To

WHO = (To.ENGINE, 3)


def test_only_those_with_mail_are_waited_for():
    absences = Absences()
    assert not absences.away(WHO, 5.0)
    mail = absences.open(WHO)
    assert absences.mail_of(WHO) is mail
    assert absences.away(WHO, 5.0)
    assert WHO in absences
    assert absences.next_deadline() == 5.0


def test_who_comes_back_goes_on_with_the_same_mail():
    absences = Absences()
    mail = absences.open(WHO)
    absences.away(WHO, 5.0)
    assert absences.connection(WHO) == -1
    assert absences.back(WHO, 2) is mail
    assert absences.connection(WHO) == 2
    assert WHO not in absences
    assert absences.next_deadline() == float("inf")


def test_who_does_not_is_overdue_once():
    absences = Absences()
    absences.open(WHO)
    absences.away(WHO, 5.0)
    assert absences.overdue(4.9) == []
    assert absences.overdue(5.0) == [WHO]
    assert absences.overdue(5.0) == []
    absences.forget(WHO)
    assert absences.mail_of(WHO) is None
