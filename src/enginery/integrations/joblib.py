"""joblib on engines: ``with joblib.parallel_backend("ipyparallel"): …``, and scikit-learn with it."""

from __future__ import annotations

import operator
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

from joblib.parallel import AutoBatchingMixin, ParallelBackendBase, register_parallel_backend

from enginery.cluster.cluster import Cluster

if TYPE_CHECKING:
    from collections.abc import Callable

    from enginery.client.client import Client
    from enginery.client.result import AsyncResult
    from enginery.client.view import View

#: Always registered, besides the name that was asked for.
OWN_NAME: Final = "enginery"

_default: Client | None = None
_making = threading.Lock()


class EngineryBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # joblib has no annotations
    """Runs joblib's batches on the engines of a load-balanced view."""

    supports_retrieve_callback = True
    supports_return_generator = True
    supports_timeout = True

    def __init__(self, view: View | None = None, **options: Any) -> None:
        """Without a view: engines of the default cluster, which is started if there is none."""
        super().__init__(**options)
        self._view = view
        self._pending: weakref.WeakSet[AsyncResult] = weakref.WeakSet()

    @property
    def view(self) -> View:
        """Where batches go."""
        if self._view is None:
            self._view = _default_client().load_balanced_view()
        return self._view

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """The number of engines, or as many of them as ``n_jobs`` asks for; negative ones count from the end.

        Where that gives 1, joblib runs everything in its own process and asks nobody.
        """
        if n_jobs == 0:
            msg = "n_jobs == 0 in Parallel has no meaning"
            raise ValueError(msg)
        engines = max(len(self.view), 1)
        if n_jobs is None:
            return engines
        return min(n_jobs, engines) if n_jobs > 0 else max(engines + 1 + n_jobs, 1)

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], Any] | None = None) -> AsyncResult:
        """Run a batch. ``callback`` gets its result."""
        # The batch is an argument: functions are kept by everybody on the way, and each batch would be one.
        result = self.view.apply_async(operator.call, func)
        self._pending.add(result)
        if callback is not None:
            result.add_done_callback(callback)
        return result

    def apply_async(self, func: Callable[[], Any], callback: Callable[[Any], Any] | None = None) -> AsyncResult:
        """As ``submit``, by the name joblib had for it before 1.5."""
        return self.submit(func, callback)

    def retrieve_result_callback(self, out: AsyncResult) -> Any:
        """The values of a batch. Raises what ``AsyncResult.get`` raises."""
        return out.get()

    def abort_everything(self, ensure_ready: bool = True) -> None:  # noqa: ARG002 - engines stay ready in any case
        """A batch failed: take back the others."""
        pending = [result for result in self._pending if not result.done()]
        if pending:
            self.view.client.abort(pending, interrupt=True)


def register(view: View | None = None, name: str = "ipyparallel", make_default: bool = False) -> None:
    """Make engines known to joblib, under ``name`` and as ``"enginery"``.

    Args:
        view: Which engines; its targets, dealt out by load. By default those of the default cluster.
        name: What ``joblib.parallel_backend`` shall call them.
        make_default: Let joblib use them where nothing else is said.
    """
    if view is not None and not view.is_balanced:
        view = view.client.load_balanced_view(view.targets)

    def make(**options: Any) -> EngineryBackend:
        return EngineryBackend(view, **options)

    for each in {OWN_NAME, name}:
        register_parallel_backend(each, make, make_default=make_default and each == name)


def register_joblib_backend(name: str = "ipyparallel", make_default: bool = False) -> None:
    """Make the engines of the default cluster known to joblib, under ``name`` and as ``"enginery"``.

    The cluster is that of ``ipcluster start``; if there is none when joblib first needs it, one is started, and stopped
    at the end of this process. Views have a method of the same name.
    """
    register(None, name, make_default)


def _default_client() -> Client:
    global _default  # noqa: PLW0603 - one for all backends of this process
    with _making:
        if _default is None or _default.link.closed:
            try:
                _default = Cluster.from_file().connect_client_sync()
                _default.wait_for_engines(1, timeout=60)
            except FileNotFoundError:
                _default = Cluster().start_and_connect_sync()
        return _default
