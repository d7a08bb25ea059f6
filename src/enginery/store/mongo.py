"""The store in a MongoDB database: MongoDB. Needs PyMongo (``pip install enginery[mongo]``).

Rules of the room:

1. The server only leaves out what cannot match; ``Query.matches`` has the last word, as in every store.
2. Times are kept as seconds since the epoch: MongoDB's own dates know no microseconds.
3. A document may have 16 MB. Of a record that is larger the buffers are left out, and this is logged.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import msgspec

from enginery.store.queries import comparable, selected
from enginery.store.records import BUFFERS, KEYS, NESTED, TIMES, size_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enginery.store.queries import Query

log = logging.getLogger("enginery.controller")

DATABASE: Final = "ipython-tasks"
#: Version of the documents. Those of an older one are read as they are: what they lack is None.
VERSION: Final = 1
#: Bytes of a document, with room for what is not counted.
LARGEST: Final = 15 << 20
#: Milliseconds in which the server has to answer when the controller starts.
PATIENCE: Final = 5_000
_INDEXED: Final = ("submitted", "completed", "client_uuid", "engine_uuid")
_COMPARISONS: Final = frozenset({"$lt", "$lte", "$gt", "$gte", "$eq"})
_PLAIN: Final = frozenset(KEYS) - frozenset(NESTED) - frozenset(BUFFERS)
#: What has keys that MongoDB does not like everywhere, such as media types with dots.
_PACKED: Final = frozenset({"outputs", "execute_result"})
_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.decode


class MongoDB:
    """Records as documents of the collection ``task_records``. To be used by one thread."""

    def __init__(
        self,
        database: str = DATABASE,
        connection_args: Sequence[Any] = (),
        connection_kwargs: Mapping[str, Any] | None = None,
        session: str = "",
    ) -> None:
        """Connect by ``pymongo.MongoClient(*connection_args, **connection_kwargs)``.

        Without a ``database`` there is one for each run of the controller, named by ``session``. Raises OSError if PyMongo
        is not installed, or no server answers.
        """
        try:
            pymongo: Any = import_module("pymongo")
        except ImportError as error:
            msg = "--mongodb needs PyMongo: `pip install enginery[mongo]`, or choose --sqlitedb."
            raise OSError(msg) from error
        settings = {"serverSelectionTimeoutMS": PATIENCE, **(connection_kwargs or {})}
        self._update = pymongo.UpdateOne
        self._client: Any = None
        try:
            self._client = pymongo.MongoClient(*connection_args, **settings)
            self._records = self._client[database or f"tasks-{session}"]["task_records"]
            self._functions = self._records.database["task_functions"]
            self._take_over(self._records.database)
            for key in _INDEXED:
                self._records.create_index(key)
        except (pymongo.errors.PyMongoError, ValueError, TypeError) as error:
            if self._client is not None:
                self._client.close()
            msg = (
                f"The MongoDB server cannot be used: {error}. MongoDB.connection_args and MongoDB.connection_kwargs are "
                "what pymongo.MongoClient is called with."
            )
            raise OSError(msg) from error

    def _take_over(self, database: Any) -> None:
        """Write our version down, unless a later one has been here: raises ValueError then."""
        meta = database["task_meta"]
        known = meta.find_one({"_id": "version"})
        if known is not None and known["version"] > VERSION:
            raise ValueError(
                f"its database {database.name!r} is of version {known['version']}, and this release reads {VERSION} at most. "
                "Use the release that wrote it, or another database (--MongoDB.database)"
            )
        meta.replace_one({"_id": "version"}, {"_id": "version", "version": VERSION}, upsert=True)

    def update_records(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """See ``TaskStore``; likewise the others. The server writes each record whole, but perhaps not all of them."""
        changes = []
        for msg_id, given in records.items():
            record = given
            if size_of(record) > LARGEST:
                log.warning(
                    "task=%s: its buffers are too large for MongoDB, which keeps the rest of its record", msg_id
                )
                record = {**given, **{key: [] for key in BUFFERS if key in given}}
            values = {key: _stored(key, value) for key, value in record.items() if key != "msg_id"}
            changes.append(self._update({"_id": msg_id}, {"$set": values}, upsert=True))
        if changes:
            self._records.bulk_write(changes, ordered=False)

    def find_records(self, query: Query, keys: Sequence[str]) -> list[dict[str, Any]]:
        """See ``TaskStore``."""
        columns = dict.fromkeys((query.keys | set(keys)) - {"msg_id"}, 1)
        found = []
        for document in self._records.find(_filter(query), {"_id": 1, **columns}):
            record = {key: _loaded(key, document.get(key)) for key in columns}
            record["msg_id"] = document["_id"]
            if query.matches(record):
                found.append(selected(record, keys))
        return found

    def drop_records(self, query: Query) -> int:
        """See ``TaskStore``."""
        doomed = [record["msg_id"] for record in self.find_records(query, ("msg_id",))]
        if doomed:
            self._records.delete_many({"_id": {"$in": doomed}})
        return len(doomed)

    def keep_function(self, digest: bytes, body: bytes) -> None:
        """See ``TaskStore``. What is larger than a document is not kept."""
        if len(body) < LARGEST:
            self._functions.replace_one({"_id": digest}, {"_id": digest, "body": body}, upsert=True)

    def get_function(self, digest: bytes) -> bytes | None:
        """See ``TaskStore``."""
        document = self._functions.find_one({"_id": digest})
        return bytes(document["body"]) if document is not None else None

    def limits(self) -> str:
        """See ``TaskStore``: there are none."""
        return ""

    def close(self) -> None:
        """See ``TaskStore``."""
        self._client.close()


def _filter(query: Query) -> dict[str, Any]:
    """What the server may leave out."""
    conditions: dict[str, Any] = {}
    for key, operators in query.conditions.items():
        if key not in _PLAIN:
            continue
        known = {}
        for name, wanted in operators.items():
            value = comparable(wanted)
            if name in _COMPARISONS and _is_orderly(key, value):
                known[name] = value.timestamp() if isinstance(value, datetime) else value
            elif key == "msg_id" and name == "$in":
                known[name] = [each for each in value if isinstance(each, str)]
            elif name == "$eq" and value is None:
                known[name] = None
        if known:
            conditions["_id" if key == "msg_id" else key] = known
    return conditions


def _is_orderly(key: str, value: object) -> bool:
    """Whether the server compares such a value as we do."""
    if key in TIMES:
        return isinstance(value, datetime)
    return isinstance(value, str) and value.isprintable() and value.isascii()


def _stored(key: str, value: Any) -> Any:
    if value is None:
        return None
    if key in TIMES:
        return value.timestamp()
    if key in BUFFERS:
        return [bytes(buffer) for buffer in value]
    return _encode(value) if key in _PACKED else value


def _loaded(key: str, value: Any) -> Any:
    if value is None:
        return None
    if key in TIMES:
        return datetime.fromtimestamp(value, UTC)
    if key in BUFFERS:
        return [bytes(buffer) for buffer in value]
    return _decode(value) if key in _PACKED else value
