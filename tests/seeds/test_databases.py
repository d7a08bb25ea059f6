"""Rows of task databases: flags, db_class by all names, and what history is for. MongoDB's are beside the real server."""

from __future__ import annotations

import contextlib
import re
import sqlite3

import psutil
import pytest

import enginery as ipp

PATIENCE = 30.0


@pytest.fixture
def profile(tmp_path):
    folder = tmp_path / "profile"
    folder.mkdir()
    return folder


@contextlib.contextmanager
def running(commands, profile, *arguments):
    """ipcontroller and ipengine as a user starts them, and a client of theirs. ``rc.controller`` is the process."""
    place = f"--profile-dir={profile}"
    controller = commands.start("controller", place, *arguments)
    with ipp.Client(profile_dir=str(profile), timeout=PATIENCE) as rc:
        rc.controller = controller
        commands.start("engine", place)
        rc.wait_for_engines(1, timeout=PATIENCE)
        yield rc
        commands.end()


def work(rc):
    result = rc.load_balanced_view().apply(pow, 6, 2)
    assert result.get(PATIENCE) == 36
    return result.msg_ids[0]


def refused(commands, *arguments):
    """What ipcontroller says of arguments that cannot be."""
    done = commands.run("controller", *arguments)
    assert done.returncode
    return done.stderr


@pytest.mark.row(8)
def test_row_008_usethreads(commands, profile):
    """--usethreads: no processes for schedulers. There are none in any case."""
    with running(commands, profile, "--usethreads") as rc:
        work(rc)
        assert psutil.Process(rc.controller.pid).children() == []


@pytest.mark.row(9)
def test_row_009_sqlitedb(commands, profile):
    with running(commands, profile, "--sqlitedb") as rc:
        done = work(rc)
        assert rc.hub_history() == [done]
    with contextlib.closing(sqlite3.connect(profile / "tasks.db")) as db:
        assert db.execute('SELECT msg_id, status FROM "ipython-tasks"').fetchall() == [(done, "ok")]


@pytest.mark.row(10)
def test_row_010_mongodb_without_a_server_says_so(commands, profile):
    """--mongodb; with a server: tests/services/test_mongo.py."""
    said = refused(
        commands,
        f"--profile-dir={profile}",
        "--mongodb",
        "--MongoDB.connection_args=['127.0.0.1', 1]",
        "--MongoDB.connection_kwargs={'serverSelectionTimeoutMS': 100}",
    )
    assert "The MongoDB server cannot be used" in said
    assert "Traceback" not in said


@pytest.mark.row(11)
@pytest.mark.parametrize("arguments", [[], ["--dictdb"]])
def test_row_011_dictdb_is_the_default(commands, profile, arguments):
    with running(commands, profile, *arguments, "--DictDB.record_limit=3") as rc:
        done = [work(rc) for _ in range(5)]
        assert rc.hub_history() in (done[2:], done[3:])
        assert [path for path in profile.rglob("*") if path.suffix == ".db"] == []


@pytest.mark.row(12)
def test_row_012_nodb(commands, profile):
    with running(commands, profile, "--nodb") as rc:
        work(rc)
        with pytest.raises(KeyError, match="keeps no records"):
            rc.hub_history()


@pytest.mark.row(93)
@pytest.mark.parametrize(
    ("setting", "has_history", "has_file"),
    [
        ("c.HubFactory.db_class = 'IPython.parallel.controller.sqlitedb.SQLiteDB'", True, True),
        ("c.HubFactory.db_class = 'IPython.parallel.controller.dictdb.DictDB'", True, False),
        ("c.IPController.db_class = 'ipyparallel.controller.sqlitedb.SQLiteDB'", True, True),
        ("c.IPController.db_class = 'ipyparallel.controller.dictdb.NoDB'", False, False),
        ("c.IPController.db_class = 'sqlitedb'", True, True),
        ("c.IPController.db_class = 'NoDB'", False, False),
    ],
)
def test_row_093_db_class_by_all_its_names(commands, profile, setting, has_history, has_file):
    (profile / "ipcontroller_config.py").write_text(f"{setting}\n")
    with running(commands, profile) as rc:
        done = work(rc)
        if has_history:
            assert rc.hub_history() == [done]
        else:
            with pytest.raises(KeyError):
                rc.hub_history()
        assert (profile / "tasks.db").exists() is has_file


