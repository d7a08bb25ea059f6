"""Launchers of batch systems, with fake commands that really run what is submitted."""

from __future__ import annotations

import gc
import json
import logging
import os
import queue
import sys
import threading
import weakref

import pytest

from cluster.batch_bed import Bed
from enginery.cluster.launchers import batch_named, winhpc
from enginery.cluster.launchers.base import NotRunning
from enginery.cluster.launchers.batch import BatchEngineSetLauncher
from enginery.errors import LauncherError
from enginery.net.connection_file import ConnectionInfo

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="the fakes are shell scripts"),
    pytest.mark.slow,
]

ENGINE_INFO = ConnectionInfo(kind="engine", url="tcp://127.0.0.1:5", exec_key="hush")
#: System -> prefix of its classes, and what it says of jobs that wait, run, and failed with code 3.
SYSTEMS = {
    "slurm": ("Slurm", "PENDING: Resources", "RUNNING", "FAILED: exit code 3"),
    "openpbs": (
        "PBS",
        "queued: Not Running: Insufficient amount of resource: ncpus",
        "running",
        "finished: exit code 3",
    ),
    "torque": (
        "PBS",
        "queued: Not Running: Insufficient amount of resource: ncpus",
        "running",
        "completed: exit code 3",
    ),
    "lsf": ("LSF", "PEND: Not enough job slots: 1 host", "RUN", "EXIT: exit code 3"),
    "condor": ("HTCondor", "idle", "running", "completed: exit code 3"),
    "hpc": ("WindowsHPC", "Queued: Not enough idle cores", "Running", "Failed"),
}
#: Says where it runs, then stays until it is told to leave.
STAYS = "import os, signal, sys; print('here', flush=True); signal.signal(15, lambda *_: sys.exit(0)); signal.pause()"
FAILS = "import sys; print('no numpy here'); sys.exit(3)"


@pytest.fixture(params=SYSTEMS)
def dialect(request):
    return request.param


@pytest.fixture
def bed(dialect, tmp_path, monkeypatch):
    found = Bed(tmp_path, dialect, monkeypatch)
    yield found
    assert not found.running()


@pytest.fixture
def launch(dialect, bed, tmp_path):
    """Make launchers of one system; they are stopped at the end."""
    made = []

    def make(program, kind="EngineSet", **kwargs):
        module = winhpc if dialect == "hpc" else batch_named
        path = tmp_path / f"program-{len(made)}.py"
        path.write_text(program)
        command = {"EngineSet": "engine_cmd", "Controller": "controller_cmd"}[kind]
        given = {
            command: [sys.executable, "-IS", str(path)],  # it starts in half the time
            "profile_dir": str(tmp_path / "profile"),
            "cluster_id": "c",
            "poll_interval": 0.05,
            "poll_interval_max": 0.2,
            "log": logging.getLogger("enginery.test"),
            **({"scheduler": "HEAD"} if dialect == "hpc" else {}),
        }
        launcher = getattr(module, f"{SYSTEMS[dialect][0]}{kind}Launcher")(**{**given, **kwargs})
        launcher.ends = queue.SimpleQueue()
        launcher.on_stop(launcher.ends.put)
        made.append(launcher)
        return launcher

    yield make
    for launcher in made:
        launcher.stop()
        launcher.get_output(remove=True)
    wait_for(lambda: not [each for each in threading.enumerate() if each.name == "enginery-batch-watch"])


def wait_for(condition, timeout=30.0):
    """Wait for what tells nobody: states of jobs, files they write."""
    waiting = threading.Event()
    for _ in range(int(timeout / 0.05)):
        if condition():
            return
        waiting.wait(0.05)
    raise AssertionError(condition)


def test_engines_are_submitted_watched_and_stopped(launch, bed, dialect, tmp_path):
    launcher = launch(STAYS, engine_set_id="s", connection=ENGINE_INFO)
    assert launcher.status() == ""
    launcher.start(3)
    assert launcher.running
    assert launcher.n == 3
    wait_for(lambda: launcher.get_output().count("here") == 3)
    wait_for(lambda: SYSTEMS[dialect][2] in launcher.status())
    assert launcher.status() == f"job {launcher.identifier} is {SYSTEMS[dialect][2]}"
    assert launcher.poll() is None
    assert len(bed.running()) == (1 if dialect == "slurm" else 3)
    script = launcher.script
    assert script.parent == tmp_path / "profile" / "log"
    assert script.stat().st_mode & 0o077 == 0
    assert "hush" not in script.read_text()
    launcher.stop()
    assert launcher.state == "after"
    wait_for(lambda: not bed.running())
    launcher.ends.get(timeout=30)
    launcher.get_output(remove=True)
    assert not list((tmp_path / "profile" / "log").iterdir())


