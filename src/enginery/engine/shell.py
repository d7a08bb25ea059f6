"""An engine's IPython: the shell that cells run in, with rich display over the engine's connection.

Imported when the first cell needs it; see ``engine.cells``.
"""

from __future__ import annotations

import contextlib
import linecache
import shutil
import signal
import sys
import tempfile
import warnings
from base64 import b64encode
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

from IPython.core import page
from IPython.core.compilerop import CachingCompiler
from IPython.core.completer import provisionalcompleter, rectify_completions
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.profiledir import ProfileDir
from IPython.utils.process import system as run_command  # type: ignore[attr-defined]  # not exported, but public
from IPython.utils.tokenutil import token_at_cursor
from msgspec import msgpack
from traitlets import Type
from traitlets.config import Config
from traitlets.config.loader import DeferredConfigString

from enginery.descriptions import describe_exception

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from types import ModuleType, TracebackType

    from enginery.engine.output import Outputs

    ExcTuple = tuple[type[BaseException], BaseException, TracebackType | None]

#: Cells whose source text is kept for tracebacks.
KEPT_CELLS: Final = 1000
#: Names of shells whose settings users of old have in their files.
OTHER_NAMES: Final = ("ZMQInteractiveShell", "IPythonShell")


class _Compiler(CachingCompiler):
    """Keeps the source text of the newest cells only: an engine may run millions."""

    def __init__(self) -> None:
        super().__init__()
        self._names: deque[str] = deque()

    def cache(self, *args: Any, **kwargs: Any) -> str:
        """As it was, and forget the oldest."""
        name = str(super().cache(*args, **kwargs))
        self._names.append(name)
        if len(self._names) > KEPT_CELLS:
            oldest = self._names.popleft()
            if oldest not in self._names:
                linecache.cache.pop(oldest, None)
                self._filename_map.pop(oldest, None)
        return name


class _Hook(DisplayHook):
    """What a cell's last expression gives goes to the client as its result."""

    shell: EngineShell
    shown: dict[str, Any] | None = None

    def take(self) -> dict[str, Any]:
        """What was shown since the last time."""
        shown, self.shown = self.shown, None
        return shown or {}

    def quiet(self) -> bool:
        """Whether the cell ends in a semicolon. Cells that are not in the history have that right, too."""
        with contextlib.suppress(Exception):  # what cannot be tokenized has been refused before
            return bool(self.semicolon_at_end_of_expression(self.shell.cell))
        return False

    def write_output_prompt(self) -> None:
        """Labels are the client's."""

    def write_format_data(self, format_dict: dict[str, Any], md_dict: dict[str, Any] | None = None) -> None:
        """Send it, and keep it for the reply."""
        self.shown = {
            "data": jupyter_data(format_dict),
            "metadata": md_dict or {},
            "execution_count": self.prompt_count,
        }
        self.shell.outputs.show("result", encode(self.shown))

    def log_output(self, format_dict: dict[str, Any]) -> None:
        """Nothing is kept here: ``Out`` has the objects, the client their pictures."""

    def finish_displayhook(self) -> None:
        """As it was, without an empty line."""
        self._is_active = False


class _Publisher(DisplayPublisher):
    """What user code displays goes to the client."""

    shell: EngineShell

    def publish(
        self,
        data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        source: object = None,  # noqa: ARG002 - of the interface
        *,
        transient: dict[str, Any] | None = None,
        update: bool = False,
        **_options: object,
    ) -> None:
        """Send it."""
        bundle = {"data": jupyter_data(data), "metadata": metadata or {}, "transient": transient or {}}
        self.shell.outputs.show("update" if update else "display", encode(bundle))

    def clear_output(self, wait: bool = False) -> None:
        """Ask the client to remove what this task has shown; with ``wait``, when it shows the next thing."""
        self.shell.outputs.show("clear", encode({"wait": wait}))