@pytest.mark.row(93)
def test_row_093_mongodb_by_its_dotted_name_and_names_of_nothing(commands, profile):
    place = f"--profile-dir={profile}"
    said = refused(
        commands,
        place,
        "--HubFactory.db_class=IPython.parallel.controller.mongodb.MongoDB",
        "--MongoDB.connection_kwargs={'port': 1, 'serverSelectionTimeoutMS': 100}",
    )
    assert "The MongoDB server cannot be used" in said
    assert "'couch' is no task store; there are NoDB, DictDB" in refused(
        commands, place, "--IPController.db_class=couch"
    )
    assert re.search(
        r"'no.such.Store' cannot be made: ModuleNotFoundError",
        refused(commands, place, "--IPController.db_class=no.such.Store"),
    )


@pytest.mark.row(94)
@pytest.mark.parametrize(("table", "lasts"), [("tasks", True), ("", False)])
def test_row_094_a_named_table_persists(commands, profile, table, lasts):
    """c.SQLiteDB.table = 'tasks'; without a name, there is a table for each run. MongoDB's: tests/services."""
    (profile / "ipcontroller_config.py").write_text(
        f"c.IPController.db_class = 'SQLiteDB'\nc.SQLiteDB.table = {table!r}\nc.SQLiteDB.filename = 'history.db'\n"
    )
    with running(commands, profile) as rc:
        first = work(rc)
    with running(commands, profile) as rc:
        second = work(rc)
        assert rc.hub_history() == ([first, second] if lasts else [second])
    assert (profile / "history.db").is_file()


@pytest.mark.row(95)
def test_row_095_connection_arguments_of_mongodb_are_settings(commands, profile):
    """They reach pymongo.MongoClient, which knows no such option; with a server: tests/services."""
    (profile / "ipcontroller_config.py").write_text(
        "c.IPController.db_class = 'mongodb'\n"
        "c.MongoDB.connection_args = ['mongodb://127.0.0.1:1/']\nc.MongoDB.connection_kwargs = {'no_such_option': 1}\n"
    )
    assert "no_such_option" in refused(commands, f"--profile-dir={profile}")


@pytest.mark.row(96)
@pytest.mark.parametrize("flag", ["--dictdb", "--sqlitedb"])
def test_row_096_results_of_others_and_resubmission(commands, profile, flag):
    """The controller stores all requests and results; datetimes and bytes come back as such."""
    with running(commands, profile, flag) as rc:
        done = work(rc)
        with ipp.Client(profile_dir=str(profile)) as other:
            assert other.get_result(done).get(PATIENCE) == 36
            again = other.resubmit(done)
            assert again.get(PATIENCE) == 36
            assert other.hub_history() == [done, *again.msg_ids]
            (record,) = other.db_query({"msg_id": done}, ["buffers", "result_buffers", "submitted", "completed"])
            assert record["submitted"] <= record["completed"]
            assert all(type(each) is bytes for each in record["buffers"] + record["result_buffers"])


@pytest.mark.row(93, 94, 95)
def test_rows_093_to_095_settings_are_in_the_default_configuration(commands, profile):
    done = commands.run("controller", "--init", f"--profile-dir={profile}", "--generate-config")
    assert done.returncode == 0, done.stderr
    written = (profile / "ipcontroller_config.py").read_text()
    names = ("IPController.db_class", "SQLiteDB.table", "SQLiteDB.filename", "SQLiteDB.location", "MongoDB.database",
             "MongoDB.connection_args", "MongoDB.connection_kwargs", "DictDB.record_limit", "DictDB.size_limit")  # fmt: skip
    assert [name for name in names if f"# c.{name} = " not in written] == []
