"""Decorated functions that run elsewhere: @remote and @parallel."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from enginery.client.view import View


class RemoteFunction:
    """A function whose calls run on a view. ``block`` and further flags stand in for the view's own."""

    def __init__(self, view: View, f: Callable[..., Any], block: bool | None = None, **flags: Any) -> None:
        # Name, doc and __wrapped__, which is where signatures are looked up. First, for it copies attributes as well.
        update_wrapper(self, f)
        self.view = view
        self.func = f
        self.block = block
        self.flags = flags

    def _view(self) -> View:
        """The view to call on: the flags are read at each call, from the view as it is then."""
        flags = self.flags if self.block is None else {"block": self.block, **self.flags}
        return self.view.with_flags(**flags) if flags else self.view

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function on the view: its result if the view or ``block`` says so, else an AsyncResult."""
        return self._view().apply(self.func, *args, **kwargs)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {getattr(self.func, '__name__', self.func)!s} on {self.view!r}>"


class ParallelFunction(RemoteFunction):
    """A function whose calls are split: each engine gets a part of each sequence.

    Calling it hands the parts themselves to the function, as sequences, and joins what it returns; ``map`` hands over item by
    item. The attributes ``dist``, ``chunksize``, ``ordered`` and ``return_exceptions`` may be set at any time.
    """

    def __init__(
        self,
        view: View,
        f: Callable[..., Any],
        dist: str = "b",
        block: bool | None = None,
        chunksize: int | None = None,
        ordered: bool = True,
        return_exceptions: bool = False,
        **flags: Any,
    ) -> None:
        super().__init__(view, f, block, **flags)
        self.dist = dist
        self.chunksize = chunksize
        self.ordered = ordered
        self.return_exceptions = return_exceptions

    def __call__(self, *sequences: Any) -> Any:
        """Call the function on parts of the sequences. Raises ValueError if their lengths differ."""
        lengths = [len(sequence) for sequence in sequences]
        if not lengths:
            raise TypeError(f"{self!r} takes at least one sequence to split.")
        if len(set(lengths)) > 1:
            raise ValueError(f"All sequences must have the same length to be split in parallel, not {lengths}.")
        view = self._view()
        result = view._call_on_parts(self.func, sequences, self)
        return result.get() if view.block else result

    def map(self, *sequences: Any) -> Any:
        """Call the function item by item; the shortest sequence decides."""
        options: dict[str, Any] = {"return_exceptions": self.return_exceptions}
        view = self._view()
        if view.is_balanced:
            options |= {"ordered": self.ordered, "chunksize": self.chunksize or 1}
        return view.map(self.func, *sequences, **options)


def remote(view: View, block: bool | None = None, **flags: Any) -> Callable[[Callable[..., Any]], RemoteFunction]:
    """Decorator: calls of the function run on ``view``.

    ``block`` and further flags of the view (``label``, ``retries`` …) hold for these calls only.
    """

    def decorate(f: Callable[..., Any]) -> RemoteFunction:
        return RemoteFunction(view, f, block, **flags)

    return decorate


def parallel(
    view: View,
    dist: str = "b",
    block: bool | None = None,
    ordered: bool = True,
    chunksize: int | None = None,
    return_exceptions: bool = False,
    **flags: Any,
) -> Callable[[Callable[..., Any]], ParallelFunction]:
    """Decorator: calls of the function are split over ``view``; see ``ParallelFunction``."""

    def decorate(f: Callable[..., Any]) -> ParallelFunction:
        return ParallelFunction(view, f, dist, block, chunksize, ordered, return_exceptions, **flags)

    return decorate
