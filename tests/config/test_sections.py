"""Parts of a configuration for another process."""

from __future__ import annotations

from msgspec import msgpack
from traitlets.config.loader import Config, DeferredConfigString

from enginery.config.sections import plain_sections


def test_sections_of_other_classes_become_plain_values():
    config = Config()
    config.IPEngine.n = 3
    config.InteractiveShell.xmode = "Plain"
    config.InteractiveShell.ast_transformers = [print]
    config.PlainTextFormatter.max_width = 100
    config.HistoryManager.enabled = True
    config.Odd.mapping = {"a": [1, (2.5, None)]}
    sections, unfit = plain_sections(config, without={"IPEngine"})
    assert sections == {
        "InteractiveShell": {"xmode": "Plain"},
        "PlainTextFormatter": {"max_width": 100},
        "HistoryManager": {"enabled": True},
        "Odd": {"mapping": {"a": [1, [2.5, None]]}},
    }
    assert unfit == ["InteractiveShell.ast_transformers"]


def test_appended_values_count():
    config = Config()
    config.InteractiveShellApp.extensions.append("storemagic")
    assert plain_sections(config, without=())[0] == {"InteractiveShellApp": {"extensions": ["storemagic"]}}


def test_what_a_command_line_says_can_travel():
    config = Config()
    config.InteractiveShell.colors = DeferredConfigString("nocolor")
    sections, _ = plain_sections(config, without=())
    assert sections == {"InteractiveShell": {"colors": "nocolor"}}
    assert type(sections["InteractiveShell"]["colors"]) is str
    assert msgpack.decode(msgpack.encode(sections)) == sections
