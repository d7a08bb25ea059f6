"""Each broken promise is seen."""

from __future__ import annotations

import pytest

from enginery.testing.history import History
from enginery.wire.messages import CLIENT_SHIFT, Dependency, Options

TASK = (1 << CLIENT_SHIFT) + 1


def history(*events, options=None, target=None):
    """A history of one task: ``what who detail`` in words."""
    told = History()
    told.accept(0.0, TASK, options, target)
    told.accept(0.1, TASK, options, target)
    for at, event in enumerate(events, 1):
        what, who, detail = event.split(maxsplit=2)
        told.add(float(at), what, task=TASK, who=int(who), detail=detail)
    return told


def test_a_plain_life_keeps_all_promises():
    told = history("begun 2 ok", "ended 2 ok", "replied 2 ok")
    assert told.complaints() == []
    told.check()
    assert [event.what for event in told.of(TASK)] == ["accepted", "begun", "ended", "replied"]
    assert told.story(TASK).count("\n") == 3


@pytest.mark.parametrize(
    ("events", "options", "complaint"),
    [
        (["begun 2 ok"], None, "no reply"),
        (["replied -1 aborted", "replied -1 aborted"], None, "2 replies"),
        (["begun 2 ok", "replied 2 ok"], None, "did not end well"),
        (["begun 2 ok", "ended 2 ok", "replied 2 wrong value"], None, "another task's"),
        (["begun 2 ok", "begun 3 ok", "replied -1 lost"], None, "begun 2 times"),
        (["begun 2 raise", "begun 3 raise", "begun 4 raise", "replied 4 error"], Options(retries=1), "begun 3 times"),
        (["begun 2 ok", "ended 2 ok", "replied 2 ok"], Options(targets=[1]), "restricted to"),
        (["begun 2 ok", "ended 2 ok", "replied 2 ok"], Options(after=Dependency([7])), "had ended well"),
    ],
)
def test_a_broken_promise_is_seen(events, options, complaint):
    told = history(*events, options=options)
    assert complaint in "\n".join(told.complaints())
    with pytest.raises(AssertionError, match="promises broken"):
        told.check()


def test_an_unmet_requirement_allows_another_beginning():
    told = history("begun 1 unmet", "ended 1 unmet", "begun 2 ok", "ended 2 ok", "replied 2 ok")
    assert told.complaints() == []


def test_who_is_gone_gets_no_reply():
    told = history("begun 2 ok", "ended 2 ok")
    told.gone.add(1)
    assert told.complaints() == []


def test_a_task_on_its_way_is_no_complaint_yet():
    assert history("begun 2 ok").complaints(finished=False) == []


def test_requests_stay_on_their_engine_and_in_their_order():
    told = history("begun 2 ok", "ended 2 ok", "replied 2 ok", target=1)
    assert "addressed to engine 1" in told.complaints()[0]
    told = history("begun 1 ok", "ended 1 ok", "replied 1 ok", target=1)
    told.accept(4.0, TASK - 1, None, 1)
    told.add(5.0, "begun", task=TASK - 1, who=1, detail="ok")
    told.add(5.0, "replied", task=TASK - 1, who=-1, detail="lost")
    assert "sent later" in told.complaints()[0]


def test_a_reply_to_nothing_is_seen():
    told = History()
    told.add(1.0, "replied", task=5, who=1, detail="ok")
    assert "without being accepted" in told.complaints()[0]
