"""The magics: ``%px``, ``%%px``, ``%pxconfig``, ``%pxresult`` (``%result``), ``%autopx``, ``%pxdebug``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from IPython.core import magic_arguments
from IPython.core.error import UsageError
from IPython.core.magic import no_var_expand

from enginery.notebook import autopx
from enginery.notebook.follow import follow
from enginery.notebook.options import (
    Settings,
    execution_options,
    output_options,
    result_options,
    targets_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from IPython.core.interactiveshell import InteractiveShell

    from enginery.client.direct import DirectView
    from enginery.client.result import AsyncResult


class ParallelMagics:
    """The magics of one suffix, and the view they use.

    ``view`` is None until one is activated; ``last`` is the result of the last cell.
    """

    def __init__(self, shell: InteractiveShell, suffix: str = "") -> None:
        self.shell = shell
        self.suffix = suffix
        self.view: DirectView | None = None
        self.last: AsyncResult | None = None
        self.settings = Settings.initial()
        self.autopx = autopx.Switch(shell, f"px{suffix}")
        self._register()

    def _register(self) -> None:
        lines: dict[str, Callable[..., Any]] = {
            "px": self.px,
            "pxconfig": self.pxconfig,
            "pxresult": self.pxresult,
            "autopx": self.toggle_autopx,
            "pxdebug": self.pxdebug,
        }
        for name, function in lines.items():
            self.shell.register_magic_function(function, "line", name + self.suffix)  # type: ignore[arg-type]  # mistyped there
        self.shell.register_magic_function(self.cell_px, "cell", f"px{self.suffix}")
        if not self.suffix:
            self.shell.register_magic_function(self.pxresult, "line", "result")

    # --- running --------------------------------------------------------------------------------------------------

    @no_var_expand
    def px(self, line: str = "") -> Any:
        """Run one line of code on the engines: ``%px print("hello")``.

        With a view that does not block, it returns the AsyncResult.
        """
        if not line.strip():
            raise UsageError(f"%px{self.suffix} takes the code to run: %px{self.suffix} print('hello')")
        return self._run(line, self.settings)

    @magic_arguments.magic_arguments()
    @execution_options
    @result_options
    @magic_arguments.argument("--local", action="store_true", help="Run the cell here, too.")
    def cell_px(self, line: str = "", cell: str | None = None) -> Any:
        """Run the cell on the engines.

        Output is shown as it comes, under the labels of the engines. Ctrl-C (or the kernel's interrupt) sends a signal
        to the engines that are not done and shows what came so far; a second one stops waiting.
        """
        arguments = magic_arguments.parse_argstring(self.cell_px, line)
        settings = self.settings.changed(arguments, self._targets(arguments.targets))
        return self._run(cell or "", settings, name=arguments.out, local=arguments.local)

    @magic_arguments.magic_arguments()
    @execution_options
    def pxconfig(self, line: str = "") -> None:
        """Set the options that %px and %%px use from now on. Block and targets are set on the view."""
        arguments = magic_arguments.parse_argstring(self.pxconfig, line)
        changed = self.settings.changed(arguments, self._targets(arguments.targets))
        view = self._view()
        if changed.block is not None:
            view.block = changed.block
        if changed.targets is not None:
            view.targets = changed.targets
        self.settings = _without_view(changed)

    def _run(self, code: str, settings: Settings, *, name: str | None = None, local: bool = False) -> Any:
        view = self._view()
        blocks = view.block if settings.block is None else settings.block
        targets = view.targets if settings.targets is None else settings.targets
        if settings.verbose:
            how = "Parallel" if blocks else "Async parallel"
            print(f"{how} execution on engine(s): {targets}")
        result = view.execute(code, silent=False, targets=targets, block=False)
        self.last = result
        if name:
            self.shell.user_ns[name] = result
        if local:
            self.shell.run_cell(code)
        if not blocks:
            return result
        follow(result, settings, title=f"%px{self.suffix}")
        return None

    # --- results --------------------------------------------------------------------------------------------------

    @magic_arguments.magic_arguments()
    @output_options
    @result_options
    def pxresult(self, line: str = "") -> None:
        """Show the output of the last %px or %%px, once it is done."""
        arguments = magic_arguments.parse_argstring(self.pxresult, line)
        result = self._last()
        if arguments.out:
            self.shell.user_ns[arguments.out] = result
        follow(result, Settings(stream=False, group=arguments.group), title=f"%pxresult{self.suffix}")

    def pxdebug(self, line: str = "") -> None:
        """Open a debugger on the frame in which the last %px or %%px failed: ``%pxdebug``, ``%pxdebug 3`` (an engine)."""
        result: Any = self._last()
        engine = line.strip()
        if engine and not engine.isdecimal():
            raise UsageError(f"%pxdebug{self.suffix} takes the id of an engine, not {engine!r}.")
        if engine:
            result.debug(int(engine))
        else:
            result.debug()

    # --- all cells ------------------------------------------------------------------------------------------------

    def toggle_autopx(self, line: str = "") -> None:  # noqa: ARG002 - magics get one
        """Have all cells run on the engines from now on, or no longer."""
        self._view()
        self.autopx.toggle()
        state = "enabled" if self.autopx.is_on else "disabled"
        print(f"%autopx{self.suffix} {state}")

    # --- what they use --------------------------------------------------------------------------------------------

    def _view(self) -> DirectView:
        if self.view is None:
            raise UsageError(
                f"%px{self.suffix} has no engines yet. Connect first: rc = enginery.Client(), or "
                f"rc = enginery.Cluster(n=4).start_and_connect_sync(). The first client's view is activated by itself; "
                f"view.activate({self.suffix!r}) activates another one."
            )
        return self.view

    def _last(self) -> AsyncResult:
        if self.last is None:
            raise UsageError(f"There is no result yet: nothing was run with %px{self.suffix}.")
        return self.last

    def _targets(self, text: str | None) -> Any:
        return targets_of(text, self._view().client.ids, self.shell.user_ns)


def _without_view(settings: Settings) -> Settings:
    """Settings without those that the view keeps."""
    return replace(settings, block=None, targets=None)
