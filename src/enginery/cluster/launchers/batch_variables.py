"""What templates of batch scripts can mention."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from typing import TYPE_CHECKING, Any, Final

from enginery.cluster.launchers.batch_files import output_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enginery.cluster.launchers.batch_scripted import ScriptedLauncher

#: What a job of HTCondor, which starts with next to no environment, gets of ours.
PASSED_ON: Final = (
    "PATH",
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "HOME",
    "LANG",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "IPYTHONDIR",
)


def script_variables(launcher: ScriptedLauncher, n: int) -> dict[str, Any]:
    """Every variable of a launcher's template, by name; what the user's ``namespace`` says wins."""
    command = launcher.args
    program, arguments = split_program(command, launcher)
    return {
        "n": n,
        "queue": launcher.queue,
        "profile_dir": launcher.profile_dir,
        "cluster_id": launcher.cluster_id,
        "output_file": launcher.output_file,
        "output_folder": str(output_folder(launcher.output_file)),
        "program": shlex.join(program),
        "program_args": shlex.join(arguments),
        "program_and_args": shlex.join(command),
        "environment_json": json.dumps(launcher.get_env()),
        **launcher.further_variables(),
        **condor_variables(command, launcher.get_env()),
        **launcher.namespace,
    }


def split_program(command: Sequence[str], launcher: ScriptedLauncher) -> tuple[Sequence[str], Sequence[str]]:
    """The program of a command line, such as ``python -m enginery.engine``, and its arguments."""
    length = len(launcher.program)
    return command[:length], command[length:]


def condor_variables(command: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """The command and the environment in the quotes of HTCondor's submit files; the program by its whole path."""
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    executable = shutil.which(command[0]) or command[0]
    return {
        "executable": executable,
        "arguments": " ".join(condor_quoted(each) for each in command[1:]),
        "environment": " ".join(f"{name}={condor_quoted(value)}" for name, value in {**passed, **environment}.items()),
    }


def condor_quoted(text: str) -> str:
    """One argument, or one value of a variable, inside the double quotes that HTCondor wants around all of them."""
    return "'" + text.replace("'", "''").replace('"', '""') + "'"
