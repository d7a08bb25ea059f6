"""Arguments nobody knows are found, and a near miss is named."""

from __future__ import annotations

import pytest
from traitlets import Integer
from traitlets.config import Configurable

from enginery.config.arguments import flat_names, unknown_argument


class Engine(Configurable):
    size = Integer(1).tag(config=True)
    hidden = Integer(1)


NAMES = ["profile", "debug", "n", "log-level"]


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--debug"],
        ["--profile=x"],
        ["--profile", "x"],
        ["-n", "4"],
        ["-n4"],
        ["--n=4"],
        ["-n", "-4"],
        ["--Engine.size=3"],
        ["--help"],
        ["-h"],
        ["--help-all"],
        ["--version"],
        ["word", "-"],
        ["--", "--anything"],
        ["--SomebodyElses.trait=3"],
        ["--Engine.size.key=3"],
    ],
)
def test_known(argv):
    assert unknown_argument(argv, NAMES, [Engine]) == ""


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--profil=x"], "'--profil'. Did you mean --profile?"),
        (["--debg"], "Did you mean --debug?"),
        (["--zzz"], "See --help."),
        (["--loglevel=3"], "Did you mean --log-level?"),
        (["-x"], "Unknown argument '-x'"),
        (["--Engine.sise=3"], "Engine has no option 'sise'. Did you mean --Engine.size?"),
        (["--Engine.hidden=3"], "Engine has no option 'hidden'. See --help-all."),
        (["--Engin.size=3"], "Unknown class 'Engin' in '--Engin.size'. Did you mean --Engine.size?"),
    ],
)
def test_unknown(argv, words):
    assert words in unknown_argument(argv, NAMES, [Engine])


def test_names_of_tables():
    assert flat_names({"a": 1, ("b", "c"): 2}) == ["a", "b", "c"]
