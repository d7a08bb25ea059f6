"""The base of all commands: profile, configuration files, logging and the flags they share.

The order in which settings win, last first: defaults, configuration files of the system, of the profile, the file
given by --config, the command line.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from traitlets import Bool, TraitError, Unicode, default
from traitlets.config import Application, Configurable
from traitlets.config.application import catch_config_error

from enginery._version import __version__
from enginery.config.arguments import flat_names, unknown_argument
from enginery.config.former import modern_arguments, modern_settings
from enginery.net import profile_paths
from enginery.net.publish import check_url

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Exit code of a command line that makes no sense, as of the shell's own commands.
USAGE: Final = 2
#: Exit codes that scripts rely on.
ALREADY_STARTED: Final = 10
ALREADY_STOPPED: Final = 11
NO_CLUSTER: Final = 12
SYSTEM_FOLDERS: Final = () if sys.platform == "win32" else ("/usr/local/etc/ipython", "/etc/ipython")

BASE_FLAGS: Final[dict[Any, Any]] = {
    "debug": ({"Application": {"log_level": logging.DEBUG}}, "Log everything (log level 10)."),
    "quiet": ({"Application": {"log_level": logging.CRITICAL}}, "Log next to nothing (log level 50)."),
    "init": (
        {"BaseIPythonApplication": {"copy_config_files": True, "auto_create": True}},
        "Make the profile with a commented default configuration file first.",
    ),
    "generate-config": (
        {"BaseIPythonApplication": {"generate_config": True, "auto_create": True}},
        "Write a commented default configuration file into the profile, and leave.",
    ),
    "log-to-file": (
        {"BaseParallelApplication": {"log_to_file": True}},
        "Log to a file in the profile's log folder instead of the terminal.",
    ),
    "show-config": ({"Application": {"show_config": True}}, "Show the configuration in force, and leave."),
    "show-config-json": ({"Application": {"show_config_json": True}}, "The same as JSON."),
}
BASE_ALIASES: Final[dict[Any, Any]] = {
    "log-level": "Application.log_level",
    "profile-dir": "ProfileDir.location",
    "profile": "BaseIPythonApplication.profile",
    "ipython-dir": "BaseIPythonApplication.ipython_dir",
    "config": "BaseIPythonApplication.extra_config_file",
    "work-dir": "BaseParallelApplication.work_dir",
    "log-to-file": "BaseParallelApplication.log_to_file",
    "log-url": "BaseParallelApplication.log_url",
    "clean-logs": "BaseParallelApplication.clean_logs",
    "cluster-id": "BaseParallelApplication.cluster_id",
}


class ProfileDir(Configurable):
    """Where the profile is, if not in its usual place."""

    location = Unicode("", help="The profile folder; overrides the profile's name.").tag(config=True)


BASE_CLASSES: Final[Any] = [ProfileDir]


class BaseIPythonApplication(Application):
    """Profiles and configuration files, without importing IPython."""

    version = __version__

    profile = Unicode("", help="Name of the profile; empty for 'default'.").tag(config=True)
    ipython_dir = Unicode("", help="Folder that holds the profiles (default: $IPYTHONDIR or ~/.ipython).").tag(
        config=True
    )
    extra_config_file = Unicode("", help="A configuration file to load after those of the profile.").tag(config=True)
    auto_create = Bool(False, help="Make the profile if it is not there.").tag(config=True)
    copy_config_files = Bool(False, help="Write a default configuration file if there is none.").tag(config=True)
    generate_config = Bool(False, help="Write a default configuration file, and leave.").tag(config=True)
    overwrite = Bool(False, help="Let default configuration files replace those that are there.").tag(config=True)

    @default("log_level")
    def _default_log_level(self) -> int:
        return logging.INFO

    @default("log_format")
    def _default_log_format(self) -> str:
        return "%(asctime)s.%(msecs).03d [%(name)s]%(highlevel)s %(message)s"

    @property
    def profile_dir(self) -> Path:
        """The folder of the profile in use. Raises ValueError for an impossible profile name."""
        return profile_paths.profile_folder(self.profile, ProfileDir(parent=self).location, self.ipython_dir)

    @profile_dir.setter
    def profile_dir(self, folder: Any) -> None:
        """Use this folder: `ipython profile create` hands on the object that it has for it."""
        self.config.ProfileDir.location = str(getattr(folder, "location", folder))

    @property
    def config_name(self) -> str:
        """Name of the configuration files without their ending."""
        return f"{self.name}_config"

    @classmethod
    def launch_instance(cls, argv: Any = None, **kwargs: Any) -> None:
        """Run the command. A setting that cannot be ends it with one line, not with a traceback."""
        try:
            super().launch_instance(argv, **kwargs)
        except TraitError as error:
            sys.stderr.write(f"{error}\n")
            sys.exit(USAGE)

    def fail(self, message: str, code: int = 1) -> NoReturn:
        """Say on stderr what is wrong and leave with ``code``."""
        sys.stderr.write(f"{self.name}: {message}\n")
        sys.exit(code)

    def init_profile(self) -> None:
        """Find or make the profile folder; leaves the program if that cannot be."""
        folder = self.check_profile()
        if not folder.is_dir() and not self.auto_create:
            self.fail(
                f"there is no profile in {str(folder)!r}. Pass --init to make it, "
                "or choose another with --profile or --profile-dir."
            )
        try:
            profile_paths.ensure_profile(folder)
        except OSError as error:
            self.fail(f"cannot make the profile in {str(folder)!r}: {error}. Choose another with --profile-dir.")

    def check_profile(self) -> Path:
        """The profile folder, which need not be there; leaves the program if its name cannot be one."""
        try:
            return self.profile_dir
        except ValueError as error:
            self.fail(str(error), USAGE)

    def load_profile_config(self) -> None:
        """Load configuration files, then the command line over them again; leaves the program on a broken file."""
        command_line = deepcopy(self.cli_config)
        self.raise_config_file_errors = True
        self._load(self.config_name, [str(self.profile_dir), *SYSTEM_FOLDERS])
        if self.extra_config_file:
            path = Path(self.extra_config_file).expanduser().absolute()
            if not path.is_file():
                self.fail(f"there is no configuration file {str(path)!r} (--config).", USAGE)
            self._load(path.name, [str(path.parent)])
        moved, notes = modern_settings(self.config)
        if notes:
            self.log.warning("settings of an earlier version in the configuration: %s.", "; ".join(notes))
        self.update_config(moved)
        self.update_config(command_line)

    def stage_config(self) -> None:
        """Write the default configuration file if it was asked for; leaves the program if that was all."""
        if not (self.copy_config_files or self.generate_config):
            return
        paths = {self.profile_dir / f"{app.config_name}.py": app for app in (self, *self.companions())}
        there = [path for path in paths if path.exists() and not self.overwrite]
        if self.generate_config and len(there) == len(paths):
            self.fail(f"{str(there[0])!r} is there already. Add --BaseIPythonApplication.overwrite=True to replace it.")
        for path in paths.keys() - there:
            self.write_default_config(path, paths[path])
        if self.generate_config:
            sys.stdout.write("".join(f"Wrote {path}\n" for path in paths if path not in there))
            self.exit(0)

    def write_default_config(self, path: Path, app: BaseIPythonApplication) -> None:
        """Write what ``app`` can be told, as comments; leaves the program if that cannot be."""
        try:
            path.write_text(app.generate_config_file(), encoding="utf-8")
        except OSError as error:
            self.fail(f"cannot write {str(path)!r}: {error.strerror}. Choose another place with --profile-dir.")

    def init_config_files(self) -> None:
        """Write this command's default configuration file: what `ipython profile create --parallel` asks for."""
        path = self.profile_dir / f"{self.config_name}.py"
        if self.copy_config_files and (self.overwrite or not path.exists()):
            self.log.info("Generating default config file: %s", path)
            self.write_default_config(path, self)

    def companions(self) -> list[BaseIPythonApplication]:
        """Other commands whose default configuration files are written with this one's."""
        return []

    def _load(self, name: str, folders: list[str]) -> None:
        try:
            self.load_config_file(name, folders)
        except Exception as error:  # configuration files are programs: anything may go wrong in them
            self.fail(f"configuration file {name!r} in {folders[0]!r} failed: {type(error).__name__}: {error}")


