"""Scripts for batch systems, letter by letter, and templates with expressions."""

from __future__ import annotations

import stat
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from enginery.cluster.launchers import batch_named, winhpc
from enginery.cluster.launchers.batch_script import render
from enginery.errors import LauncherError

COMMAND = {"engine_cmd": ["/opt/bin/python", "-m", "enginery.engine"]}
CONTROLLER_COMMAND = {"controller_cmd": ["/opt/bin/python", "-m", "enginery.controller"]}
ENGINE = "/opt/bin/python -m enginery.engine --profile-dir=/p --cluster-id=c"
CONTROLLER = "/opt/bin/python -m enginery.controller --profile-dir=/p --cluster-id=c"


def launcher(name, **kwargs):
    kind = getattr(winhpc if name.startswith("Windows") else batch_named, f"{name}Launcher")
    command = CONTROLLER_COMMAND if "Controller" in name else COMMAND
    given = {"profile_dir": "/p", "cluster_id": "c", "output_file": "/out", **command, **kwargs}
    if "PBS" in name:
        given.setdefault("dialect", "openpbs")
    return kind(**given)


GOLDEN = {
    "SlurmEngineSet": f"""\
#!/bin/sh
#SBATCH --partition=fast
#SBATCH --output=/out
#SBATCH --export=ALL
#SBATCH --job-name=ipengine-c
#SBATCH --ntasks=8
exec srun --kill-on-bad-exit=0 {ENGINE}
""",
    "SlurmController": f"""\
#!/bin/sh
#SBATCH --partition=fast
#SBATCH --output=/out
#SBATCH --export=ALL
#SBATCH --job-name=ipcontroller-c
#SBATCH --ntasks=1
exec {CONTROLLER}
""",
    "PBSEngineSet": f"""\
#!/bin/sh
#PBS -q fast
#PBS -o /out.d/
#PBS -J 1-8
#PBS -V
#PBS -j oe
#PBS -N ipengine
cd "$PBS_O_WORKDIR"
{ENGINE}
""",
    "PBSController": f"""\
#!/bin/sh
#PBS -q fast
#PBS -o /out
#PBS -V
#PBS -j oe
#PBS -N ipcontroller
cd "$PBS_O_WORKDIR"
{CONTROLLER}
""",
    "SGEEngineSet": f"""\
#!/bin/sh
#$ -q fast
#$ -o /out
#$ -t 1-8
#$ -V
#$ -S /bin/sh
#$ -cwd
#$ -j y
#$ -N ipengine
exec {ENGINE}
""",
    "SGEController": f"""\
#!/bin/sh
#$ -q fast
#$ -o /out
#$ -V
#$ -S /bin/sh
#$ -cwd
#$ -j y
#$ -N ipcontroller
exec {CONTROLLER}
""",
    "LSFEngineSet": f"""\
#!/bin/sh
#BSUB -q fast
#BSUB -o /out
#BSUB -J "ipengine[1-8]"
exec {ENGINE}
""",
    "LSFController": f"""\
#!/bin/sh
#BSUB -q fast
#BSUB -o /out
#BSUB -J ipcontroller
exec {CONTROLLER}
""",
}


@pytest.mark.parametrize("name", GOLDEN)
def test_default_scripts(name):
    assert launcher(name, queue="fast").make_script(8) == GOLDEN[name]


def test_torque_has_arrays_of_its_own():
    script = launcher("PBSEngineSet", dialect="torque").make_script(8)
    assert "#PBS -t 1-8\n" in script
    assert "-J" not in script


def test_one_engine_is_no_array():
    # OpenPBS refuses `-J 1-1`.
    for name in ("PBSEngineSet", "SGEEngineSet", "LSFEngineSet"):
        script = launcher(name).make_script(1)
        assert "1-1" not in script
        assert "/out.d/" not in script


