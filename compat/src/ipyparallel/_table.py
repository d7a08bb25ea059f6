"""The table: every module and name that the texts of ipyparallel show, and where it lives now."""

from __future__ import annotations

_SERIALIZE = {"enginery.wire.serialize": "PrePickled", "enginery.wire.library": "use_cloudpickle use_dill use_pickle"}
_DEPEND = {"enginery.wire.requirements": "depend dependent require", "enginery.client.dependency": "Dependency"}
_LAUNCHERS = {
    "enginery.cluster.launchers.base": "BaseLauncher ControllerLauncher EngineLauncher LauncherError NotRunning"
    " ProcessStateError UnknownStatus",
    "enginery.cluster.launchers.local": "LocalProcessLauncher LocalControllerLauncher LocalEngineSetLauncher",
    "enginery.cluster.registry": "abbreviate_launcher_class find_launcher_class",
}
_RESULTS = {
    "enginery.client.result": "AsyncResult",
    "enginery.client.map_result": "AsyncMapResult",
    "enginery.client.recorded": "AsyncHubResult",
}
_CONTROLLER = {"enginery.cli.ipcontroller": "IPController IPControllerApp=IPController main launch_new_instance=main"}
_ENGINE = {"enginery.cli.ipengine": "IPEngine IPEngineApp=IPEngine main launch_new_instance=main"}
_LOGGER = {"enginery.cli.iplogger": "IPLogger IPLoggerApp=IPLogger LogWatcher main launch_new_instance=main"}
_CLUSTER = {
    "enginery.cli.ipcluster": "IPCluster IPClusterApp=IPCluster main launch_new_instance=main",
    "enginery.cli.cluster_start": "IPClusterEngines IPClusterStart",
    "enginery.cli.cluster_look": "IPClusterClean IPClusterList IPClusterStop",
}

#: Old module -> {module that has its names today: the names; ``old=new`` where a name has changed; ``*`` for all}.
MODULES: dict[str, dict[str, str]] = {
    "ipyparallel": {"enginery": "* load_ipython_extension"},
    "ipyparallel.apps": {},
    "ipyparallel.apps.baseapp": {"enginery.config.application": "BaseParallelApplication"},
    "ipyparallel.apps.ipclusterapp": _CLUSTER,
    "ipyparallel.apps.ipcontrollerapp": _CONTROLLER,
    "ipyparallel.apps.ipengineapp": _ENGINE,
    "ipyparallel.apps.iploggerapp": _LOGGER,
    "ipyparallel.apps.launcher": _LAUNCHERS,
    "ipyparallel.apps.logwatcher": _LOGGER,
    "ipyparallel.client": {
        **_RESULTS,
        "enginery.client.client": "Client",
        "enginery.client.balanced": "LoadBalancedView",
        "enginery.client.broadcast": "BroadcastView",
        "enginery.client.direct": "DirectView",
    },
    "ipyparallel.client.asyncresult": _RESULTS,
    "ipyparallel.client.client": {
        "enginery.client.client": "Client",
        "enginery.client.execute_reply": "ExecuteReply",
        "enginery.client.metadata": "Metadata",
    },
    "ipyparallel.client.magics": {"enginery.notebook.magics": "ParallelMagics"},
    "ipyparallel.client.map": {},
    "ipyparallel.client.remotefunction": {
        "enginery.client.functions": "ParallelFunction RemoteFunction parallel remote"
    },
    "ipyparallel.client.view": {
        "enginery.client.balanced": "LoadBalancedView",
        "enginery.client.broadcast": "BroadcastView",
        "enginery.client.direct": "DirectView",
        "enginery.client.executor": "ViewExecutor",
        "enginery.client.lazy_map": "LazyMapIterator",
        "enginery.client.view": "View",
    },
    "ipyparallel.cluster": {
        "enginery.cluster.cluster": "Cluster",
        "enginery.cluster.cleaning": "clean_cluster_files",
        "enginery.cluster.manager": "ClusterManager",
    },
    "ipyparallel.cluster.app": _CLUSTER,
    "ipyparallel.cluster.cluster": {
        "enginery.cluster.cluster": "Cluster",
        "enginery.cluster.cleaning": "clean_cluster_files",
        "enginery.cluster.manager": "ClusterManager",
    },
    "ipyparallel.cluster.launcher": _LAUNCHERS,
    "ipyparallel.controller": {},
    "ipyparallel.controller.app": _CONTROLLER,
    "ipyparallel.controller.dependency": _DEPEND,
    "ipyparallel.controller.dictdb": {"enginery.config.stores": "DictDB"},
    "ipyparallel.controller.heartmonitor": {"enginery.config.controller": "HeartMonitor"},
    "ipyparallel.controller.mongodb": {"enginery.config.stores": "MongoDB"},
    "ipyparallel.controller.sqlitedb": {"enginery.config.stores": "SQLiteDB"},
    "ipyparallel.controller.task_scheduler": {"enginery.config.controller": "TaskScheduler"},
    "ipyparallel.datapub": {"enginery.datapub": "publish_data"},
    "ipyparallel.engine": {},
    "ipyparallel.engine.app": _ENGINE,
    "ipyparallel.engine.datapub": {"enginery.datapub": "publish_data"},
    "ipyparallel.error": {"enginery.errors": "*"},
    "ipyparallel.joblib": {"enginery.integrations.joblib": "register register_joblib_backend"},
    "ipyparallel.logger": _LOGGER,
    "ipyparallel.serialize": _SERIALIZE,
    "ipyparallel.util": {
        "datetime": "utc=UTC",
        "enginery.net.addresses": "disambiguate_ip_address=disambiguate_ip disambiguate_url",
        "enginery.wire.interactive": "interactive",
    },
}