class EngineShell(InteractiveShell):
    """The shell of an engine. Its namespace is the engine's."""

    displayhook_class = Type(_Hook)
    display_pub_class = Type(_Publisher)
    compiler_class = Type(_Compiler)

    outputs: Outputs
    cell = ""

    def run(self, code: str, *, silent: bool, store_history: bool) -> dict[str, Any]:
        """Run a cell. Returns what an ``ExecuteReply`` tells of it; raises what the cell raises."""
        self.cell = code
        hook = cast("_Hook", self.displayhook)
        hook.take()
        count = self.execution_count
        result = self.run_cell(code, store_history=store_history, silent=silent)
        error = result.error_before_exec or result.error_in_exec
        if error is not None:
            try:
                raise error
            finally:
                del error, result  # both know the traceback, which knows this frame
        shown = hook.take()
        return {
            "status": "ok",
            "execution_count": count,
            "data": shown.get("data"),
            "metadata": shown.get("metadata", {}),
            "source": code,
        }

    # --- what front ends ask (see ``engine.kernel``) ----------------------------------------------------------------

    def complete_code(self, code: str, at: int) -> dict[str, Any]:
        """Completions at a position, as Jupyter's messages have them."""
        with provisionalcompleter():
            found = list(rectify_completions(code, self.Completer.completions(code, at)))
        begin, end = (found[0].start, found[0].end) if found else (at, at)
        matches = [completion.text for completion in found]
        return {"status": "ok", "matches": matches, "cursor_start": begin, "cursor_end": end, "metadata": {}}

    def inspect_code(self, code: str, at: int, level: int) -> dict[str, Any]:
        """Help about the name at a position, as Jupyter's messages have it."""
        try:
            data = self.object_inspect_mime(token_at_cursor(code, at), detail_level=level)
        except KeyError:
            return {"status": "ok", "found": False, "data": {}, "metadata": {}}
        return {"status": "ok", "found": True, "data": data, "metadata": {}}

    def check_code(self, code: str) -> dict[str, Any]:
        """Whether a cell is complete, as Jupyter's messages have it."""
        status, indent = self.input_transformer_manager.check_complete(code)
        return {"status": status, "indent": " " * (indent or 0)}

    # --- errors -------------------------------------------------------------------------------------------------

    def showtraceback(
        self,
        exc_tuple: ExcTuple | None = None,
        filename: str | None = None,  # noqa: ARG002 - of the interface
        tb_offset: int | None = None,  # noqa: ARG002 - likewise
        exception_only: bool = False,
        running_compiled_code: bool = False,
    ) -> None:
        """Send a traceback to the client. That of the cell itself is not sent from here: ``run`` raises it."""
        error = sys.exception()
        if exc_tuple is not None or exception_only or running_compiled_code or error is None:
            return
        self.outputs.show("error", encode_error(error))

    def showsyntaxerror(self, filename: str | None = None, running_compiled_code: bool = False) -> None:  # noqa: ARG002 - as above
        """Likewise: of a file that the cell runs."""
        if filename is not None:
            self.showtraceback()

    def _format_exception_for_storage(self, *_args: object, **_options: object) -> dict[str, Any]:
        """Not kept: the client has it."""
        return {}

    @contextlib.contextmanager
    def _tee(self, channel: str) -> Iterator[None]:  # noqa: ARG002 - of the interface
        """What cells print is not kept here either."""
        yield

    # --- what a shell without a terminal or a window answers ----------------------------------------------------------

    def system(self, cmd: str) -> None:
        """Run a command of ``!``. Interrupts end the command, and then the cell: raises KeyboardInterrupt."""
        if cmd.rstrip().endswith("&"):
            msg = "Commands in the background are not supported: use subprocess.Popen, or %%script --bg."
            raise OSError(msg)
        code = run_command(self.var_expand(cmd, depth=1))
        self.user_ns["_exit_code"] = code
        if code == -signal.SIGINT:
            raise KeyboardInterrupt

    def enable_gui(self, gui: str | None = None) -> None:
        """Engines have no windows; ``%matplotlib inline`` needs nothing to be done."""

    def ask_exit(self) -> None:
        """``exit`` in a cell. Raises SystemExit, which the client gets to see; the engine stays."""
        msg = "An engine is not stopped from inside. Use client.shutdown(targets=...)."
        raise SystemExit(msg)

    def init_payload(self) -> None:
        """Help is displayed, not paged."""
        super().init_payload()
        self.set_hook("show_in_pager", page.as_hook(page.display_page), 99)


def make_shell(
    module: ModuleType, outputs: Outputs, config: Mapping[str, Any], profile_dir: Path | None
) -> EngineShell:
    """Make the shell of this process. Its settings are strings as on a command line, or values as in a file."""
    settings = Config()
    for name, section in config.items():
        settings[name] = Config({key: _deferred(value) for key, value in section.items()})
    # Engines of one profile would write into one history file, and wait for one another.
    settings.HistoryManager.setdefault("enabled", False)
    for name in OTHER_NAMES:
        for key, value in settings.pop(name, {}).items():
            settings.InteractiveShell.setdefault(key, value)
    location = str(profile_dir) if profile_dir is not None else tempfile.mkdtemp(prefix="enginery-profile-")
    profile = ProfileDir(location=location)
    shell = EngineShell.instance(user_module=module, config=settings, profile_dir=profile, ipython_dir=location)
    if profile_dir is None:
        # IPython wants a place, and makes folders in it. Nobody looks for them, and an engine may be killed.
        shutil.rmtree(location, ignore_errors=True)
    shell.outputs = outputs
    # Not so on an engine; the client is told of the SystemExit.
    warnings.filterwarnings("ignore", "To exit: use", UserWarning)
    for extension in settings.get("InteractiveShellApp", {}).get("extensions", []):
        shell.run_line_magic("load_ext", extension)
    return shell


def _deferred(value: object) -> object:
    """A setting; the class it is for makes of a text what it needs."""
    return DeferredConfigString(value) if isinstance(value, str) else value


# --- on the wire ----------------------------------------------------------------------------------------------------


def jupyter_data(data: Mapping[str, Any]) -> dict[str, Any]:
    """Representations as Jupyter's messages have them: bytes as text in base 64."""
    return {mime: b64encode(value).decode() if isinstance(value, bytes) else value for mime, value in data.items()}


def encode(bundle: Mapping[str, Any]) -> bytes:
    """The packed form of a bundle. What cannot be sent is sent as its repr."""
    return msgpack.encode(bundle, enc_hook=_as_plain)


def encode_error(error: BaseException) -> bytes:
    """The packed form of an exception in words."""
    return encode(dict(zip(("ename", "evalue", "traceback"), describe_exception(error), strict=True)))


def _as_plain(value: Any) -> object:
    return value.tolist() if hasattr(value, "tolist") else repr(value)