def test_a_job_that_waits_says_why(launch, bed, dialect):
    bed.say("full")
    launcher = launch(STAYS)
    launcher.start(2)
    wait_for(lambda: launcher.status().endswith(SYSTEMS[dialect][1]))
    assert launcher.status() == f"job {launcher.identifier} is {SYSTEMS[dialect][1]}"
    launcher.stop()
    assert launcher.state == "after"


def test_a_job_that_fails_says_how(launch, dialect, caplog):
    launcher = launch(FAILS)
    with caplog.at_level(logging.INFO):
        launcher.start(2)
        data = launcher.ends.get(timeout=30)
    assert data["exit_code"] == (1 if dialect == "hpc" else 3)
    assert data["reason"].endswith(SYSTEMS[dialect][3])
    assert "no numpy here" in data["output"]
    assert SYSTEMS[dialect][3] in caplog.text
    text = str(launcher.failure("ended before the engines had connected"))
    for words in ("The set of 2 engines ended before", f"job {launcher.identifier} is", "no numpy here"):
        assert words in text


def test_a_job_that_is_refused(launch, bed, tmp_path):
    bed.say("refuse", "qsub: would exceed queue's per-user limit")
    launcher = launch(STAYS)
    with pytest.raises(LauncherError) as caught:
        launcher.start(2)
    assert caught.value.code == 32
    text = str(caught.value)
    (script,) = [path for path in (tmp_path / "profile" / "log").iterdir() if path.is_file()]  # beside one for output
    for words in ("refused the job (exit code 32)", "Command: ", f"Script: {script}", "per-user limit"):
        assert words in text
    assert caught.value.output == "qsub: would exceed queue's per-user limit"
    launcher.stop()
    launcher.get_output(remove=True)
    assert script.exists()


def test_another_process_takes_over(launch, bed, dialect):
    launcher = launch(STAYS)
    launcher.start(2)
    wait_for(lambda: len(bed.running()) == (1 if dialect == "slurm" else 2))
    plain = json.loads(json.dumps(launcher.to_dict()))
    given = {"scheduler": "HEAD"} if dialect == "hpc" else {}
    heir = type(launcher).from_dict(plain, profile_dir=launcher.profile_dir, poll_interval=0.05, **given)
    assert heir.running
    assert heir.identifier == launcher.identifier
    wait_for(lambda: "here" in heir.get_output())
    heir.stop()
    assert launcher.ends.get(timeout=30)["identifier"] == heir.identifier
    with pytest.raises(NotRunning, match=f"job {heir.identifier[0]}"):
        type(launcher).from_dict(plain, **given)
    with pytest.raises(NotRunning):
        type(launcher).from_dict({}, **given)


def test_a_system_that_does_not_answer_has_not_ended_the_job(launch, bed, dialect):
    launcher = launch(STAYS)
    launcher.start(1)
    wait_for(lambda: SYSTEMS[dialect][2] in launcher.status())
    bed.say("down")
    wait_for(lambda: "does not say what job" in launcher.status())
    assert launcher.running
    given = {"scheduler": "HEAD"} if dialect == "hpc" else {}
    heir = type(launcher).from_dict(launcher.to_dict(), **given)
    assert "does not say" in heir.status()
    bed.unsay("down")
    wait_for(lambda: SYSTEMS[dialect][2] in launcher.status())
    launcher.stop()
    heir.stop()


