"""The MongoDB store against a real server: same answers as in memory, history that lasts, and a cluster that uses it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from enginery.cluster.cluster import Cluster
from enginery.store.memory import DictDB
from enginery.store.mongo import VERSION, MongoDB
from enginery.store.queries import Query, in_order
from enginery.store.records import KEYS
from enginery.store.sqlite import SQLiteDB
from enginery.wire.interactive import interactive
from services.secantus import Secantus
from store.records_of_tests import SAMPLES, all_pairs, expected, make_record, queries, records

ALL = tuple(KEYS)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("secantus") / "data"
    folder.mkdir()
    server = Secantus(folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def make_store(server):
    """Makes stores in a database by name, and drops what they made."""
    made = []

    def make(database="tests", **given):
        store = MongoDB(database, ["127.0.0.1", server.port], **given)
        made.append((store, database))
        return store

    yield make
    for store, database in made:
        if database:
            store._client.drop_database(database)
        store.close()


def test_a_record_comes_back_as_it_was(make_store):
    store = make_store()
    first = make_record(1, label="größer", metadata={"targets": [1, 2], "timeout": 1.5, "a.b": {"$c": None}})
    second = make_record(2, submitted=None, started=None, completed=None, result_buffers=None, outputs=[])
    store.update_records({each["msg_id"]: each for each in (first, second)})
    assert in_order(store.find_records(Query({}), ALL)) == [second, first]
    store.update_records({"session_2": {"label": "new"}})
    assert store.find_records(Query({"label": "new"}), ("msg_id", "status")) == [
        {"msg_id": "session_2", "status": "ok"}
    ]
    assert store.drop_records(Query({"label": "new"})) == 1


@pytest.mark.parametrize("key", SAMPLES)
def test_every_operator_on_every_pair_of_values(make_store, key):
    store = make_store("pairs")
    documents = {f"session_{at}": make_record(at, **{key: value}) for at, value in enumerate(SAMPLES[key])}
    store.update_records(documents)
    for query in all_pairs(key):
        found = {each["msg_id"] for each in store.find_records(Query(query), ("msg_id",))}
        assert found == expected(documents.values(), query), query


@pytest.fixture
def answers(make_store):
    return make_store("answers")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(given_records=records, query=queries)
def test_every_query_gives_the_same_answer_from_memory_sqlite_and_mongodb(answers, given_records, query):
    documents = {f"session_{at}": make_record(at, **fields) for at, fields in enumerate(given_records)}
    wanted = expected(documents.values(), query)
    memory, sqlite = DictDB(record_limit=0, size_limit=0), SQLiteDB(":memory:")
    try:
        for store in (memory, sqlite, answers):
            store.drop_records(Query({}))
            store.update_records(documents)
            found = in_order(store.find_records(Query(query), ALL))
            assert found == in_order(memory.find_records(Query(query), ALL)), store
            assert {each["msg_id"] for each in found} == wanted, store
            assert all(each == documents[each["msg_id"]] for each in found), store
        for store in (memory, sqlite, answers):
            assert store.drop_records(Query(query)) == len(wanted), store
            left = {each["msg_id"] for each in store.find_records(Query({}), ("msg_id",))}
            assert left == documents.keys() - wanted, store
    finally:
        sqlite.close()


def test_a_database_of_an_older_version_is_used_and_one_of_a_later_is_refused(make_store):
    store = make_store("versions")
    store.update_records({"session_1": make_record(1)})
    meta = store._client["versions"]["task_meta"]
    assert meta.find_one({"_id": "version"})["version"] == VERSION
    meta.delete_one({"_id": "version"})  # as before versions were written down
    again = make_store("versions")
    assert again.find_records(Query({}), ALL) == [make_record(1)]
    assert meta.find_one({"_id": "version"})["version"] == VERSION
    meta.update_one({"_id": "version"}, {"$set": {"version": VERSION + 1}})
    with pytest.raises(OSError, match=rf"'versions' .*is of version {VERSION + 1}.*Use the release that wrote it"):
        make_store("versions")


def test_functions_are_kept(make_store):
    store = make_store()
    store.keep_function(b"digest", b"body")
    store.keep_function(b"digest", b"body")
    assert make_store().get_function(b"digest") == b"body"
    assert store.get_function(b"other") is None


def test_buffers_that_are_too_large_are_left_out_and_the_rest_is_kept(make_store, caplog):
    store = make_store()
    store.update_records({"a_1": make_record(1, msg_id="a_1", result_buffers=[bytes(17 << 20)])})
    assert store.find_records(Query({"msg_id": "a_1"}), ("status", "result_buffers")) == [
        {"status": "ok", "result_buffers": []}
    ]
    assert "too large for MongoDB" in caplog.text


def test_a_server_that_is_not_there_is_named():
    with pytest.raises(OSError, match=r"MongoDB server cannot be used: .*MongoDB.connection_args"):
        MongoDB(connection_args=["127.0.0.1", 1], connection_kwargs={"serverSelectionTimeoutMS": 200})


@pytest.mark.row(10, 94, 95)
def test_row_010_094_095_history_in_mongodb_lasts(server, tmp_path, make_store):
    """ipcontroller --mongodb, with c.MongoDB.database, connection_args and connection_kwargs."""
    make_store("tasks")  # and drops it in the end
    config = tmp_path / "profile" / "ipcontroller_config.py"
    config.parent.mkdir()
    config.write_text(
        "c.MongoDB.database = 'tasks'\n"
        f"c.MongoDB.connection_args = ['127.0.0.1']\nc.MongoDB.connection_kwargs = {{'port': {server.port}}}\n"
    )

    def cluster():
        return Cluster(n=1, profile_dir=str(config.parent), controller_args=["--mongodb"])

    with cluster() as rc:
        first = rc.load_balanced_view().apply(interactive(lambda x: (print("said"), x * 2)[1]), 21)
        assert first.get() == 42
        assert rc.hub_history() == first.msg_ids
    with cluster() as rc:
        assert rc.hub_history() == first.msg_ids
        again = rc.get_result(first.msg_ids[0])
        assert (again.get(), again.stdout) == (42, "said\n")
        repeated = rc.resubmit(first.msg_ids[0])
        assert repeated.get() == 42
        assert rc.db_query({"msg_id": first.msg_ids[0]}, "resubmitted")[0]["resubmitted"] == repeated.msg_ids[0]
