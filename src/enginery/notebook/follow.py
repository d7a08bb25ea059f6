"""Waiting for a cell that runs on engines: its output is shown, Ctrl-C is handed on, errors are told once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from enginery.client import showing
from enginery.client.progress import Progress
from enginery.error_texts import id_ranges
from enginery.errors import AlreadyDisplayedError, RemoteError
from enginery.notebook.render import say

if TYPE_CHECKING:
    from enginery.client.live import Live
    from enginery.client.result import AsyncResult
    from enginery.notebook.options import Settings

#: Seconds that the controller has for handing on a signal.
PATIENCE = 5.0


def follow(result: AsyncResult, settings: Settings, title: str) -> None:
    """Wait for a cell and show its output.

    Raises AlreadyDisplayedError if it failed and the errors have been shown, KeyboardInterrupt when it is pressed a
    second time (or engines are not to be told), and what ``result.get()`` raises otherwise.
    """
    shown = showing.live(result)
    try:
        with Progress(title, lambda: len(result), lambda: result.progress, settings.progress_after) as progress:
            _wait(result, shown, settings, progress)
    except BaseException:  # KeyboardInterrupt, or the connection is lost: what has come is shown all the same
        shown.finish()
        raise
    if settings.stream:
        shown.finish()
        showing.show_rest(result, shown)
        told = showing.errors_shown(result, shown)
    else:
        told = showing.show_all(result, settings.group or "type", result_only=False)
    _raise(result, told=told)


def _wait(result: AsyncResult, shown: Live, settings: Settings, progress: Progress) -> None:
    interrupted = False
    while not result.done():
        try:
            _step(result, shown, settings, progress)
        except KeyboardInterrupt:
            if interrupted or settings.signal_on_interrupt == 0:
                raise
            interrupted = True
            _relay(result, settings.signal_on_interrupt)


def _step(result: AsyncResult, shown: Live, settings: Settings, progress: Progress) -> None:
    link = result.client.link
    if settings.stream:
        shown.step(link.wait_for, result.done, progress.next_look())
    else:
        link.wait_for(result.done, progress.next_look())
    progress.update()


def _relay(result: AsyncResult, signal: int | str) -> None:
    """Send a signal to the engines that are not done."""
    missing = {result.reply_engine(index) for index in range(len(result)) if not result.reply_arrived(index)}
    targets = sorted(missing & set(result.client.link.engines))
    if not targets:
        return
    name = signal if isinstance(signal, str) else f"signal {signal}"
    say(f"Sending {name} to engine(s) {id_ranges(targets)}. Interrupt again to stop waiting for them.")
    result.client.link.signal(targets, signal, timeout=PATIENCE)


def _raise(result: AsyncResult, *, told: bool) -> None:
    """Raise what the cell raised, if it did."""
    error: Any = result.exception()
    if error is None:
        return
    if told and isinstance(error, RemoteError):
        raise AlreadyDisplayedError(error) from None
    raise error
