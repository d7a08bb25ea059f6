"""Options of the magics: what each is called, and what it changes."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from IPython.core import magic_arguments
from IPython.core.error import UsageError

from enginery.client.active import NONINTERACTIVE

#: Seconds until a progress bar appears.
PROGRESS_AFTER: Final = 2.0

Function = Callable[..., Any]


@dataclass(frozen=True)
class Settings:
    """How a cell is run in parallel. ``block`` and ``targets`` of None are those of the view."""

    block: bool | None = None
    targets: Any = None
    stream: bool = True
    verbose: bool = False
    progress_after: float = PROGRESS_AFTER
    signal_on_interrupt: int | str = "SIGINT"
    group: str | None = None

    @classmethod
    def initial(cls) -> Settings:
        """As they are until ``%pxconfig`` changes them."""
        if os.environ.get(NONINTERACTIVE):
            return cls(stream=False, progress_after=-1.0)
        return cls()

    def changed(self, arguments: argparse.Namespace, targets: Any) -> Settings:
        """These settings with what the arguments of a magic say."""
        given: dict[str, Any] = {
            name: value
            for name in ("block", "stream", "verbose", "progress_after", "group")
            if (value := getattr(arguments, name)) is not None
        }
        if arguments.signal_on_interrupt is not None:
            given["signal_on_interrupt"] = signal_named(arguments.signal_on_interrupt)
        if "group" in given and "stream" not in given:
            given["stream"] = False  # what is grouped is shown at the end
        if targets is not None:
            given["targets"] = targets
        return replace(self, **given)


def execution_options(function: Function) -> Function:
    """Decorator: the options of a magic that runs code."""
    argument = magic_arguments.argument
    options = [
        argument("-b", "--block", action="store_true", default=None, dest="block", help="Wait for the results."),
        argument("-a", "--noblock", action="store_false", default=None, dest="block", help="Do not wait for them."),
        argument(
            "--stream", action="store_true", default=None, dest="stream", help="Show output as it comes (the default)."
        ),
        argument(
            "--no-stream", action="store_false", default=None, dest="stream", help="Show output at the end, grouped."
        ),
        argument("-t", "--targets", help="Which engines: an id, a list, a slice such as ::2, or all."),
        argument(
            "--verbose", action="store_true", default=None, dest="verbose", help="Say on which engines the code runs."
        ),
        argument(
            "--no-verbose", action="store_false", default=None, dest="verbose", help="Do not say so (the default)."
        ),
        argument(
            "--progress-after",
            type=float,
            help=f"Seconds until a progress bar appears: 0 at once, -1 never (default: {PROGRESS_AFTER:g}).",
        ),
        argument(
            "--signal-on-interrupt",
            metavar="SIGNAL",
            help="What engines get on Ctrl-C: name or number of a signal, 0 for nothing (default: SIGINT).",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return output_options(function)


def output_options(function: Function) -> Function:
    """Decorator: the options of a magic that shows grouped output."""
    argument = magic_arguments.argument
    options = [
        argument("-e", action="store_const", const="engine", dest="group", help="As --group-outputs=engine."),
        argument("-r", action="store_const", const="order", dest="group", help="As --group-outputs=order."),
        argument(
            "--group-outputs",
            choices=["type", "engine", "order"],
            dest="group",
            help="Show output by type (the default), by engine, or by type with displays in order: the first of each "
            "engine, then the second ones, and so on.",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def result_options(function: Function) -> Function:
    """Decorator: the option of a magic that has a result."""
    option = magic_arguments.argument("-o", "--out", dest="out", metavar="NAME", help="Keep the AsyncResult as NAME.")
    found: Function = option(function)
    return found


def signal_named(text: str) -> int | str:
    """A signal by number or name. Raises UsageError for what is neither."""
    if text.lstrip("-").isdecimal():
        return int(text)
    name = text.upper()
    name = name if name.startswith("SIG") else f"SIG{name}"
    if not hasattr(signal, name):
        # Engines may run elsewhere and know more signals, but a typing error is likelier.
        raise UsageError(f"--signal-on-interrupt takes a number or a name such as SIGINT, not {text!r}.")
    return name


def targets_of(text: str | None, ids: list[int], variables: dict[str, Any]) -> Any:
    """What ``--targets`` means: all, a slice of the ids there are, or an expression in the user's variables.

    Raises UsageError if it means nothing.
    """
    if text is None or text == "all":
        return text
    try:
        if ":" in text and not set(text) - set("0123456789:- "):
            return ids[slice(*(int(part) if part.strip() else None for part in text.split(":")))]
        return eval(text, variables)  # noqa: S307 - the user's own words in the user's own session
    except Exception as error:
        raise UsageError(
            f"--targets takes an engine id, a list of them, a slice such as ::2, or all; not {text!r} ({error})."
        ) from error