def test_htcondor_wants_an_absolute_program_and_quotes_of_its_own(monkeypatch):
    for name in ("PYTHONPATH", "HOME", "LANG", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "IPYTHONDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "/bin")
    made = launcher("HTCondorEngineSet", engine_cmd=["sh", "-c", 'it\'s "so"'], environment={"A": "b c"})
    assert made.make_script(8) == (
        "output = /out.$(Process)\n"
        "error = /out.$(Process).err\n"
        "universe = vanilla\n"
        "executable = /bin/sh\n"
        """arguments = "'-c' 'it''s ""so""' '--profile-dir=/p' '--cluster-id=c'"\n"""
        """environment = "PATH='/bin' IPP_CLUSTER_ID='c' IPP_PROFILE_DIR='/p' A='b c'"\n"""
        "transfer_executable = False\n"
        "should_transfer_files = NO\n"
        "queue 8\n"
    )
    assert launcher("HTCondorController").make_script(1).endswith("queue 1\n")


def test_windows_hpc_has_documents():
    made = launcher("WindowsHPCEngineSet", engine_args=["--debug"])
    made.config.WinHPCJob.project = "Fusion"
    made.config.IPEngineSetJob.priority = "Lowest"
    made.config.IPEngineTask.engine_cmd = ["C:\\my engines\\ipengine.exe"]
    root = ET.fromstring(made.make_script(3))
    space = "{http://schemas.microsoft.com/HPCS2008/scheduler/}"
    assert root.tag == f"{space}Job"
    assert (root.get("Project"), root.get("Priority"), root.get("Name")) == ("Fusion", "Lowest", "IPEngineSet")
    tasks = list(root.iter(f"{space}Task"))
    assert [task.get("StdOutFilePath") for task in tasks] == ["/out.0", "/out.1", "/out.2"]
    assert tasks[0].get("CommandLine") == '"C:\\my engines\\ipengine.exe" --profile-dir=/p --cluster-id=c --debug'
    variables = {each[0].text: each[1].text for each in tasks[0].iter(f"{space}Variable")}
    assert variables == {"IPP_CLUSTER_ID": "c", "IPP_PROFILE_DIR": "/p"}
    one = ET.fromstring(launcher("WindowsHPCController").make_script(1))
    assert [task.get("CommandLine") for task in one.iter(f"{space}Task")] == [CONTROLLER]


def test_slurm_has_settings_of_its_own():
    settings = {"account": "physics", "qos": "high", "timelimit": "1:00:00", "options": "--mem=4G --constraint=fast"}
    lines = launcher("SlurmEngineSet", queue="fast", **settings).make_script(2).splitlines()
    assert lines[1:7] == [
        "#SBATCH --partition=fast",
        "#SBATCH --output=/out",
        "#SBATCH --account=physics",
        "#SBATCH --qos=high",
        "#SBATCH --time=1:00:00",
        "#SBATCH --mem=4G --constraint=fast",
    ]
    template = "#!/bin/bash\n#SBATCH -A {account}2 -t 5\n#SBATCH -n {n}\nsrun {program_and_args} # {qos}\n"
    script = launcher("SlurmEngineSet", batch_template=template, **settings).make_script(2)
    assert "physics2 -t 5\n" in script
    assert script.count("physics") == 1
    assert "--time" not in script
    assert script.endswith("# high\n")


# --- templates of users -------------------------------------------------------------------------------------------


def test_expressions():
    namespace = {"n": 10, "queue": "fast", "words": ["a", "b"]}
    assert render("{n//4} {n:03} {queue.upper()} {words[1]} {','.join(words)} ${{HOME}}", namespace) == (
        "2 010 FAST b a,b ${HOME}\n"
    )


def test_what_cannot_be_filled_in_is_named():
    with pytest.raises(LauncherError) as caught:
        launcher("SlurmEngineSet", batch_template="#!/bin/sh\necho ${HOME}\n{program_and_args}\n").make_script(4)
    text = str(caught.value)
    for words in (
        "SlurmEngineSetLauncher.batch_template",
        "echo ${HOME}",
        "'HOME'",
        "doubled",
        "program_args",
    ):
        assert words in text


def test_the_namespace_is_extended():
    made = launcher("SGEEngineSet", batch_template="{walltime} {n}\n{environment_json}", namespace={"walltime": "5:00"})
    script = made.make_script(4)
    assert "5:00 4\n" in script
    assert '{"IPP_CLUSTER_ID": "c", "IPP_PROFILE_DIR": "/p"}' in script


def test_a_template_that_says_how_many_gets_no_array():
    template = "#PBS -l nodes={n//4}:ppn=4\nmpiexec -n {n} ipengine --profile-dir={profile_dir}\n"
    script = launcher("PBSEngineSet", batch_template=template, queue="fast").make_script(8)
    assert script == ("#PBS -q fast\n#PBS -o /out\n#PBS -l nodes=2:ppn=4\nmpiexec -n 8 ipengine --profile-dir=/p\n")


def test_a_template_that_does_not_say_how_many_gets_an_array():
    for name, line in (
        ("PBSEngineSet", "#PBS -J 1-8"),
        ("SGEEngineSet", "#$ -t 1-8"),
        ("SlurmEngineSet", "#SBATCH --array=1-8"),
        ("LSFEngineSet", '#BSUB -J "ipengine[1-8]"'),
    ):
        script = launcher(name, batch_template="#!/bin/bash\nmodule load python\n{program_and_args}\n").make_script(8)
        assert script.splitlines().count(line) == 1
        assert script.startswith("#!/bin/bash\n")


def test_a_template_keeps_its_own_array_queue_and_output():
    template = "#!/bin/sh\n#$ -t 2-9\n#$ -q slow\n#$ -o {output_file}.mine\n{program_and_args}\n"
    script = launcher("SGEEngineSet", batch_template=template, queue="fast").make_script(8)
    assert script == template.format(output_file="/out", program_and_args=ENGINE)


def test_a_name_of_lsf_becomes_that_of_the_array():
    # Of two lines with -J the second would win, and the array would be lost.
    script = launcher("LSFEngineSet", batch_template="#BSUB -W 10 -J mine\n{program_and_args}\n").make_script(8)
    assert '#BSUB -W 10 -J "mine[1-8]"\n' in script
    assert script.count("-J") == 1


def test_the_file_of_a_template(tmp_path):
    path = tmp_path / "pbs.engine.template"
    path.write_text("#PBS -o {output_file}\nfrom the file {n}\n")
    assert launcher("PBSEngineSet", batch_template_file=str(path)).make_script(2) == "#PBS -o /out\nfrom the file 2\n"
    both = launcher("PBSEngineSet", batch_template_file=str(path), batch_template="#PBS -o x\nfrom the text {n}")
    assert "from the text 2" in both.make_script(2)
    with pytest.raises(LauncherError, match=r"Cannot read the template '.*missing'.*batch_template_file"):
        launcher("PBSEngineSet", batch_template_file=str(tmp_path / "missing")).make_script(2)


def test_arguments_are_quoted_for_the_shell():
    made = launcher("SGEEngineSet", engine_args=["--c=a b; rm -rf $HOME"])
    assert "'--c=a b; rm -rf $HOME'" in made.make_script(1)
    assert "it is '--c=a b" in launcher(
        "SGEEngineSet", engine_args=["--c=a b"], batch_template="it is {program_args.split(' ', 2)[2]}"
    ).make_script(1)


# --- the file -----------------------------------------------------------------------------------------------------


def test_scripts_are_for_their_owner_only(tmp_path):
    made = launcher("SlurmEngineSet", profile_dir=str(tmp_path), engine_set_id="s")
    path = made.write_script("one")
    assert path == tmp_path / "log" / "slurm_engine-c-s.sbatch"
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert made.write_script("two").read_text() == "two"
    condor = launcher("HTCondorController", profile_dir=str(tmp_path))
    assert stat.S_IMODE(condor.write_script("one").stat().st_mode) == 0o600


def test_a_link_in_the_way_is_not_followed(tmp_path):
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "mine").symlink_to(tmp_path / "theirs")
    launcher("SlurmEngineSet", batch_file_name=str(tmp_path / "mine")).write_script("text")
    assert (tmp_path / "theirs").read_text() == "theirs"
    assert (tmp_path / "mine").read_text() == "text"


def test_a_place_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    made = launcher("SlurmEngineSet", batch_file_name=str(tmp_path / "file" / "script"))
    with pytest.raises(LauncherError, match=r"Cannot write the batch script '.*script': .*batch_file_name"):
        made.write_script("text")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full disk to offer")
def test_a_full_disk(tmp_path, monkeypatch):
    import errno
    import os

    def full(path, flags, mode):
        # The file can be made; its text does not fit.
        os.close(opened(path, flags, mode))
        return opened("/dev/full", os.O_WRONLY)

    opened = os.open
    monkeypatch.setattr("os.open", full)
    made = launcher("SlurmEngineSet", batch_file_name=str(tmp_path / "script"))
    with pytest.raises(LauncherError, match=os.strerror(errno.ENOSPC)):
        made.write_script("text")
    assert not list(tmp_path.iterdir())