def test_a_controller_is_waited_for(launch, bed, tmp_path):
    security = tmp_path / "profile" / "security"
    launcher = launch(
        "import pathlib, signal, sys\n"
        f"security = pathlib.Path({str(security)!r})\n"
        "for kind in ('client', 'engine'):\n"
        '    text = \'{"kind": "%s", "url": "tcp://h1:5"}\' % kind\n'
        "    (security / f'ipcontroller-c-{kind}.json').write_text(text)\n"
        "signal.signal(15, lambda *_: sys.exit(0)); signal.pause()",
        "Controller",
    )
    # Files of an earlier controller are not taken for its own.
    security.mkdir(parents=True)
    for kind in ("client", "engine"):
        old = security / f"ipcontroller-c-{kind}.json"
        old.write_text(json.dumps({"kind": kind, "url": "tcp://old:5"}))
        os.utime(old, (1, 1))
    launcher.start()
    assert launcher.get_connection_info(30)["engine"].url == "tcp://h1:5"
    launcher.stop()
    wait_for(lambda: not bed.running())


def test_a_controller_that_does_not_come(launch, bed, dialect):
    launcher = launch(FAILS, "Controller")
    launcher.start()
    with pytest.raises(LauncherError, match=r"(?s)The controller ended before it was ready: job .*no numpy here"):
        launcher.get_connection_info(30)
    bed.say("full")
    late = launch(STAYS, "Controller")
    late.start()
    wait_for(lambda: SYSTEMS[dialect][1] in late.status())
    with pytest.raises(LauncherError, match=r"not ready within 0 s .*connection_info_timeout") as caught:
        late.get_connection_info(0)
    assert SYSTEMS[dialect][1] in str(caught.value)


@pytest.mark.parametrize("dialect", ["slurm", "openpbs", "lsf"], indirect=True)
def test_signals(launch, bed, tmp_path):
    mark = tmp_path / "mark"
    launcher = launch(
        f"import pathlib, signal; signal.signal(10, lambda *_: pathlib.Path({str(mark)!r}).write_text('10'))\n"
        "print('here', flush=True)\nsignal.pause(); signal.pause()"
    )
    # The fake signals the whole group; the shell that stands for the node's daemon must not mind.
    launcher.batch_template = "trap : USR1\n{program_and_args}\n"
    launcher.start(1)
    wait_for(lambda: "here" in launcher.get_output())
    launcher.signal(10)
    wait_for(mark.exists)


@pytest.mark.parametrize("dialect", ["condor", "hpc"], indirect=True)
def test_systems_that_cannot_signal(launch):
    with pytest.raises(LauncherError, match=r"cannot send signals. Use Client.send_signal"):
        launch(STAYS).signal(10)


@pytest.mark.parametrize("dialect", ["condor"], indirect=True)
def test_a_job_that_is_held_for_ever_has_failed(launch):
    launcher = launch(STAYS, engine_cmd=["/no/such/program"])
    launcher.start(2)
    data = launcher.ends.get(timeout=30)
    assert "is held: Failed to execute '/no/such/program'" in data["reason"]
    assert data["exit_code"] == 1
    wait_for(lambda: launcher.job.query() == [])  # it was removed, too