class BaseParallelApplication(BaseIPythonApplication):
    """What ipcluster, ipcontroller and ipengine have in common."""

    flags = BASE_FLAGS
    aliases = BASE_ALIASES
    classes = BASE_CLASSES

    cluster_id = Unicode(help="Tells apart clusters in one profile; part of the names of their files.").tag(config=True)
    work_dir = Unicode(help="Folder to run in.").tag(config=True)
    log_to_file = Bool(False, help="Log to <profile>/log/<command>-<cluster id>-<pid>.log.").tag(config=True)
    log_url = Unicode("", help="Publish log lines at this address as well, where iplogger collects them.").tag(
        config=True
    )
    clean_logs = Bool(False, help="Remove this command's old log files first.").tag(config=True)

    @default("cluster_id")
    def _default_cluster_id(self) -> str:
        return profile_paths.default_cluster_id()

    @default("work_dir")
    def _default_work_dir(self) -> str:
        return str(Path.cwd())

    @catch_config_error
    def initialize(self, argv: Sequence[str] | None = None) -> None:
        """Read the command line and the configuration files, and prepare profile, folder and logs."""
        argv = list(sys.argv[1:] if argv is None else argv)
        if not self.is_subcommand(argv):
            argv = self.modernize(argv)
            self.reject_unknown(argv)
        self.parse_command_line(argv)
        if self.subapp is not None:
            return
        self.init_profile()
        self.load_profile_config()
        self.check_cluster_id()
        self.stage_config()
        self.init_folders()

    def check_cluster_id(self) -> None:
        """Leave the program if the cluster id cannot be part of file names."""
        try:
            profile_paths.cluster_path(self.profile_dir, self.cluster_id)
        except ValueError as error:
            self.fail(f"{error} (--cluster-id)", USAGE)

    def modernize(self, argv: Sequence[str]) -> list[str]:
        """The command line in today's names; says once which were old."""
        modern, notes = modern_arguments(self.program, argv)
        if notes:
            sys.stderr.write(f"{self.name}: arguments of an earlier version: {'; '.join(notes)}.\n")
        return modern

    def is_subcommand(self, argv: Sequence[str]) -> bool:
        """Whether another application will take over, which judges the arguments itself."""
        return bool(argv) and (argv[0] in self.subcommands or argv[0] == "help")

    def reject_unknown(self, argv: Sequence[str]) -> None:
        """Leave the program if an argument has no meaning: a misspelt flag must not be ignored in silence."""
        classes = {each for own in (type(self), *self.classes) for each in own.mro() if issubclass(each, Configurable)}
        names = [*flat_names(self.flags), *flat_names(self.aliases)]
        if problem := unknown_argument(argv, names, classes):
            self.fail(problem, USAGE)

    def init_folders(self) -> None:
        """Go to the working folder, and clean up or redirect logs as configured."""
        # Before the folder changes: a relative location belongs to where the user typed it.
        if ProfileDir(parent=self).location:
            self.config.ProfileDir.location = str(self.profile_dir)
        if self.work_dir and self.work_dir != str(Path.cwd()):
            try:
                os.chdir(Path(self.work_dir).expanduser())
            except OSError as error:
                self.fail(f"cannot work in {self.work_dir!r} (--work-dir): {error.strerror}.")
        if self.log_url:
            try:
                check_url(self.log_url)
            except ValueError as error:
                self.fail(f"{error} (--log-url).", USAGE)
        if self.clean_logs:
            remove_logs(self.profile_dir, self.program)
        if self.log_to_file:
            handler = logging.FileHandler(self.log_file, delay=True)
            handler.setFormatter(self._log_formatter_cls(fmt=self.log_format, datefmt=self.log_datefmt))
            # traitlets types its logger as one that may be an adapter; ours never is.
            logger = logging.getLogger(self.log.name)
            logger.handlers[:] = [handler]
            logger.propagate = False

    @property
    def program(self) -> str:
        """The command without its subcommand."""
        return str(self.name).partition(" ")[0]

    @property
    def log_file(self) -> Path:
        """Where this process logs when it logs to a file."""
        parts = (self.cluster_id, os.getpid()) if self.cluster_id else (os.getpid(),)
        return profile_paths.log_path(self.profile_dir, self.program, *parts)


def remove_logs(profile_dir: Path, program: str = "") -> None:
    """Remove log files in the profile, except those of processes that still run."""
    for path in (profile_dir / "log").glob(f"{program}*.log"):
        pid = path.stem.rpartition("-")[2]
        if pid.isdigit() and Path(f"/proc/{pid}").exists():
            continue
        with contextlib.suppress(OSError):
            path.unlink()
