"""Configuration files of a profile, read without an application."""

from __future__ import annotations

import pytest

from enginery.config.fields import build
from enginery.config.files import load_profile_config
from enginery.engine.options import EngineOptions


def test_nothing_there(tmp_path):
    assert not load_profile_config(tmp_path, "ipcluster_config")


def test_json_wins_over_python(tmp_path):
    (tmp_path / "ipcluster_config.py").write_text("c = get_config()\nc.Cluster.n = 3\nc.Cluster.controller_ip = '*'\n")
    (tmp_path / "ipcluster_config.json").write_text('{"Cluster": {"n": 5}, "version": 1}')
    config = load_profile_config(tmp_path, "ipcluster_config")
    assert config.Cluster.n == 5
    assert config.Cluster.controller_ip == "*"


@pytest.mark.parametrize(("name", "text"), [("ipcluster_config.py", "1/0"), ("ipcluster_config.json", "{")])
def test_a_broken_file_is_named(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=name):
        load_profile_config(tmp_path, "ipcluster_config")


def test_settings_become_options_by_name():
    assert build(EngineOptions, {"connection": None, "n": 3}).n == 3
    assert build(EngineOptions, {"connection": None, "colour": 3}, optional=frozenset({"colour"})).n == 1
    with pytest.raises(TypeError, match="colour"):
        build(EngineOptions, {"connection": None, "colour": 3})
