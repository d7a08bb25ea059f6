"""Questions about recorded tasks, which the store answers in its own time: one method each, found by name.

Rules of the room:

1. What has not ended is known to the scheduler, what has ended to the store; what ended last is handed over before the
   store is asked.
2. A client that waits for the task of another gets its output and its result under an id of its own, as if it had asked
   for it itself.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from enginery.store.queries import Query, selected, selection, together
from enginery.store.records import KEYS, moment, record_of, size_of
from enginery.wire import messages as m
from enginery.wire.messages import CLIENT_SHIFT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from enginery.controller.recording import Recorder
    from enginery.core.scheduler import Scheduler
    from enginery.store.interface import TaskStore
    from enginery.store.records import Record

    #: Answers a client: its number, and what to send.
    Say = Callable[[int, m.ToClient, list[object]], object]

#: Records, and bytes of them, that one answer holds.
MOST_RECORDS: Final = 100_000
MOST_BYTES: Final = 512 << 20
#: Missing tasks that an error names.
NAMED: Final = 5
#: What only tasks that ended have.
_ONLY_ENDED: Final = dict.fromkeys(("completed", "error", "received", "resubmitted", "started", "status"))
#: The keys without which a task cannot be told of, or run again.
_WHOLE: Final = tuple(KEYS)
_STATUS: Final = {status.name.lower(): status for status in m.Status}
_ACTIONS: Final = {action.name.lower(): action for action in m.Action}

#: The questions that are answered here.
QUESTIONS: Final = frozenset({"db_query", "follow", "hub_history", "purge", "resubmit", "task_status"})
NO_STORE: Final = (
    "This controller keeps no records (--nodb): only results that this process still has can be asked for. Start it with "
    "--dictdb (the default), --sqlitedb or --mongodb."
)


class Absent(Exception):
    """Somebody asked for what is not there."""


class History:
    """Answers questions about records. Belongs to the loop's thread."""

    def __init__(self, scheduler: Scheduler, recorder: Recorder, say: Say) -> None:
        self._scheduler = scheduler
        self._recorder = recorder
        self._say = say
        recorder.on_ended = self._tell
        self._questions: dict[str, Callable[[int, int, Mapping[str, Any], float], None]] = {
            "db_query": self._db_query,
            "follow": self._follow,
            "hub_history": self._hub_history,
            "purge": self._purge,
            "resubmit": self._resubmit,
            "task_status": self._task_status,
        }
        assert self._questions.keys() == QUESTIONS, "all are answered"

    def ask(self, client: int, query: m.Query, now: float) -> None:
        """Answer a question, now or later."""
        self._scheduler.settle()
        self._recorder.collect(now_or_never=True)
        try:
            self._questions[query.name](client, query.number, query.arguments, now)
        except (ValueError, Absent) as error:
            self._fail(client, query.number, query.name, error)

    def _fail(self, client: int, number: int, name: str, error: Exception) -> None:
        if isinstance(error, Absent):
            answer = m.Answer(number, error=str(error), kind="NoRecord")
        elif isinstance(error, ValueError):
            answer = m.Answer(number, error=f"{name}: {error}")
        else:
            said = f"The task store could not answer: {type(error).__name__}: {error}"
            answer = m.Answer(number, error=said, kind="KernelError")
        self._say(client, answer, [])

    def _ask_store(
        self,
        client: int,
        number: int,
        name: str,
        question: Callable[[TaskStore], Any],
        then: Callable[[Any], Any],
        *,
        for_good: bool = False,
    ) -> None:
        """Have the store asked, and its answer worked out by ``then`` and sent; errors of both are told."""

        def reply(found: Any) -> None:
            if client not in self._scheduler.clients:
                return  # it has left meanwhile
            try:
                if isinstance(found, Exception):
                    raise found
                self._say(client, m.Answer(number, then(found)), [])
            except Exception as error:
                self._fail(client, number, name, error)

        self._recorder.ask(question, reply, for_good=for_good)

    # --- looking --------------------------------------------------------------------------------------------------

    def _db_query(self, client: int, number: int, arguments: Mapping[str, Any], _now: float) -> None:
        query, keys = Query(arguments.get("query")), selection(arguments.get("keys"))
        live = self._unfinished(query, keys)

        wanted = tuple(dict.fromkeys((*keys, "submitted")))

        def then(found: list[Record]) -> list[Record]:
            found = together(live, found)
            if len(found) > MOST_RECORDS or sum(map(size_of, found)) > MOST_BYTES:
                raise ValueError(
                    f"{len(found):,} records match, which is more than one answer may hold ({MOST_RECORDS:,} records, "
                    f"{MOST_BYTES >> 20} MiB). Ask for fewer: by time of submission, for instance."
                )
            return [selected(record, keys) for record in found]

        self._ask_store(client, number, "db_query", lambda store: store.find_records(query, wanted), then)

    def _hub_history(self, client: int, number: int, _arguments: Mapping[str, Any], _now: float) -> None:
        query, keys = Query({}), ("msg_id", "submitted")
        entries = self._recorder.unfinished() if self._recorder.keeper.only_ended else ()
        live = [{"msg_id": entry.msg_id, "submitted": moment(entry.submitted)} for entry in entries]
        self._ask_store(
            client,
            number,
            "hub_history",
            lambda store: store.find_records(query, keys),
            lambda found: [record["msg_id"] for record in together(live, found)],
        )

    def _unfinished(self, query: Query, keys: Iterable[str]) -> list[Record]:
        """Records of tasks that have not ended, where the store has only those that have."""
        if not self._recorder.keeper.only_ended or not query.may_match(_ONLY_ENDED):
            return []
        wanted = query.conditions.get("msg_id", {})
        named = [wanted["$eq"]] if "$eq" in wanted else wanted.get("$in")
        tasks = None if named is None else [task for each in named if (task := self._id(each)) is not None]
        records = map(record_of, self._recorder.unfinished(tasks))
        return [selected(record, (*keys, "submitted")) for record in records if query.matches(record)]

    def _id(self, msg_id: object) -> int | None:
        return self._recorder.task_id(msg_id) if isinstance(msg_id, str) else None

    def _task_status(self, client: int, number: int, arguments: Mapping[str, Any], _now: float) -> None:
        ids = _names(arguments, "ids")
        pending, rest = self._split(ids)

        def then(found: list[Record]) -> dict[str, str]:
            status = dict.fromkeys(pending, "pending")
            status |= {each["msg_id"]: "completed" if each["completed"] else "pending" for each in found}
            self._check_there(ids, status)
            return status

        query = Query({"msg_id": {"$in": rest}})
        keys = ("msg_id", "completed")
        self._ask_store(client, number, "result_status", lambda store: store.find_records(query, keys), then)

    # --- waiting for tasks of others ------------------------------------------------------------------------------

    def _follow(self, client: int, number: int, arguments: Mapping[str, Any], _now: float) -> None:
        aliases = self._aliases(arguments)
        pending, rest = self._split(aliases)
        entries = self._recorder.unfinished(list(pending.values()))
        facts = {entry.msg_id: {**_facts(record_of(entry)), "task": entry.task.id} for entry in entries}
        for msg_id, task in pending.items():
            self._recorder.followed.setdefault(task, []).append((client, aliases[msg_id]))

        def then(found: list[Record]) -> dict[str, Any]:
            records = {record["msg_id"]: record for record in found}
            try:
                self._check_there(aliases, {**facts, **records})
            except Absent:
                self._recorder.unfollow(client, set(aliases.values()))
                raise
            for msg_id, record in records.items():
                if record["completed"] is None:
                    record = _never_ended(record)  # noqa: PLW2901 - in its place
                self._tell(client, aliases[msg_id], record)
                facts[msg_id] = _facts(record)
            return facts

        query = Query({"msg_id": {"$in": rest}})
        self._ask_store(client, number, "get_result", lambda store: store.find_records(query, _WHOLE), then)

    def _tell(self, client: int, alias: int, record: Record) -> None:
        """Send output and result of a task to somebody else than who submitted it."""
        engine = record["engine_id"] if record["engine_id"] is not None else -1
        outputs = [m.Output(alias, kind, record[kind]) for kind in ("stdout", "stderr") if record[kind]]
        outputs += [m.Output(alias, kind, "", bytes(data)) for kind, data in record["outputs"] or ()]
        if outputs:
            self._say(client, m.Outputs(engine, outputs), [])
        result, frames = self._result_of(alias, record)
        self._say(client, m.Results(engine, [result]), frames)

    def _result_of(self, alias: int, record: Record) -> tuple[m.Result, list[object]]:
        content = record["result_content"] or {}
        result = m.Result(alias, _STATUS.get(content.get("status", ""), m.Status.LOST), b"")
        result.started, result.finished = _seconds(record["started"]), _seconds(record["completed"])
        if "ename" in content:
            words = [str(content.get(key, "")) for key in ("kind", "ename", "evalue", "traceback")]
            result.fault = m.Fault(*words)
        buffers = list(record["result_buffers"] or ())
        if buffers:
            result.payload = bytes(buffers[0])
            result.frames = len(buffers) - 1
        elif result.status == m.Status.OK:
            result.status = m.Status.LOST
            text = (
                "The task ended well, but its result was not kept: the buffers of a task may have "
                f"{self._recorder.keeper.largest:,.0f} bytes in the record (in memory: a quarter of DictDB.size_limit)."
            )
            result.fault = m.Fault("NoRecord", "NoRecord", text)
        return result, buffers[1:]

    # --- running again --------------------------------------------------------------------------------------------

    def _resubmit(self, client: int, number: int, arguments: Mapping[str, Any], now: float) -> None:
        aliases = self._aliases(arguments)
        pending, rest = self._split(aliases)
        live = [record_of(entry) for entry in self._recorder.unfinished(list(pending.values()))]
        query = Query({"msg_id": {"$in": rest}})

        def question(store: TaskStore) -> tuple[list[Record], dict[bytes, bytes]]:
            found = store.find_records(query, _WHOLE)
            digests = {digest for record in found if (digest := _digest(record))}
            bodies = {digest: store.get_function(digest) for digest in digests}
            return found, {digest: body for digest, body in bodies.items() if body is not None}

        def then(answer: tuple[list[Record], dict[bytes, bytes]]) -> dict[str, Any]:
            records = {record["msg_id"]: record for record in [*live, *answer[0]]}
            self._check_there(aliases, records)
            for record in records.values():
                if not record["buffers"]:
                    raise Absent(
                        f"{record['msg_id']} cannot be run again: its arguments were not kept, for they have more than "
                        f"{self._recorder.keeper.largest:,.0f} bytes, or their memory was used for others meanwhile."
                    )
            bodies = self._scheduler.dealer.bodies
            self._scheduler.functions_arrived(
                self._scheduler.clients[client], {key: body for key, body in answer[1].items() if key not in bodies}
            )
            names = {
                msg_id: self._submit_again(client, alias, records[msg_id], now) for msg_id, alias in aliases.items()
            }
            return {name: {"content": records[msg_id]["content"]} for msg_id, name in names.items()}

        self._ask_store(client, number, "resubmit", question, then)

    def _submit_again(self, client: int, number: int, record: Record, now: float) -> str:
        """Submit a recorded task under a new id; returns its message id."""
        scheduler, recorder = self._scheduler, self._recorder
        buffers = list(record["buffers"])
        task = m.Task(
            number, _ACTIONS[record["content"]["action"]], _digest(record), bytes(buffers[0]), len(buffers) - 1
        )
        task.options = _options(record)
        mine, frames = scheduler.clients[client], buffers[1:]
        if record["queue"] == "mux":
            request = m.Request([self._engine_for(record)], task)
            scheduler.requests_submitted(mine, [request], frames, now)
            recorder.addressed(client, [request], frames, now)
        else:
            scheduler.tasks_submitted(mine, [task], frames, now)
            recorder.submitted(client, [task], frames, now)
        name = f"{mine.session}_{number & ((1 << CLIENT_SHIFT) - 1)}"
        if not recorder.keeper.only_ended or recorder.task_id(record["msg_id"]) not in scheduler.book.tasks:
            recorder.change({record["msg_id"]: {"resubmitted": name}})
        return name

    def _engine_for(self, record: Record) -> int:
        """The same engine; or, where it is gone, the one that has its number now."""
        for engine in self._scheduler.engines.values():
            if engine.info.uuid == record["engine_uuid"]:
                return engine.info.id
        return record["engine_id"] if record["engine_id"] is not None else 0

    # --- forgetting -----------------------------------------------------------------------------------------------

    def _purge(self, client: int, number: int, arguments: Mapping[str, Any], _now: float) -> None:
        everything = arguments.get("ids") == "all"
        ids = [] if everything else _names(arguments, "ids")
        engines = _names(arguments, "engines")
        pending, _ = self._split(ids)
        if pending:
            raise ValueError(
                f"{_some(list(pending))} {'has' if len(pending) == 1 else 'have'} not ended. Wait for the result, or "
                "abort() it, before its record is purged."
            )
        ended = {"completed": {"$ne": None}}
        queries = [Query(ended)] if everything else []
        if engines:
            queries.append(Query({**ended, "engine_uuid": {"$in": engines}}))
        named = Query({"msg_id": {"$in": ids}})

        def question(store: TaskStore) -> int:
            if ids:
                there = {record["msg_id"]: None for record in store.find_records(named, ("msg_id",))}
                self._check_there(ids, there)
            return sum(store.drop_records(query) for query in ([named] if ids else []) + queries)

        self._ask_store(client, number, "purge_results", question, lambda count: count, for_good=True)

    # --- helpers --------------------------------------------------------------------------------------------------

    def _split(self, ids: Iterable[str]) -> tuple[dict[str, int], list[str]]:
        """Those that have not ended, with their ids, and the others."""
        pending: dict[str, int] = {}
        rest = []
        for msg_id in ids:
            task = self._recorder.task_id(msg_id)
            if task is not None and task in self._scheduler.book.tasks:
                pending[msg_id] = task
            else:
                rest.append(msg_id)
        return pending, rest

    def _aliases(self, arguments: Mapping[str, Any]) -> dict[str, int]:
        """The ids under which a client waits for what, by message id."""
        ids, aliases = _names(arguments, "ids"), arguments.get("as")
        if (
            not isinstance(aliases, list)
            or len(aliases) != len(ids)
            or not all(isinstance(alias, int) and 0 <= alias < 1 << 62 for alias in aliases)
        ):
            raise ValueError(f"the argument 'as' has to be a list of {len(ids)} ids, not {aliases!r}")
        return dict(zip(ids, aliases, strict=True))

    def _check_there(self, ids: Iterable[str], found: Mapping[str, object]) -> None:
        missing = [msg_id for msg_id in ids if msg_id not in found]
        if not missing:
            return
        gone = [msg_id for msg_id in missing if self._was_submitted(msg_id)]
        limits = self._recorder.keeper.limits()
        if gone:
            because = f"either it was purged, or newer ones took its place: {limits}" if limits else "it was purged"
            raise Absent(f"There is no record of {_some(gone)} any more: {because}.")
        raise Absent(f"There is no record of {_some(missing)}. hub_history() tells which there are.")

    def _was_submitted(self, msg_id: str) -> bool:
        task = self._recorder.task_id(msg_id)
        if task is None:
            return False
        client = self._scheduler.clients.get(task >> CLIENT_SHIFT)
        return client is None or client.has_used(task)


