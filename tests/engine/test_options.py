from __future__ import annotations

from pathlib import Path

from enginery.engine.options import EngineOptions
from enginery.net.connection_file import ConnectionInfo


def test_options_survive_the_way_to_another_process():
    info = ConnectionInfo("engine", "ipc:///tmp/x", secret_key="k" * 40, epoch=3)
    options = EngineOptions(
        connection=info, n=3, work_dir=Path("/tmp"), id=4, owner_pid=5, environment={"A": "b"}, stop_timeout=0.5
    )
    back = EngineOptions.from_dict(options.to_dict())
    assert (back.n, back.work_dir, back.id, back.environment) == (3, Path("/tmp"), 4, {"A": "b"})
    assert (back.connection.url, back.connection.secret_key, back.connection.epoch) == (info.url, info.secret_key, 3)
    assert back.profile_dir is None


def test_keys_are_not_shown():
    info = ConnectionInfo("engine", "ipc:///tmp/x", secret_key="k" * 40)
    assert "kkkk" not in repr(EngineOptions(connection=info))
