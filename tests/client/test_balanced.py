"""LoadBalancedView: flags and what tasks carry of them."""

from __future__ import annotations

import pytest

from enginery.client.dependency import Dependency
from enginery.wire.messages import Options


def options_of(view, link):
    view.apply_async(abs, 1)
    return link.submitted[-1].options


def test_a_task_without_flags_carries_nothing(lview, link):
    assert options_of(lview, link) is None


def test_flags_travel_and_are_worked_out_once(client, link):
    view = client.load_balanced_view(targets=[1], retries=2, timeout=3, label="x")
    first = options_of(view, link)
    assert first == Options(targets=[1], retries=2, timeout=3.0, label="x")
    assert options_of(view, link) is first
    view.retries = 1
    assert options_of(view, link).retries == 1
    with view.temp_flags(retries=5):
        assert options_of(view, link).retries == 5
    assert options_of(view, link).retries == 1
    view.set_flags(targets="all", retries=None, timeout=None, label=None)
    assert options_of(view, link) is None


def test_dependencies_in_every_form(lview, link):
    a, b = lview.apply_async(abs, 1), lview.map_async(abs, [1, 2])
    ids = [a._first, b._first, b._first + 1]
    cases = {
        "message id": (a.msg_ids[0], ids[:1]),
        "result": (a, ids[:1]),
        "results": ([a, b], ids),
        "mixed": ({a.msg_ids[0]}, ids[:1]),
        "dependency": (Dependency([a, b]), ids),
        "mapping": ({"dependencies": [a], "all": False}, ids[:1]),
    }
    for value, expected in cases.values():
        lview.set_flags(after=value, follow=None)
        assert sorted(options_of(lview, link).after.ids) == expected
    assert options_of(lview, link).after.all is False
    lview.set_flags(after=None, follow=Dependency(a, success=False, failure=True))
    found = options_of(lview, link).follow
    assert (found.ids, found.success, found.failure) == (ids[:1], False, True)
    ar = lview.apply_async(abs, 1)
    assert ar.follow == a.msg_ids
    lview.set_flags(follow=[])
    assert options_of(lview, link) is None


def test_collections_that_change_are_looked_at_each_time(lview, link):
    before = [lview.apply_async(abs, 1)]
    lview.after = before
    assert len(options_of(lview, link).after.ids) == 1
    before.append(lview.with_flags(after=None).apply_async(abs, 1))
    assert len(options_of(lview, link).after.ids) == 2


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ({"after": 5}, ValueError),
        ({"after": "nonsense"}, ValueError),
        ({"follow": ["other_1"]}, ValueError),
        ({"timeout": -1}, ValueError),
        ({"timeout": "soon"}, ValueError),
        ({"retries": -1}, ValueError),
        ({"retries": 1.5}, TypeError),
        ({"targets": [9]}, IndexError),
        ({"label": 5}, TypeError),
        ({"colour": 1}, KeyError),
    ],
)
def test_flags_that_make_no_sense(lview, flags, error):
    with pytest.raises(error):
        lview.set_flags(**flags)


def test_targets(client, lview):
    assert len(lview) == 2
    assert len(client.load_balanced_view([1])) == 1
    assert client.load_balanced_view("all").targets is None
    assert client.load_balanced_view(1).targets == [1]


def test_labels_of_maps(lview, link):
    lview.map(abs, [1], label="m")
    assert link.submitted[-1].options.label == "m"
    assert lview.label is None


def test_sequence_that_shrinks_meanwhile(lview):
    class Liar(list):
        def __len__(self):
            return 5

    with pytest.raises(ValueError, match="5 items"):
        lview.map(abs, Liar([1]))


def test_dependency_check():
    ids = {"a", "b"}
    both, any_ = Dependency(ids), Dependency(ids, all=False)
    assert not both.check({"a"})
    assert any_.check({"a"})
    assert both.unreachable({"a"}, {"b"})
    assert not any_.unreachable({"a"}, {"b"})
    assert Dependency(ids, failure=True).check({"a"}, {"b"})
    assert Dependency([]).check(set())
    assert not Dependency([]).unreachable(set())
    assert both.as_dict() == {"all": True, "success": True, "failure": False, "dependencies": ["a", "b"]}
    with pytest.raises(ValueError, match="never be met"):
        Dependency(ids, success=False)


# --- priorities, limits, schemes ------------------------------------------------------------------------------------


def test_priority_and_time_limit_travel(lview, link):
    lview.set_flags(priority=3, time_limit=2)
    assert options_of(lview, link) == Options(priority=3, time_limit=2.0)
    lview.set_flags(priority=None, time_limit=None)
    assert options_of(lview, link) is None


@pytest.mark.parametrize("limit", [0, -1, float("nan"), "soon", True - 1])
def test_time_limits_that_make_no_sense(lview, limit):
    with pytest.raises(ValueError, match="time_limit"):
        lview.time_limit = limit


def test_flags_that_make_no_sense_change_nothing(lview):
    with pytest.raises(ValueError, match="retries"):
        lview.set_flags(priority=3, retries=-1)
    assert lview.priority == 0
    with pytest.raises(TypeError):
        lview.priority = "high"


def test_temporary_flags_are_put_back_whatever_has_become_of_them(client, link):
    view = client.load_balanced_view(targets=[1])
    with view.temp_flags(targets=[0]):
        link.leave(1)
    assert view.targets == [1]


@pytest.mark.parametrize("flags", [{"targets": 0}, {"targets": [0]}, {"retries": 1}, {"timeout": 2}, {"after": "s0_0"}])
def test_a_pure_cluster_refuses_what_it_does_not_look_at(client, link, flags):
    link.scheme = "pure"
    view = client.load_balanced_view()
    with pytest.raises(RuntimeError, match=f"scheme=pure.* see to {next(iter(flags))}="):
        view.set_flags(**flags)
    view.set_flags(targets=None, retries=0, timeout=None, after=None, follow=None, label="x", priority=1)
