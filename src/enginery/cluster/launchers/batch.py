"""Launchers for batch systems: a script is made from a template, submitted, and its job watched until it is over.

The script is made in ``batch_scripted``, one class does the rest for all systems; what is particular to a system is its entry in ``batch_systems``, and each has
named classes in ``batch_named`` for configuration. Rules:

1. No keys in scripts, command lines or environments: batch systems show those to other users. Engines and controllers
   find the connection file in their profile, which is on a file system that the hosts share.
2. The script of a refused job stays where it is, to be looked at; that of an accepted one goes when the job is over.
3. A job counts as over when the system says so, or does not know it any more; never because the system does not answer.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from traitlets import Float, Integer, List, Unicode, default

from enginery.cluster.ctrl_c import held_back
from enginery.cluster.launchers import batch_files, batch_states
from enginery.cluster.launchers.base import ControllerLauncher, EngineLauncher, NotRunning, start_failure
from enginery.cluster.launchers.batch_commands import SECRET, Answer, run
from enginery.cluster.launchers.batch_job import Job
from enginery.cluster.launchers.batch_leash import Leash, can_hold
from enginery.cluster.launchers.batch_scripted import ScriptedLauncher
from enginery.cluster.launchers.batch_watch import Watch
from enginery.errors import LauncherError
from enginery.net import connection_file, profile_paths

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from enginery.cluster.launchers.base import StopData
    from enginery.cluster.launchers.batch_states import Part
    from enginery.net.connection_file import ConnectionInfo

#: How often the connection files of a controller elsewhere are looked for, in seconds: nobody tells when they come.
GLANCE: Final = 0.25


class BatchSystemLauncher(ScriptedLauncher):
    """A program in a job of a batch system."""

    submit_command = List(Unicode(), help="The command that submits a script.").tag(config=True)
    delete_command = List(Unicode(), help="The command that removes a job.").tag(config=True)
    signal_command = List(Unicode(), help="The command that signals a job; signal and id follow.").tag(config=True)
    job_id_regexp = Unicode(help="Finds the job's id in what the submit command prints.").tag(config=True)
    job_id_regexp_group = Integer(0, help="Which group of job_id_regexp is the id.").tag(config=True)
    poll_interval = Float(0.5, min=0.05, help="Seconds between the first looks at the job; they grow.").tag(config=True)
    poll_interval_max = Float(30.0, min=0.05, help="Seconds between looks at a job that has been there long.").tag(
        config=True
    )
    command_timeout = Float(60.0, help="Seconds a command of the batch system may take.").tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.script: Path | None = None  #: of a job that was accepted
        self.job: Job | None = None  #: once submitted
        self._watch: Watch | None = None
        self._leash: Leash | None = None

    @default("submit_command")
    def _default_submit_command(self) -> list[str]:
        return list(self.system.submit)

    @default("delete_command")
    def _default_delete_command(self) -> list[str]:
        return list(self.system.delete)

    @default("signal_command")
    def _default_signal_command(self) -> list[str]:
        return list(self.system.signal)

    @default("job_id_regexp")
    def _default_job_id_regexp(self) -> str:
        return self.system.job_id

    @default("job_id_regexp_group")
    def _default_job_id_regexp_group(self) -> int:
        # A regular expression of the user's has groups of its own.
        return self.system.job_id_group if self.job_id_regexp == self.system.job_id else 0

    # --- starting ---------------------------------------------------------------------------------------------------

    def get_env(self) -> dict[str, str]:
        """As of every launcher, without the connection info (rule 1)."""
        usual = {name: value for name, value in super().get_env().items() if name != SECRET}
        return {**self.system.environment, **usual}

    def submit(self, n: int) -> None:
        """Write the script for ``n`` engines, submit it, and begin to watch the job. Raises LauncherError."""
        if self.state != "before":
            msg = f"{self!r} has been started before; make another launcher."
            raise LauncherError(msg)
        if not self.output_file:
            program = "ipcontroller" if self.part == "controller" else "ipengine"
            folder = profile_paths.ensure_profile(profile_paths.profile_folder(profile_dir=self.profile_dir))
            self.output_file = str(
                profile_paths.log_path(folder, program, *filter(None, (self.own_name, str(os.getpid()))))
            )
        text = self.make_script(n)
        if str(folder := batch_files.output_folder(self.output_file)) in text:
            folder.mkdir(parents=True, exist_ok=True)
        script = self.write_script(text)
        with held_back():  # or there might be a job that nobody knows
            self.identifier = self._submit_script(script)
            self.script = script
            self.log.info("Job %s submitted to %s", self.identifier, self.system.name)
            self.notify_start()
            self._hold_job(script)
            self._watch_job(self._known_job())

    def _hold_job(self, script: Path) -> None:
        """Have the job removed when this process is gone, if it belongs to it."""
        if self.owned and can_hold():
            files = [script, *self.left_files, *([Path(self.cluster_file)] if self.cluster_file else [])]
            command, environment = self.delete_arguments(), self.get_env()
            self._leash = Leash(command, environment=environment, files=files, beat_file=self.beat_file)

    def notify_stop(self, data: StopData) -> None:
        """As of every launcher; first of all, nobody has to hold the job any more."""
        with self._state_lock:
            leash, self._leash = self._leash, None
        if leash is not None:
            leash.release()
        super().notify_stop(data)

    @property
    def left_files(self) -> list[Path]:
        """Files that a job leaves when it is removed, beside its output."""
        return list(self.litter)

    @property
    def beat_file(self) -> Path | None:
        """The file by which the job hears that this process is there, if it can."""
        return None

    def submit_arguments(self, script: Path) -> list[str]:
        """The command line that submits ``script``."""
        if not self.submit_command:
            msg = f"Nothing says how to submit a job: set {type(self).__name__}.submit_command."
            raise LauncherError(msg)
        return [*self.submit_command] if self.system.script_through_stdin else [*self.submit_command, str(script)]

    def _submit_script(self, script: Path) -> str:
        command = self.submit_arguments(script)
        answer = self.ask(command, script if self.system.script_through_stdin else None, setting="submit_command")
        shown = f"Command: {' '.join(command)}\nScript: {script}\nIts output:\n{answer.all or '(nothing)'}"
        details: Any = {"command": command, "code": answer.code, "output": answer.all}
        if answer.code:
            msg = f"{self.system.name} refused the job (exit code {answer.code}).\n{shown}"
            raise LauncherError(msg, **details)
        found = re.search(self.job_id_regexp, answer.text, re.MULTILINE)
        if found is None:
            msg = (
                f"{self.system.name} took the job, but its id was not found by {self.job_id_regexp!r} "
                f"({type(self).__name__}.job_id_regexp). Remove the job by hand.\n{shown}"
            )
            raise LauncherError(msg, **details)
        return str(found[self.job_id_regexp_group])

    def ask(self, command: Sequence[str], script: Path | None = None, setting: str = "") -> Answer:
        """Run a command of the batch system. Raises LauncherError if it is missing or does not answer."""
        setting = f"{type(self).__name__}.{setting}" if setting else ""
        return run(command, environment=self.get_env(), timeout=self.command_timeout, script=script, setting=setting)

    # --- watching ---------------------------------------------------------------------------------------------------

    def _known_job(self) -> Job:
        self.job = Job(self.system, self.identifier, self.ask, self._job_ended, self.log)
        return self.job

    def _watch_job(self, job: Job) -> None:
        if self.system.query:
            self._watch = Watch(job, self.poll_interval, self.poll_interval_max)
            self._watch.start()

    def status(self) -> str:
        """What the job does now, in one phrase: ``job 4711 is PENDING: Resources``; empty before there is one."""
        if self.state == "after":
            return str(self.stop_data.get("reason", ""))
        return self.job.status() if self.job is not None else ""

    def _job_ended(self, parts: list[Part]) -> None:
        assert self.job is not None
        if any(part.phase == "stuck" for part in parts):
            # It would stay in the queue for ever.
            with contextlib.suppress(LauncherError):
                self.job.cancel(self.delete_arguments())
        elif not self.job.is_cancelled:
            self.log.log(
                logging.WARNING if batch_states.outcome(parts) else logging.INFO,
                "%s",
                batch_states.describe(self.identifier, parts),
            )
        reason = batch_states.describe(self.identifier, parts)
        data = {"exit_code": batch_states.outcome(parts), "reason": reason, "output": self.get_output()}
        self.notify_stop({**data, "identifier": self.identifier})

    # --- ending -----------------------------------------------------------------------------------------------------

    def delete_arguments(self) -> list[str]:
        """The command line that removes the job."""
        return [*self.delete_command, self.identifier]

    def cancel(self) -> None:
        """Remove the job from the queue, without waiting. Raises LauncherError if the command cannot be run."""
        assert self.job is not None
        self.job.cancel(self.delete_arguments())
        if self._watch is not None:
            self._watch.hurry()

    def begin_stop(self) -> None:
        """Remove the job from the queue, without waiting."""
        if self.running and self.job is not None:
            with contextlib.suppress(LauncherError):  # `stop` will say it
                self.cancel()

    def stop(self) -> None:
        """Remove the job, and return when the queue has let go of it.

        Raises LauncherError if that takes longer than ``stop_timeout`` seconds, or the command cannot be run.
        """
        if self.job is None:
            self.notify_stop({"exit_code": None})
        elif self.running:
            self.cancel()
            if self._watch is None:
                self.notify_stop({"exit_code": None, "identifier": self.identifier})
            elif not self.join(self.stop_timeout):
                msg = (
                    f"{self.status()}, {self.stop_timeout:g} s after `{' '.join(self.delete_arguments())}`. Look at it in "
                    f"a terminal, or raise {type(self).__name__}.stop_timeout if nodes need longer."
                )
                raise LauncherError(msg, command=self.delete_arguments())

    def signal(self, sig: int) -> None:
        """Send a signal to the processes of the job. Raises LauncherError if the system cannot or does not."""
        if not self.signal_command:
            super().signal(sig)
        command = [*self.signal_command, str(int(sig)), self.identifier]
        answer = self.ask(command, setting="signal_command")
        if answer.code:
            msg = f"`{' '.join(command)}` ended with {answer.code}: {answer.all}"
            raise LauncherError(msg, command=command, code=answer.code, output=answer.all)

    # --- its output -------------------------------------------------------------------------------------------------

    def get_output(self, *, remove: bool = False) -> str:
        """The last lines the job wrote. With ``remove``, its files go, and the script of a job that was accepted."""
        text = batch_files.read_output(self.output_file, self.output_limit) if self.output_file else ""
        if remove:
            if self.output_file:
                batch_files.remove_output(self.output_file)
            script, self.script = self.script, None
            if script is not None:  # else another thread removes it
                script.unlink(missing_ok=True)
        return text or str(self.stop_data.get("output", ""))

    def explained_failure(self, who: str, what: str) -> LauncherError:
        """An error that says what became of the job."""
        state = self.status()
        what = f"{what}: {state}" if state else what
        return start_failure(self, who, what)

    # --- handing over -----------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """What another process needs to take over."""
        return {**super().to_dict(), "output_file": self.output_file, "script": str(self.script or "")}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any], **kwargs: Any) -> Self:
        """Take over the job. Raises NotRunning if it is over; if the system does not answer, it may still be there."""
        launcher = super().from_dict(state, **kwargs)
        launcher.output_file = str(state.get("output_file", ""))
        launcher.script = Path(state["script"]) if state.get("script") else None
        job = launcher._known_job()  # noqa: SLF001 - one of our own
        if not launcher.identifier or (launcher.system.query and not job.adopt()):
            msg = batch_states.describe(launcher.identifier, job.parts)
            raise NotRunning(msg)
        launcher._watch_job(job)  # noqa: SLF001 - as above
        return launcher


class BatchControllerLauncher(BatchSystemLauncher, ControllerLauncher):
    """A controller in a job."""

    part = "controller"

    @property
    def program(self) -> list[str]:
        """The controller's command without its arguments."""
        return self.controller_cmd

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._stale: dict[str, int] = {}

    @property
    def left_files(self) -> list[Path]:
        """Some systems give it no time to remove its connection files."""
        return [*self.litter, *self.connection_files.values()]

    @property
    def beat_file(self) -> Path | None:
        """In the profile, which the hosts share."""
        folder = profile_paths.profile_folder(profile_dir=self.profile_dir)
        return folder / "pid" / "-".join(filter(None, ("ipcontroller", self.cluster_id, "owner")))

    def find_args(self) -> list[str]:
        """As of every controller, and how it hears of its owner."""
        owned = [f"--owner-beat={self.beat_file}"] if self.owned and can_hold() else []
        owned += [f"--owner-file={self.cluster_file}"] if owned and self.cluster_file else []
        return [*super().find_args(), *owned]

    def start(self, n: int | None = None) -> None:  # noqa: ARG002 - for engines
        """Submit the job; ``get_connection_info`` waits until the controller is ready."""
        self._stale = {kind: _written(path) for kind, path in self.connection_files.items()}
        self.submit(1)

    def get_connection_info(self, timeout: float | None = None) -> dict[str, ConnectionInfo]:
        """Wait until the controller has written its connection files, not those of one before it.

        Raises LauncherError once its job is over, or after ``timeout`` (``connection_info_timeout``) seconds.
        """
        timeout = self.connection_info_timeout if timeout is None else timeout
        deadline = time.monotonic() + timeout
        while any(_written(path) == self._stale.get(kind, 0) for kind, path in self.connection_files.items()):
            if self.join(GLANCE):
                raise self.failure("ended before it was ready")
            if time.monotonic() > deadline:
                raise self.failure(
                    f"was not ready within {timeout:g} s (raise {type(self).__name__}.connection_info_timeout if the "
                    "queue is long)"
                )
        return {kind: connection_file.load(path) for kind, path in self.connection_files.items()}

    def failure(self, what: str) -> LauncherError:
        """An error that shows what became of the job, the command, its exit code and its last output."""
        return self.explained_failure("The controller", what)


class BatchEngineSetLauncher(BatchSystemLauncher, EngineLauncher):
    """Engines in a job."""

    part = "engine"

    @property
    def program(self) -> list[str]:
        """The engines' command without its arguments."""
        return self.engine_cmd

    def start(self, n: int | None = None) -> None:
        """Submit a job of ``n`` engines."""
        self.n = self.n if n is None else n
        self.submit(self.n)

    def engine_pids(self) -> frozenset[int]:
        """None: whose engines they are, they say themselves, and the controller delivers signals to them."""
        return frozenset()

    def failure(self, what: str) -> LauncherError:
        """An error that shows what became of the job, the command, its exit code and its last output."""
        return self.explained_failure(f"The set of {self.n} engine{'s' if self.n != 1 else ''}", what)

    def to_dict(self) -> dict[str, Any]:
        """What another process needs to take over."""
        return {**super().to_dict(), "n": self.n, "engine_set_id": self.engine_set_id}


def _written(path: Path) -> int:
    """When a file was written, 0 if it is not there."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
