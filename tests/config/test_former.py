"""Old names are understood, and one message says what took their place."""

from __future__ import annotations

import pytest
from traitlets.config.loader import Config

from enginery.cli.cluster_start import IPClusterStart
from enginery.cli.ipcontroller import IPController
from enginery.cli.ipengine import IPEngine
from enginery.config.files import load_profile_config
from enginery.config.former import CLASSES, SETTINGS, modern_arguments, modern_settings, successor


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "profile_default").mkdir()
    return tmp_path


def run(app, *argv):
    app.initialize(list(argv))
    return app


def test_what_is_named_exists():
    from enginery.cluster.cluster import Cluster
    from enginery.cluster.launchers.mpi import MPIControllerLauncher, MPIEngineSetLauncher, MPILauncher

    launchers = (MPILauncher, MPIControllerLauncher, MPIEngineSetLauncher)
    known = {each.__name__: each.class_trait_names() for each in (IPController, IPEngine, Cluster, *launchers)}
    targets = [*SETTINGS.values()]
    assert all(name.partition(".")[2] in known[name.partition(".")[0]] for name in targets)
    assert {*CLASSES.values()} <= {*known, "IPCluster"}


def test_on_the_command_line(capsys):
    assert run(IPController(), "--HubFactory.ip=*").ip == "*"
    assert "--HubFactory.ip is now --IPController.ip" in capsys.readouterr().err
    assert run(IPController(), "--port=10101").options().engine_port == 10101
    assert run(IPEngine(), "--furl-file=/x/y").url_file == "/x/y"
    assert run(IPEngine(), "--MPI.use=mpi4py").use_mpi
    assert run(IPClusterStart(), "--IPClusterEngines.n=3").make_cluster().n == 3
    assert modern_arguments("ipcluster", ["-n", "4", "--", "--port=1"]) == (["-n", "4", "--", "--port=1"], [])


def test_urls():
    app = run(IPController(), "--HubFactory.url=tcp://127.0.0.1:5")
    assert (app.url, app.options().engine_port) == ("tcp://127.0.0.1:5", 5)
    assert run(IPEngine(), "--EngineFactory.url=tcp://127.0.0.1:5").registration_url == "tcp://127.0.0.1:5"


def test_in_configuration_files(home, caplog):
    folder = home / "profile_default"
    (folder / "ipcontroller_config.py").write_text("c.HubFactory.ip = '*'\nc.HubFactory.regport = 10101\n")
    app = run(IPController())
    assert (app.ip, app.engine_ports) == ("*", "10101")
    assert run(IPController(), "--ip=127.0.0.1").ip == "127.0.0.1"
    (folder / "ipcluster_config.py").write_text("c.IPClusterEngines.engine_set_launcher = 'local'\nc.Cluster.n = 5\n")
    config = load_profile_config(folder, "ipcluster_config")
    assert config.Cluster.engine_launcher_class == "local"
    assert config.Cluster.n == 5
    assert caplog.text.count("settings of an earlier version") >= 1


def test_settings_of_mpi(home):
    (home / "profile_default" / "ipengine_config.py").write_text(
        "c.MPI.use = 'mpi4py'\nc.MPI.init_script = 'import mine'\n"
    )
    app = run(IPEngine())
    assert (app.use_mpi, app.init_mpi) == (True, "import mine")
    (home / "profile_default" / "ipcluster_config.py").write_text("c.MPIExecLauncher.mpi_args = ['-v']\n")
    assert load_profile_config(home / "profile_default", "ipcluster_config").MPILauncher.mpi_args == ["-v"]


def test_todays_names_win():
    moved, notes = modern_settings(Config({"HubFactory": {"ip": "*"}, "IPController": {"ip": "1.2.3.4"}}))
    assert not moved
    assert len(notes) == 1
    assert successor("IPController.ip") == "IPController.ip"
