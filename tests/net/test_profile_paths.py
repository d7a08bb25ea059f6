"""Profiles: where they are, what is in them, and what no profile or cluster may be called."""

from __future__ import annotations

import os
import stat
import sys
import threading
from pathlib import Path

import pytest

from enginery.net import profile_paths as paths


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    for name in ("IPP_PROFILE_DIR", "IPP_CLUSTER_ID"):
        monkeypatch.delenv(name, raising=False)


def test_the_default_profile(tmp_path):
    assert paths.profile_folder() == tmp_path / "ipython" / "profile_default"
    assert paths.profile_folder("mpi") == tmp_path / "ipython" / "profile_mpi"


def test_the_ipython_folder_without_an_environment(monkeypatch):
    monkeypatch.delenv("IPYTHONDIR")
    assert paths.ipython_dir() == Path.home() / ".ipython"
    assert paths.ipython_dir("~/elsewhere") == Path.home() / "elsewhere"


def test_what_is_said_wins_over_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("IPP_PROFILE_DIR", str(tmp_path / "inherited"))
    assert paths.profile_folder() == tmp_path / "inherited"
    assert paths.profile_folder("mpi").name == "profile_mpi"
    assert paths.profile_folder("mpi", tmp_path / "here") == tmp_path / "here"


@pytest.mark.parametrize("name", ["a/b", "../x", "a\\b"])
def test_names_stay_in_their_folder(name):
    with pytest.raises(ValueError, match="no profile name"):
        paths.profile_folder(name)
    with pytest.raises(ValueError, match="no cluster id"):
        paths.connection_path(Path("/p"), "client", name)
    with pytest.raises(ValueError, match="no cluster id"):
        paths.cluster_path(Path("/p"), name)


def test_file_names():
    profile = Path("/p")
    assert paths.connection_path(profile, "client") == Path("/p/security/ipcontroller-client.json")
    assert paths.connection_path(profile, "engine", "x") == Path("/p/security/ipcontroller-x-engine.json")
    assert paths.cluster_path(profile) == Path("/p/security/cluster-.json")
    assert paths.cluster_path(profile, "x") == Path("/p/security/cluster-x.json")
    assert paths.log_path(profile, "ipengine", "x", 3) == Path("/p/log/ipengine-x-3.log")


def test_the_cluster_id_comes_from_the_launcher_unless_given(monkeypatch):
    monkeypatch.setenv("IPP_CLUSTER_ID", "x")
    assert paths.find_connection_file("client").name == "ipcontroller-x-client.json"
    assert paths.find_connection_file("client", cluster_id="").name == "ipcontroller-client.json"


def test_profiles_are_listed_by_name(tmp_path):
    for name in ("profile_b", "profile_a", "other"):
        (tmp_path / "ipython" / name).mkdir(parents=True)
    assert [paths.profile_name(each) for each in paths.profile_folders()] == ["a", "b"]
    assert paths.profile_name("/somewhere/else") == ""


@pytest.mark.skipif(sys.platform == "win32", reason="no modes on Windows")
def test_a_profile_is_made_with_a_private_security_folder(tmp_path):
    folder = paths.ensure_profile(tmp_path / "profile_x")
    paths.ensure_profile(folder)
    assert sorted(each.name for each in folder.iterdir()) == ["log", "pid", "security"]
    assert stat.S_IMODE((folder / "security").stat().st_mode) == 0o700


@pytest.mark.skipif(os.name == "nt", reason="no such error on Windows")
def test_a_profile_that_cannot_be_made_is_an_os_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        paths.ensure_profile(tmp_path / "file" / "profile_x")


def test_waiting_for_a_file(tmp_path):
    path = tmp_path / "file"
    assert not paths.wait_for_file(path, 0.0)
    threading.Timer(0.01, path.touch).start()
    assert paths.wait_for_file(path, 10.0)
