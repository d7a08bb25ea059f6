"""``import ipyparallel`` is answered by enginery, in a program that has compat/src on its path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments):
    paths = os.pathsep.join([str(ROOT / "compat" / "src"), str(ROOT / "src")])
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)


def test_names_and_modules_are_those_of_enginery():
    done = run(
        "-c",
        """
import ipyparallel as ipp, enginery, sys
assert "zmq" not in sys.modules and "IPython" not in sys.modules
assert all(getattr(ipp, name) is getattr(enginery, name) for name in enginery.__all__)
from ipyparallel.error import *
assert CompositeError is enginery.CompositeError
from ipyparallel.client.view import DirectView
from ipyparallel.cluster.launcher import LocalEngineSetLauncher
assert ipp.client.asyncresult.AsyncResult is enginery.AsyncResult
import importlib
from ipyparallel._table import MODULES
from ipyparallel._modules import homes_of
for module, row in MODULES.items():
    for name in homes_of(row):
        getattr(importlib.import_module(module), name)
""",
    )
    assert not done.returncode, done.stderr


#: Every module and name that texts and programs of ipyparallel 9 import.
PUBLIC = """
ALL_COMPLETED FIRST_COMPLETED FIRST_EXCEPTION __version__ version_info Client DirectView LoadBalancedView BroadcastView
ViewExecutor AsyncResult AsyncMapResult AsyncHubResult Cluster ClusterManager RemoteFunction ParallelFunction Reference
PrePickled Dependency depend dependent remote parallel require interactive bind_kernel register_joblib_backend can uncan
serialize_object deserialize_object pack_apply_message unpack_apply_message use_dill use_cloudpickle use_pickle
collect_exceptions wrap_exception unwrap_exception load_jupyter_server_extension _load_jupyter_server_extension
_jupyter_server_extension_paths _jupyter_nbextension_paths _jupyter_labextension_paths can_map uncan_map TimeoutError
MultipleInstanceError client client.client client.view client.asyncresult client.futures client.magics client.map
client.remotefunction cluster cluster.launcher cluster.app controller controller.app controller.dictdb
controller.sqlitedb controller.mongodb controller.hub controller.heartmonitor controller.dependency
controller.task_scheduler engine engine.app engine.kernel engine.nanny datapub serialize serialize.canning
serialize.serialize error util joblib traitlets nbextension logger shellcmd apps apps.baseapp apps.ipclusterapp
apps.ipcontrollerapp apps.ipengineapp apps.iploggerapp apps.launcher apps.logwatcher
"""


def test_each_public_name_is_there_or_says_what_replaces_it():
    done = run(
        "-c",
        f"""
import importlib
import ipyparallel
for name in {PUBLIC.split()}:
    try:
        try:
            getattr(ipyparallel, name)
        except AttributeError as error:
            if name.islower():
                importlib.import_module("ipyparallel." + name)
            else:
                raise
    except (AttributeError, ImportError) as error:
        assert str(error).startswith("enginery has no ipyparallel." + name + ": "), error
""",
    )
    assert not done.returncode, done.stderr


@pytest.mark.parametrize(
    "statement",
    [
        "from ipyparallel import serialize_object",
        "import ipyparallel.serialize.canning",
        "import ipyparallel; ipyparallel.can",
        "import ipyparallel.controller.hub",
    ],
)
def test_what_is_gone_says_what_replaces_it(statement):
    done = run("-c", statement)
    assert "enginery has no ipyparallel." in done.stderr


def test_an_unknown_name_is_an_ordinary_error():
    assert "has no attribute 'nonsense'" in run("-c", "import ipyparallel; ipyparallel.nonsense").stderr


@pytest.mark.slow
@pytest.mark.parametrize("program", ["cluster", "controller", "engine", "logger"])
def test_programs_run(program):
    done = run("-m", f"ipyparallel.{program}", "--version")
    assert not done.returncode, done.stderr
