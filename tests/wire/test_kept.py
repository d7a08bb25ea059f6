"""What stands for a value that stays on an engine."""

from __future__ import annotations

import pickle

import pytest

from enginery.wire.kept import MARK, Table, describe, load, mentioned, name_of
from enginery.wire.reference import Reference, names_in


class Handle:
    """As a client's."""

    def __init__(self, value):
        self.value = value

    def __reduce__(self):
        return load, (name_of(self.value),)


def test_a_pickle_says_what_it_needs(monkeypatch):
    packed = pickle.dumps(({"deep": [Handle(3 << 40)]}, Handle(7), Handle(7)), 5)
    assert mentioned(packed) == [3 << 40, 7]
    assert mentioned(b"nothing") == []
    monkeypatch.setattr(Table, "find", {3 << 40: "three", 7: "seven"}.__getitem__)
    assert pickle.loads(packed) == ({"deep": ["three"]}, "seven", "seven")


@pytest.mark.parametrize("name", [b"", MARK, MARK + b"x;", MARK + b"-1;"])
def test_names_that_are_none(name):
    with pytest.raises(LookupError, match="kept on an engine"):
        load(name)


def test_outside_of_engines_there_are_none():
    with pytest.raises(LookupError, match="on engines of its cluster only"):
        load(name_of(1))


class Difficult:
    nbytes = "many"

    def __len__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [(b"abc", "bytes", "3 items"), (5, "int", ""), (Difficult(), f"{__name__}.Difficult", "")],
)
def test_descriptions(value, kind, text):
    description = describe(value)
    assert (description.kind, description.text) == (kind, text)
    assert description.size >= 0


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("x", ["x"]),
        ("len", []),
        ("engine_id", []),
        ("a.b[c] + len(d)", ["a", "c", "d"]),
        ("[y for y in z]", ["z"]),
        ("(lambda u: u + v)(w)", ["v", "w"]),
        ("not python", ["python"]),
        ("a +", []),
    ],
)
def test_names_of_references(expression, names):
    assert sorted(Reference(expression).names()) == names


def test_names_among_arguments():
    values = [1, Reference("a"), [Reference("b"), "c"], {"k": Reference("a.d")}, (Reference("e"),), [[Reference("f")]]]
    assert names_in(values) == ["a", "b", "e"]
