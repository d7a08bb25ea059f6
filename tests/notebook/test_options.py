"""Options of the magics: what each means."""

from __future__ import annotations

import pytest
from IPython.core import magic_arguments
from IPython.core.error import UsageError

from enginery.notebook.options import Settings, execution_options, output_options, signal_named, targets_of


@magic_arguments.magic_arguments()
@execution_options
def magic(line):
    """A magic with all options."""


def settings(line, before=None, targets=None):
    return (before or Settings()).changed(magic_arguments.parse_argstring(magic, line), targets)


def test_nothing_said_changes_nothing():
    assert settings("") == Settings()
    before = Settings(block=True, stream=False, verbose=True, progress_after=7, group="order")
    assert settings("", before) == before


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("-b", {"block": True}),
        ("--block", {"block": True}),
        ("-a", {"block": False}),
        ("--noblock", {"block": False}),
        ("--no-stream", {"stream": False}),
        ("--verbose", {"verbose": True}),
        ("--progress-after 0", {"progress_after": 0.0}),
        ("--progress-after=-1", {"progress_after": -1.0}),
        ("--signal-on-interrupt TERM", {"signal_on_interrupt": "SIGTERM"}),
        ("--signal-on-interrupt=0", {"signal_on_interrupt": 0}),
        ("-e", {"group": "engine", "stream": False}),
        ("-r", {"group": "order", "stream": False}),
        ("--group-outputs=type", {"group": "type", "stream": False}),
        ("--group-outputs=engine --stream", {"group": "engine", "stream": True}),
    ],
)
def test_each_option(line, changed):
    found = settings(line)
    assert {name: getattr(found, name) for name in changed} == changed


def test_switches_can_be_switched_back():
    before = Settings(stream=False, verbose=True)
    assert settings("--stream --no-verbose", before) == Settings()


def test_targets_are_kept_with_the_settings():
    assert settings("", targets=[1, 2]).targets == [1, 2]


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        (None, None),
        ("all", "all"),
        ("2", 2),
        ("-1", -1),
        ("[0,3]", [0, 3]),
        ("0,3", (0, 3)),
        (":", [0, 1, 3, 7]),
        ("::2", [0, 3]),
        ("1:", [1, 3, 7]),
        ("-2:", [3, 7]),
        ("some", [7]),
        ("range(2)", range(2)),
    ],
)
def test_targets(text, meaning):
    assert targets_of(text, [0, 1, 3, 7], {"some": [7]}) == meaning


@pytest.mark.parametrize("text", ["nothing_of_that_name", "1:2:0", "a:b"])
def test_targets_that_mean_nothing(text):
    with pytest.raises(UsageError, match="--targets takes an engine id"):
        targets_of(text, [0, 1], {})


def test_signals():
    assert signal_named("SIGUSR1") == signal_named("usr1") == "SIGUSR1"
    assert signal_named("10") == 10
    with pytest.raises(UsageError, match="SIGINT"):
        signal_named("SIGNOTHING")


def test_nobody_at_the_screen(monkeypatch):
    monkeypatch.setenv("IPP_NONINTERACTIVE", "1")
    assert Settings.initial() == Settings(stream=False, progress_after=-1)
    monkeypatch.setenv("IPP_NONINTERACTIVE", "")
    assert Settings.initial() == Settings()


def test_help_names_every_option():
    for option in ("--block", "--noblock", "--stream", "--targets", "--progress-after", "--signal-on-interrupt"):
        assert option in magic.__doc__
    assert "--group-outputs" in magic_arguments.magic_arguments()(output_options(lambda line: None)).__doc__
