"""The base of all commands: profiles, configuration files, and what is refused."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from traitlets import Integer, Unicode

from enginery.config.application import BASE_ALIASES, USAGE, BaseParallelApplication, remove_logs


class Mill(BaseParallelApplication):
    name = Unicode("mill")
    aliases = {**BASE_ALIASES, "stones": "Mill.stones"}
    stones = Integer(1, help="How many.").tag(config=True)


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    """A private IPython folder with a default profile; the working folder is restored."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    for name in ("IPP_PROFILE_DIR", "IPP_CLUSTER_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "profile_default").mkdir()
    yield tmp_path
    Mill.clear_instance()


def run(*argv):
    app = Mill()
    app.initialize(list(argv))
    return app


def refused(*argv, code, capsys):
    with pytest.raises(SystemExit) as caught:
        run(*argv)
    assert caught.value.code == code
    return capsys.readouterr().err


def test_the_default_profile_gets_its_folders(home):
    app = run()
    assert app.profile_dir == home / "profile_default"
    assert sorted(each.name for each in app.profile_dir.iterdir()) == ["log", "pid", "security"]
    assert app.log_level == logging.INFO


def test_a_profile_is_made_only_when_asked(home, capsys):
    words = refused("--profile=new", code=1, capsys=capsys)
    assert "profile_new" in words
    assert "--init" in words
    assert not (home / "profile_new").exists()
    assert run("--profile=new", "--init").profile_dir.is_dir()
    assert "c.Mill.stones" in (home / "profile_new" / "mill_config.py").read_text()


def test_profiles_by_folder(home):
    assert run(f"--profile-dir={home}/somewhere", "--init").profile_dir == home / "somewhere"
    (home / "other" / "profile_x").mkdir(parents=True)
    assert run(f"--ipython-dir={home}/other", "--profile=x").profile_dir == home / "other" / "profile_x"


def test_what_wins(home):
    profile = home / "profile_default"
    assert run().stones == 1
    (profile / "mill_config.py").write_text("c.Mill.stones = 2\n")
    assert run().stones == 2
    (profile / "mill_config.json").write_text('{"Mill": {"stones": 3}}')
    assert run().stones == 3
    (home / "extra.py").write_text("c.Mill.stones = 4\n")
    assert run("--config=extra.py").stones == 4
    assert run("--config=extra.py", "--stones=5").stones == 5
    assert run("--Mill.stones=6").stones == 6


def test_generated_configuration(home, capsys):
    path = home / "profile_default" / "mill_config.py"
    with pytest.raises(SystemExit) as caught:
        run("--generate-config")
    assert caught.value.code == 0
    assert str(path) in capsys.readouterr().out
    assert run().stones == 1
    assert "overwrite" in refused("--generate-config", code=1, capsys=capsys)
    path.write_text("c.Mill.stones = 9\n")
    with pytest.raises(SystemExit):
        run("--generate-config", "--BaseIPythonApplication.overwrite=True")
    assert run().stones == 1


def test_misspelt_arguments(capsys):
    assert "Did you mean --stones?" in refused("--stnes=3", code=USAGE, capsys=capsys)
    assert "Did you mean --Mill.stones?" in refused("--Mill.stons=3", code=USAGE, capsys=capsys)


def test_a_broken_configuration_file(home, capsys):
    (home / "profile_default" / "mill_config.py").write_text("c.Mill.stones = 1 / 0\n")
    words = refused(code=1, capsys=capsys)
    assert "mill_config" in words
    assert "ZeroDivisionError" in words


def test_impossible_places(home, capsys):
    assert "no profile name" in refused("--profile=a/b", code=USAGE, capsys=capsys)
    assert "no configuration file" in refused("--config=nowhere.py", code=USAGE, capsys=capsys)
    assert "cannot work in" in refused("--work-dir=/no/such/folder", code=1, capsys=capsys)
    (home / "file").touch()
    assert "cannot make the profile" in refused("--init", f"--profile-dir={home}/file/x", code=1, capsys=capsys)


def test_the_working_folder(home):
    (home / "work").mkdir()
    app = run("--work-dir=work", "--profile-dir=profile_default")
    assert Path.cwd() == home / "work"
    assert app.profile_dir == home / "profile_default"


def test_logging_to_a_file(home):
    app = run("--log-to-file", "--cluster-id=x")
    app.log.warning("grinding")
    assert app.log_file == home / "profile_default" / "log" / f"mill-x-{os.getpid()}.log"
    assert "grinding" in app.log_file.read_text()
    for handler in app.log.handlers:
        handler.close()


@pytest.mark.skipif(not Path("/proc").exists(), reason="tells the living by /proc")
def test_old_logs_are_removed_but_not_those_of_the_living(home):
    folder = home / "profile_default" / "log"
    folder.mkdir()
    for name in (f"mill-{os.getpid()}.log", "mill-x-99999999.log", "mill-abc.log", "other-99999999.log"):
        (folder / name).touch()
    remove_logs(home / "profile_default", "mill")
    assert sorted(path.name for path in folder.iterdir()) == sorted([f"mill-{os.getpid()}.log", "other-99999999.log"])


def test_levels_and_ids(monkeypatch):
    assert run("--debug").log_level == logging.DEBUG
    assert run("--quiet").log_level == logging.CRITICAL
    assert run("--log-level=40").log_level == logging.ERROR
    monkeypatch.setenv("IPP_CLUSTER_ID", "inherited")
    assert run().cluster_id == "inherited"
    assert run("--cluster-id=mine").cluster_id == "mine"


def test_a_value_that_cannot_be_ends_with_one_line(capsys):
    with pytest.raises(SystemExit) as caught:
        Mill.launch_instance(["--stones=many"])
    assert caught.value.code in {1, USAGE}
    assert "Traceback" not in capsys.readouterr().err
    Mill.clear_instance()
