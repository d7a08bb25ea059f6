"""Commands of batch systems: run to their end, with an error in words when that cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from enginery.errors import LauncherError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

#: What must not get into a job: systems show a job's environment to other users.
SECRET = "IPP_CONNECTION_INFO"  # noqa: S105 - the name of a variable, not its value


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command said."""

    code: int
    text: str  #: standard output
    errors: str

    @property
    def all(self) -> str:
        """Both outputs."""
        return "\n".join(filter(None, (self.text.strip(), self.errors.strip())))


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    timeout: float,
    script: Path | None = None,
    setting: str = "",
) -> Answer:
    """Run a command, with the file ``script`` as its standard input.

    Raises LauncherError if it is missing (naming the ``setting`` that says where it is) or takes longer than
    ``timeout`` seconds.
    """
    shown = " ".join(command)
    variables = {name: value for name, value in os.environ.items() if name != SECRET}
    try:
        stdin = open(script, "rb") if script is not None else None  # noqa: SIM115 - closed below
        try:
            done = subprocess.run(
                list(command),
                env={**variables, **environment},
                stdin=stdin if stdin is not None else subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout,
                check=False,
                text=True,
                errors="replace",
                # A Ctrl-C in the terminal is for us: half a submission would be a job that nobody knows.
                start_new_session=sys.platform != "win32",
            )
        finally:
            if stdin is not None:
                stdin.close()
    except FileNotFoundError as error:
        msg = (
            f"There is no command {command[0]!r} on this machine (PATH={os.environ.get('PATH', '')}). Run this on a host "
            f"of the batch system, or say where the command is"
            + (f": c.{setting} = ['/path/to/{command[0]}']." if setting else ".")
        )
        raise LauncherError(msg, command=command) from error
    except subprocess.TimeoutExpired as error:
        msg = f"`{shown}` did not answer within {timeout:g} s. Is the batch system up? Try it in a terminal."
        raise LauncherError(msg, command=command) from error
    except OSError as error:
        msg = f"Cannot run `{shown}`: {error}."
        raise LauncherError(msg, command=command) from error
    return Answer(done.returncode, done.stdout, done.stderr)
