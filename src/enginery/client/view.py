"""What all views have in common: flags, history, waiting, decorators."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from enginery.client.executor import ViewExecutor
from enginery.client.functions import ParallelFunction, RemoteFunction, parallel, remote

if TYPE_CHECKING:
    from enginery.client.client import Client
    from enginery.client.map_result import AsyncMapResult
    from enginery.client.result import AsyncResult

_numbers = count(1)
AView = TypeVar("AView", bound="View")


class TempFlags(Generic[AView]):
    """See ``View.temp_flags``. A class, which is entered in half the time that a generator takes."""

    __slots__ = ("_before", "_flags", "_view")

    def __init__(self, view: AView, flags: dict[str, Any]) -> None:
        self._view = view
        self._flags = flags

    def __enter__(self) -> AView:
        view, own = self._view, self._view.__dict__
        self._before = {name: own[name] for name in self._flags if name in view.flag_names}
        view.set_flags(**self._flags)
        return view

    def __exit__(self, *_: object) -> None:
        self._view._keep_flags(self._before)


class View:
    """A way to reach engines, with settings ("flags") that its calls use.

    Flags are attributes: ``block`` (whether calls wait for results), ``track`` (kept for programs that set it), ``targets``,
    ``label``, ``keep`` (what functions return stays on its engine; see ``KeptValue``). Thread-safe; but flags that one thread sets hold for all threads that share the view.
    """

    flag_names: ClassVar[frozenset[str]] = frozenset({"block", "track", "targets", "label", "keep"})

    #: Whether the controller picks the engines.
    is_balanced: ClassVar[bool] = False

    client: Client
    block: bool
    track: bool
    targets: Any
    label: str | None
    keep: bool

    def __init__(self, client: Client, targets: Any = None, **flags: Any) -> None:
        # Past __setattr__, which wants everything to be there.
        self.__dict__.update(client=client, _version=0, _number=next(_numbers))
        self.__dict__.update(block=client.block, track=False, label=None, targets=None, keep=False)
        self._set_defaults()
        self.targets = targets
        self.set_flags(**flags)

    def _set_defaults(self) -> None:
        """Give the flags of a subclass their first values."""

    # --- flags ----------------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.flag_names:
            self._keep_flags({name: self._check_flag(name, value)})
        else:
            super().__setattr__(name, value)

    def _keep_flags(self, flags: dict[str, Any]) -> None:
        """Set flags to values that were checked."""
        # Hot: bench/ submits graphs of tasks, each with flags of its own.
        own = self.__dict__
        own.update(flags)
        # What was worked out from flags is worked out anew; see LoadBalancedView.
        own["_version"] += 1
        self._flags_changed()

    def _check_flag(self, name: str, value: Any) -> Any:
        """Return ``value`` as it is to be kept; raise ValueError or TypeError if it makes no sense."""
        if name in {"block", "track", "keep"}:
            return bool(value)
        if name == "label" and value is not None and not isinstance(value, str):
            raise TypeError(f"label must be a string, not {value!r}.")
        if name == "label" and value is not None:
            value.encode()  # what is no text cannot be sent; rather here than later
        return value

    def _flags_changed(self) -> None:
        """Forget what was worked out from flags."""

    def set_flags(self, **flags: Any) -> Self:
        """Set flags by name; returns the view.

        Raises KeyError for a name that is none, ValueError or TypeError for a value that makes no sense; then nothing is set.
        """
        for name in flags:
            if name not in self.flag_names:
                raise KeyError(f"{name!r} is no flag of {type(self).__name__}; it has {sorted(self.flag_names)}.")
        check = self._check_flag
        self._keep_flags({name: check(name, value) for name, value in flags.items()})
        return self

    def temp_flags(self, **flags: Any) -> TempFlags[Self]:
        """Set flags while a ``with`` block runs. Other threads that use this view see them, too. Raises as ``set_flags``."""
        return TempFlags(self, flags)

    def with_flags(self, **flags: Any) -> Self:
        """A view like this one, but for these flags. Unlike ``temp_flags`` it disturbs nobody."""
        twin = copy.copy(self)
        return twin.set_flags(**flags)

    # --- calling --------------------------------------------------------------------------------------------------

    def apply_async(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> AsyncResult:
        """Call ``f(*args, **kwargs)`` remotely; return its AsyncResult at once."""
        raise NotImplementedError

    def map_async(self, f: Callable[..., Any], /, *sequences: Any, **options: Any) -> AsyncMapResult:
        """As ``map``, and never wait."""
        if "block" in options:
            raise TypeError("map_async() never waits: it takes no block=. Use map(), or map_sync().")
        found: AsyncMapResult = self.map(f, *sequences, block=False, **options)
        return found

    def map_sync(self, f: Callable[..., Any], /, *sequences: Any, **options: Any) -> Any:
        """As ``map``, and always wait for the results."""
        if "block" in options:
            raise TypeError("map_sync() always waits: it takes no block=. Use map(), or map_async().")
        return self.map(f, *sequences, block=True, **options)

    def map(self, f: Callable[..., Any], /, *sequences: Any, **options: Any) -> Any:
        """Call ``f`` for the items of one or more sequences, in parallel; the shortest sequence decides."""
        raise NotImplementedError

    def _call_on_parts(
        self, f: Callable[..., Any], sequences: tuple[Any, ...], function: ParallelFunction
    ) -> AsyncMapResult:
        """Call ``f`` on parts of the sequences, for ``@parallel``."""
        raise NotImplementedError

    def imap(self, f: Callable[..., Any], /, *sequences: Any, **options: Any) -> Iterator[Any]:
        """Iterate over the results of a map."""
        return iter(self.map_async(f, *sequences, **options))

    def apply(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call ``f(*args, **kwargs)`` remotely. Returns the result if the flag ``block`` is set, else an AsyncResult."""
        result = self.apply_async(f, *args, **kwargs)
        return result.get() if self.block else result

    def apply_sync(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call ``f(*args, **kwargs)`` remotely and return the result."""
        link = self.client.link
        link.about_to_wait = threading.get_ident()
        try:
            result = self.apply_async(f, *args, **kwargs)
        finally:
            link.about_to_wait = 0
        return result.get()

    def remote(self, block: bool | None = None, **flags: Any) -> Callable[[Callable[..., Any]], RemoteFunction]:
        """Decorator: calls of the function run on this view."""
        return remote(self, block=block, **flags)

    def parallel(
        self, dist: str = "b", block: bool | None = None, **flags: Any
    ) -> Callable[[Callable[..., Any]], ParallelFunction]:
        """Decorator: calls of the function are split over this view."""
        return parallel(self, dist=dist, block=block, **flags)

    @property
    def executor(self) -> ViewExecutor:
        """This view as a ``concurrent.futures.Executor``: the same one each time, until it is shut down."""
        found: ViewExecutor | None = self.__dict__.get("_executor")
        if found is None or found.closed or found.view is not self:
            found = self.__dict__["_executor"] = ViewExecutor(self)
        return found

    def register_joblib_backend(self, name: str = "ipyparallel", make_default: bool = False) -> None:
        """Make the engines of this view known to joblib: ``with joblib.parallel_backend("ipyparallel"): …``.

        Args:
            name: What joblib shall call them, besides ``"enginery"``.
            make_default: Let joblib use them where nothing else is said.

        Raises ImportError if joblib is not installed.
        """
        # Optional, and on a floor above this one: known by name only.
        import_module("enginery.integrations.joblib").register(self, name, make_default)

    # --- its requests ---------------------------------------------------------------------------------------------

    @property
    def history(self) -> list[str]:
        """Message ids of its newest requests, oldest first: at most 10,000, with those of the client's other views."""
        return self.client.message_ids(self._number)

    @property
    def outstanding(self) -> set[str]:
        """Message ids of its requests that have no result yet (among the newest 10,000)."""
        return self.client.outstanding_of(self.client.log.results(self._number))

    @property
    def results(self) -> Any:
        """Results by message id, as long as somebody keeps them: the client's."""
        return self.client.results

    @property
    def metadata(self) -> Any:
        """Metadata by message id, as long as somebody keeps the result: the client's."""
        return self.client.metadata

    _number: int

    def wait(self, jobs: Any = None, timeout: float | None = -1) -> bool:
        """Wait for some jobs, by default all that this view has asked for. Returns whether they are done."""
        return self.client.wait(self.client.log.results(self._number) if jobs is None else jobs, timeout)

    def abort(
        self, jobs: Any = None, targets: Any = None, block: bool | None = None, *, interrupt: bool = False
    ) -> None:
        """Take back requests that have not begun, by default all of this view's; with ``interrupt`` stop the others."""
        if jobs is None and targets is None:
            jobs = [result for result in self.client.log.results(self._number) if not result.done()]
        self.client.abort(jobs, targets, block, interrupt=interrupt)

    def get_result(self, ids: Any = None, block: bool | None = None, owner: bool = False) -> Any:
        """The AsyncResult of some requests, by default of this view's latest. See ``Client.get_result``."""
        if ids is None:
            if not self.history:
                raise IndexError("This view has not asked for anything yet; there is no latest result.")
            ids = self.history[-1]
        return self.client.get_result(ids, self.block if block is None else block, owner)

    def purge_results(self, jobs: Any = (), targets: Any = ()) -> None:
        """Forget results, here and in the controller's memory; see ``Client.purge_results``."""
        self.client.purge_results(jobs, targets)

    def queue_status(self, targets: Any = None, verbose: bool = False) -> Any:
        """How much work engines have; see ``Client.queue_status``."""
        return self.client.queue_status(self._own_targets(targets), verbose)

    def shutdown(
        self, targets: Any = None, restart: bool = False, hub: bool = False, block: bool | None = None
    ) -> None:
        """Stop engines; see ``Client.shutdown``."""
        self.client.shutdown(self._own_targets(targets), restart, hub, self.block if block is None else block)

    def _own_targets(self, targets: Any) -> Any:
        if targets is not None:
            return targets
        return "all" if self.targets is None else self.targets

    def __len__(self) -> int:
        found = self._own_targets(None)
        if isinstance(found, int):
            return 1
        return len(self.client) if found == "all" else len(found)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._own_targets(None)}>"
