"""ar.why(), stories and statistics."""

from __future__ import annotations

import pytest

from enginery.client import explain


@pytest.fixture(autouse=True)
def held(link):
    link.held = True


def test_a_single_request(lview, link):
    ar = lview.apply_async(abs, -1)
    link.reasons[ar._first] = "It is queued behind 3 other tasks at engine 1."
    assert ar.why() == "It is queued behind 3 other tasks at engine 1."
    link.run()
    assert ar.why() == "It is done."


def test_many_requests(lview, link):
    ar = lview.map_async(abs, range(15))
    link.run(2)
    lines = ar.why().splitlines()
    assert lines[0] == "13 of 15 requests are not done."
    assert lines[1] == f"{ar.msg_ids[2]}: It runs on engine 0."
    assert lines[-1] == "… and 3 more."
    assert len(lines) == 12


def test_what_has_not_left(lview, link):
    ar = lview.apply_async(abs, -1)
    link.unsent_ids.add(ar._first)
    assert ar.why().startswith("It has not left this process")
    assert not link.asked


def test_a_controller_that_does_not_answer(lview, link):
    def ask(name, arguments, timeout=None):
        raise TimeoutError

    link.ask = ask
    ar = lview.apply_async(abs, -1)
    assert ar.why() == (
        f"The controller (pid 4711) does not answer: it was asked {explain.PATIENCE:g} s ago, and last heard 3 s ago."
    )


def test_stories(client, lview):
    ar = lview.apply_async(abs, -1)
    assert client.story(ar) == ["story of 0"]
    assert client.story(ar.msg_id) == ["story of 0"]
    several = lview.map_async(abs, range(2))
    assert client.story(several) == {several.msg_ids[0]: ["story of 1"], several.msg_ids[1]: ["story of 2"]}


def test_statistics(client):
    assert client.statistics() == {"submitted": 5}