#: Old module that can be run as ``python -m`` -> the module of enginery that is run.
PROGRAMS = {
    "ipyparallel.cluster": "enginery.cluster",
    "ipyparallel.controller": "enginery.controller",
    "ipyparallel.engine": "enginery.engine",
    "ipyparallel.logger": "enginery.logger",
}

_PACK = "values are packed by enginery itself; use PrePickled(value) to pack one only once"
_CAN = "there are no tables of types any more; give a class __reduce__, or use copyreg, or use_cloudpickle()"
_EXTENSION = "start clusters with Cluster() from the notebook"

#: Names and modules that have no equivalent -> what to do instead. A name counts in every module.
GONE = {
    "can": _CAN,
    "can_map": _CAN,
    "deserialize_object": _PACK,
    "pack_apply_message": _PACK,
    "serialize_object": _PACK,
    "uncan": _CAN,
    "uncan_map": _CAN,
    "unpack_apply_message": _PACK,
    "MultipleInstanceError": "traitlets.config has it",
    **dict.fromkeys(
        (
            "load_jupyter_server_extension",
            "_load_jupyter_server_extension",
            "_jupyter_server_extension_paths",
            "_jupyter_nbextension_paths",
            "_jupyter_labextension_paths",
        ),
        _EXTENSION,
    ),
    "LocalEngineLauncher": "LocalEngineSetLauncher starts engines, one or many",
    "utcnow": "use datetime.now(UTC) of the standard library",
    "ipyparallel.client.futures": "AsyncResult is a Future; there are no message futures below it",
    "ipyparallel.controller.hub": "the controller is one process; Client asks it what it knows",
    "ipyparallel.engine.kernel": "an engine is no kernel of itself; bind_kernel() lets consoles attach to it",
    "ipyparallel.engine.nanny": "engines are watched by a nanny that comes with them",
    "ipyparallel.nbextension": _EXTENSION,
    "ipyparallel.serialize.canning": _CAN,
    "ipyparallel.serialize.serialize": _PACK,
    "ipyparallel.shellcmd": "start programs on other hosts with ssh",
    "ipyparallel.traitlets": "launchers are named by text; enginery.cluster.registry finds them",
}