@pytest.mark.parametrize("dialect", ["openpbs"], indirect=True)
class TestDrill:
    """What can go wrong before there is a job."""

    def test_no_such_command(self, launch):
        launcher = launch(STAYS, submit_command=["qsubb", "-x"])
        with pytest.raises(LauncherError) as caught:
            launcher.start(1)
        assert "There is no command 'qsubb' on this machine" in str(caught.value)
        assert "c.PBSEngineSetLauncher.submit_command = ['/path/to/qsubb']" in str(caught.value)

    def test_a_command_that_hangs(self, launch, bed):
        bed.command("slow", "import signal; signal.pause()")
        launcher = launch(STAYS, submit_command=["slow"], command_timeout=0.2)
        with pytest.raises(LauncherError, match=r"`slow .*` did not answer within 0.2 s. Is the batch system up"):
            launcher.start(1)

    def test_an_id_that_is_not_found(self, launch, bed):
        bed.command("strange", "print('Thank you!')")
        launcher = launch(STAYS, submit_command=["strange"])
        with pytest.raises(LauncherError) as caught:
            launcher.start(1)
        for words in ("its id was not found by", "PBSEngineSetLauncher.job_id_regexp", "Thank you!", "by hand"):
            assert words in str(caught.value)

    def test_a_regular_expression_of_ones_own(self, launch, bed):
        bed.command("mine", "import os, sys; print('Request ' + os.popen('qsub ' + sys.argv[1]).read())")
        launcher = launch(STAYS, submit_command=["mine"], job_id_regexp=r"Request (\S+)", job_id_regexp_group=1)
        launcher.start(1)
        assert launcher.identifier == "1.head"

    def test_a_command_that_may_not_be_run(self, launch, tmp_path):
        (tmp_path / "file").write_text("no program")
        with pytest.raises(LauncherError, match="Cannot run `"):
            launch(STAYS, submit_command=[str(tmp_path / "file")]).start(1)

    def test_started_twice(self, launch):
        launcher = launch(STAYS)
        launcher.start(1)
        with pytest.raises(LauncherError, match="make another launcher"):
            launcher.start(1)

    def test_a_queue_that_does_not_let_go(self, launch, bed):
        launcher = launch(STAYS, stop_timeout=0.3, delete_command=["true"])
        launcher.start(1)
        wait_for(lambda: "running" in launcher.status())
        with pytest.raises(LauncherError, match=r"job 1.head is running, 0.3 s after `true 1.head`. .*stop_timeout"):
            launcher.stop()
        launcher.delete_command = ["qdel"]
        launcher.stop_timeout = 30.0
        launcher.stop()

    def test_no_keys_in_the_environment(self, launch, monkeypatch):
        monkeypatch.setenv("IPP_CONNECTION_INFO", "secret of another cluster")
        launcher = launch("import os; print(sorted(os.environ))", connection=ENGINE_INFO, environment={"MINE": "1"})
        launcher.start(1)
        output = launcher.ends.get(timeout=30)["output"]
        assert "'MINE'" in output
        assert "'IPP_CLUSTER_ID'" in output
        assert "IPP_CONNECTION_INFO" not in output

    def test_servers_without_history(self, launch, bed):
        qstat = (bed.bin / "qstat").read_text()
        (bed.bin / "real").write_text(qstat)
        (bed.bin / "real").chmod(0o755)
        bed.command(
            "qstat",
            "import os, sys\n"
            "if '-x' in sys.argv: sys.exit('qstat: PBS is not configured to maintain job history')\n"
            "os.execvp('real', ['real', *sys.argv[1:2], '-x', *sys.argv[2:]])",
        )
        launcher = launch(STAYS)
        launcher.start(1)
        wait_for(lambda: launcher.status() == "job 1.head is running")


@pytest.mark.parametrize("dialect", ["openpbs"], indirect=True)
def test_a_job_that_vanishes_has_ended(launch, bed, monkeypatch):
    launcher = launch(STAYS)
    launcher.start(1)
    wait_for(lambda: "running" in launcher.status())
    launcher.job.cancel(launcher.delete_arguments())  # behind its back
    launcher.job.is_cancelled = False
    wait_for(lambda: not bed.running())
    for path in bed.state.glob("1.json"):
        path.unlink()
    assert "job 1.head" in launcher.ends.get(timeout=30)["reason"]


@pytest.mark.parametrize("dialect", ["openpbs"], indirect=True)
def test_nobody_watches_for_a_launcher_that_is_forgotten(launch, bed, dialect):
    launcher = launch(STAYS)
    launcher.start(1)
    plain = launcher.to_dict()
    heir = weakref.ref(type(launcher).from_dict(plain, poll_interval=0.05))
    watchers = [each for each in threading.enumerate() if each.name == "enginery-batch-watch"]
    assert len(watchers) == 2

    def is_forgotten():
        gc.collect()
        return heir() is None and sum(each.is_alive() for each in watchers) == 1

    wait_for(is_forgotten)


def test_a_system_that_is_all_configured(tmp_path, monkeypatch):
    bed = Bed(tmp_path, "openpbs", monkeypatch)
    launcher = BatchEngineSetLauncher(
        engine_cmd=[sys.executable, "-c", STAYS],
        profile_dir=str(tmp_path / "profile"),
        submit_command=["qsub"],
        delete_command=["qdel"],
        job_id_regexp=r"\d+\[\]",
        batch_template="#PBS -J 1-{n}\n#PBS -o {output_file}.d/\n{program_and_args}\n",
    )
    launcher.start(2)
    assert launcher.identifier == "1[]"
    wait_for(lambda: launcher.get_output().count("here") == 2)
    launcher.stop()
    assert launcher.state == "after"
    wait_for(lambda: not bed.running())
    with pytest.raises(LauncherError, match="set BatchEngineSetLauncher.submit_command"):
        BatchEngineSetLauncher(profile_dir=str(tmp_path / "profile")).start(1)