def _names(arguments: Mapping[str, Any], name: str) -> list[str]:
    ids = arguments.get(name, [])
    if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids):
        raise ValueError(f"the argument {name!r} has to be a list of strings, not {ids!r}")
    return list(dict.fromkeys(ids))


def _some(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return ", ".join(ids[:NAMED]) + more


def _facts(record: Record) -> dict[str, Any]:
    """What a client that waits for the task of another wants to know of it besides its result."""
    keys = ("submitted", "engine_id", "engine_uuid", "label", "content", "metadata", "completed", "received")
    return selected(record, keys)


def _never_ended(record: Record) -> Record:
    """The record of a task that a controller took with it when it ended."""
    words = {
        "status": "lost",
        "kind": "NoRecord",
        "ename": "NoRecord",
        "evalue": f"{record['msg_id']} had not ended when its controller did. resubmit() runs it again.",
    }
    return {**record, "result_content": words, "status": "lost"}


def _seconds(when: object) -> float:
    return when.timestamp() if isinstance(when, datetime) else 0.0


def _digest(record: Record) -> bytes:
    return bytes.fromhex((record["content"] or {}).get("function", ""))


def _options(record: Record) -> m.Options | None:
    """What a task that is run again carries: all but what it depended on, which is over."""
    kept = ("targets", "timeout", "retries", "priority", "time_limit")
    given = {key: value for key, value in (record["metadata"] or {}).items() if key in kept}
    options = m.Options(**given, label=record["label"] or "")
    return options if options != m.Options() else None
