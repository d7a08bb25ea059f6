"""Interactive parallel computing: a controller, many engines, and clients that drive them.

This is the face: it hands on names, each of which is imported when it is first asked for. ``import enginery`` itself
costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from enginery._version import __version__
from enginery.client import active

if TYPE_CHECKING:
    from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION

    from enginery.client.balanced import LoadBalancedView
    from enginery.client.broadcast import BroadcastView
    from enginery.client.client import Client, attach
    from enginery.client.dependency import Dependency
    from enginery.client.direct import DirectView
    from enginery.client.execute_reply import ExecuteReply
    from enginery.client.executor import ViewExecutor
    from enginery.client.functions import ParallelFunction, RemoteFunction, parallel, remote
    from enginery.client.map_result import AsyncMapResult
    from enginery.client.metadata import Metadata
    from enginery.client.recorded import AsyncHubResult
    from enginery.client.result import AsyncResult
    from enginery.cluster.cluster import Cluster
    from enginery.cluster.manager import ClusterManager
    from enginery.engine.kernel import bind_kernel
    from enginery.errors import (
        AlreadyDisplayedError,
        CompositeError,
        ConnectionFileError,
        ConnectionLost,
        DependencyTimeout,
        EngineError,
        ImpossibleDependency,
        InvalidDependency,
        IPythonError,
        KernelError,
        LauncherError,
        NoEnginesRegistered,
        NoRecord,
        Refused,
        RemoteError,
        SerializationError,
        TaskAborted,
        TaskRejectError,
        TaskTimeout,
        TimeoutError,  # noqa: A004 - the interface has this name
        UnmetDependency,
        VersionMismatch,
        collect_exceptions,
        unwrap_exception,
        wrap_exception,
    )
    from enginery.integrations.joblib import register_joblib_backend
    from enginery.wire.interactive import interactive
    from enginery.wire.library import use_cloudpickle, use_dill, use_pickle
    from enginery.wire.reference import Reference
    from enginery.wire.requirements import depend, dependent, require
    from enginery.wire.serialize import PrePickled

__all__ = [
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "AlreadyDisplayedError",
    "AsyncHubResult",
    "AsyncMapResult",
    "AsyncResult",
    "BroadcastView",
    "Client",
    "Cluster",
    "ClusterManager",
    "CompositeError",
    "ConnectionFileError",
    "ConnectionLost",
    "Dependency",
    "DependencyTimeout",
    "DirectView",
    "EngineError",
    "ExecuteReply",
    "IPythonError",
    "ImpossibleDependency",
    "InvalidDependency",
    "KernelError",
    "LauncherError",
    "LoadBalancedView",
    "Metadata",
    "NoEnginesRegistered",
    "NoRecord",
    "ParallelFunction",
    "PrePickled",
    "Reference",
    "Refused",
    "RemoteError",
    "RemoteFunction",
    "SerializationError",
    "TaskAborted",
    "TaskRejectError",
    "TaskTimeout",
    "TimeoutError",
    "UnmetDependency",
    "VersionMismatch",
    "ViewExecutor",
    "__version__",
    "attach",
    "bind_kernel",
    "collect_exceptions",
    "depend",
    "dependent",
    "interactive",
    "parallel",
    "register_joblib_backend",
    "remote",
    "require",
    "unwrap_exception",
    "use_cloudpickle",
    "use_dill",
    "use_pickle",
    "version_info",
    "wrap_exception",
]

#: Where each name lives. What is in no row is an error, and lives in `enginery.errors`.
_HOMES = {
    "concurrent.futures": ("ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"),
    "enginery.client.balanced": ("LoadBalancedView",),
    "enginery.client.broadcast": ("BroadcastView",),
    "enginery.client.client": ("Client", "attach"),
    "enginery.client.dependency": ("Dependency",),
    "enginery.client.direct": ("DirectView",),
    "enginery.client.execute_reply": ("ExecuteReply",),
    "enginery.client.executor": ("ViewExecutor",),
    "enginery.client.functions": ("ParallelFunction", "RemoteFunction", "parallel", "remote"),
    "enginery.client.map_result": ("AsyncMapResult",),
    "enginery.client.metadata": ("Metadata",),
    "enginery.client.recorded": ("AsyncHubResult",),
    "enginery.client.result": ("AsyncResult",),
    "enginery.cluster.cluster": ("Cluster",),
    "enginery.cluster.manager": ("ClusterManager",),
    "enginery.engine.kernel": ("bind_kernel",),
    "enginery.integrations.joblib": ("register_joblib_backend",),
    "enginery.wire.interactive": ("interactive",),
    "enginery.wire.library": ("use_cloudpickle", "use_dill", "use_pickle"),
    "enginery.wire.reference": ("Reference",),
    "enginery.wire.requirements": ("depend", "dependent", "require"),
    "enginery.wire.serialize": ("PrePickled",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
#: Submodules that programs reach as attributes without importing them: `enginery.errors`, older name `enginery.error`.
_ROOMS = frozenset({"client", "cluster", "controller", "datapub", "engine", "errors"})

version_info = tuple(int(part) for part in __version__.split(".")[:3] if part.isdecimal())


def __getattr__(name: str) -> Any:
    """Import what is asked for, and keep it: Python calls this once per name."""
    if name in _ROOMS:
        return import_module(f"enginery.{name}")
    if name not in __all__:
        raise AttributeError(f"module 'enginery' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF.get(name, "enginery.errors")), name)
    globals()[name] = value
    return value


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext enginery``: the magics of IPython. They come by themselves with the first client, too."""
    import_module("enginery.notebook.session").load(shell)


def _find_session() -> Any:
    return import_module("enginery.notebook.session").find()


# Clients ask for it when they are made where IPython runs; until then nothing of IPython is imported.
active.find_session = _find_session


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
