"""What a client asks of the controller's memory: queries, results of others, repetition, purging. A part of Client."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from enginery.client.jobs import Jobs
from enginery.client.recorded import AsyncHubResult
from enginery.client.result import AsyncResult, joined

if TYPE_CHECKING:
    from enginery.client.client import Client

_NOTHING: Final = ()
#: The name of a session in what is said about them.
EXAMPLE: Final = "tuesday"


class Records(Jobs):
    """Questions about recorded requests. Thread-safe."""

    # --- looking --------------------------------------------------------------------------------------------------

    def db_query(self, query: dict[str, Any], keys: Any = None) -> list[dict[str, Any]]:
        """Records of requests, of all clients, that match a query in the manner of MongoDB.

        Args:
            query: Keys of records and conditions, all of which must hold: values (None: missing), or mappings of
                operators: ``$lt $lte $gt $gte $eq $ne $in $nin $all $mod $exists $glob``. ``"metadata.retries"`` looks
                into a nested mapping.
            keys: The keys that are wanted, besides ``msg_id``. Default: all but ``buffers`` and ``result_buffers``.

        Returns:
            A dict for each record, in the order in which they were submitted.

        Raises:
            ValueError: The query makes no sense.
            NoRecord: The controller keeps no records.
        """
        selected = keys if keys is None or isinstance(keys, str) else list(keys)
        found = self.link.ask("db_query", {"query": query, "keys": selected})
        assert isinstance(found, list), "db_query is answered by a list"
        return found

    def hub_history(self) -> list[str]:
        """Message ids of all recorded requests, of all clients, in the order in which they were submitted."""
        found = self.link.ask("hub_history")
        assert isinstance(found, list), "hub_history is answered by a list"
        return found

    def result_status(self, msg_ids: Any, status_only: bool = True) -> dict[str, Any]:
        """Which of some requests are done.

        Args:
            msg_ids: Message ids, positions in ``history``, results, or a collection of them.
            status_only: Leave out the results.

        Returns:
            ``{"pending": [...], "completed": [...]}``, and, unless ``status_only``, the results of the completed ones (or
            their exceptions) by message id.

        Raises NoRecord for requests of which nothing is known.
        """
        ids = self._names_of(msg_ids)
        results = {msg_id: found for msg_id in ids if (found := self._local(msg_id)) is not None}
        asked = [msg_id for msg_id in ids if msg_id not in results]
        done = {msg_id: "completed" if result.done() else "pending" for msg_id, result in results.items()}
        if asked:
            answer = self.link.ask("task_status", {"ids": asked})
            assert isinstance(answer, dict), "statuses by message id"
            done |= answer
        status: dict[str, Any] = {
            state: [msg_id for msg_id in ids if done[msg_id] == state] for state in ("pending", "completed")
        }
        if not status_only:
            for msg_id in status["completed"]:
                result = results.get(msg_id) or self._recorded([msg_id], scalar=True)
                error = result.exception()
                status[msg_id] = result.get() if error is None else error
        return status

    def get_result(self, ids: Any = None, block: bool | None = None, owner: bool = True) -> Any:
        """The AsyncResult of some requests: of this client, of others, or of earlier sessions.

        What this process still has is taken from here. For the rest the controller is asked, which also tells what
        becomes of requests that have not ended.

        Args:
            ids: A message id, a position in ``history``, a result, or a list of them. Default: the latest.
            block: Return the value instead.
            owner: Kept for programs that pass it.

        Returns:
            The AsyncResult (an AsyncHubResult, if the controller had to be asked), or the value.

        Raises:
            NoRecord: Nobody has the result any more (a KeyError).
            IndexError: There is no such position.
        """
        if ids is None:
            ids = -1
        scalar = isinstance(ids, str | int)
        wanted = self._flat(ids)
        local = [each if isinstance(each, AsyncResult) else self._local(each) for each in wanted]
        missing = [each for each, found in zip(wanted, local, strict=True) if found is None]
        if not wanted:
            raise ValueError("get_result() needs at least one request; this list is empty.")
        recorded = self._recorded(list(dict.fromkeys(missing)), scalar=scalar) if missing else None
        is_whole = recorded is not None and len(missing) == len(wanted)
        result: AsyncResult = recorded if recorded is not None and is_whole else _together(wanted, local, recorded)
        result.owner = owner
        return result.get() if (self.block if block is None else block) else result

    def _recorded(self, texts: list[str], *, scalar: bool = False) -> AsyncHubResult:
        """The results of requests that the controller knows."""
        count = len(texts)
        first = self.link.take_ids(count)
        result = AsyncHubResult._of(self._as_client(), texts, first, scalar=scalar)
        result._take_facts(self._follow(texts, first, [result] * count))
        return result

    def _follow(self, texts: list[str], first: int, results: list[AsyncHubResult]) -> dict[str, dict[str, Any]]:
        """Have what becomes of requests go to results, under ids from ``first`` on. Returns what the controller knows."""
        aliases = range(first, first + len(texts))
        for alias, result in zip(aliases, results, strict=True):
            self.link.expect([alias], result)
        self.link.follow(dict(zip(aliases, texts, strict=True)))
        try:
            facts = self.link.ask("follow", {"ids": texts, "as": list(aliases)})
        except BaseException:
            self.link.expect_no_more(aliases)
            raise
        assert isinstance(facts, dict), "facts by message id"
        return facts

    def attach(self) -> list[AsyncHubResult]:
        """The requests of earlier clients of this session (``Client(session=NAME)``), in the order they were submitted.

        Whether they have ended or not: one AsyncHubResult each, with output and times. The controller knows what has not
        ended, and what its task store keeps of the rest.

        Raises:
            ValueError: This client's session has no name.
            NoRecord: The controller keeps no records.
        """
        name, _, own = self.session.rpartition(".")
        if not name:
            raise ValueError(
                f'This session has no name by which it could be found again. Use Client(session="{EXAMPLE}").'
            )
        found = self.db_query({"client_uuid": {"$glob": f"{name}.*"}}, keys=["client_uuid"])
        earlier = [each for each in found if each["client_uuid"].rpartition(".")[::2] != (name, own)]
        texts = [each["msg_id"] for each in earlier if each["client_uuid"].rpartition(".")[0] == name]
        if not texts:
            return []
        first, client = self.link.take_ids(len(texts)), self._as_client()
        results = [AsyncHubResult._of(client, [text], first + at, scalar=True) for at, text in enumerate(texts)]
        facts = self._follow(texts, first, results)
        for result in results:
            result._take_facts(facts)
        return results

    # --- running again --------------------------------------------------------------------------------------------

    def resubmit(self, ids: Any = None, metadata: Any = None, block: bool | None = None) -> Any:
        """Run recorded requests once more: same function, same arguments, as requests of this client.

        Args:
            ids: A message id, a position in ``history``, a result, or a list of them. Default: the latest. They may be
                of other clients and earlier sessions, and need not have ended.
            metadata: Kept for programs that pass it.
            block: Wait, and return the value.

        Returns:
            An AsyncHubResult, or the value.

        Raises:
            NoRecord: Nothing is known of one of them, or its arguments were not kept. Then none is run.
        """
        del metadata
        texts = self._names_of(-1 if ids is None else ids)
        if not texts:
            raise ValueError("resubmit() needs at least one request; this list is empty.")
        scalar = isinstance(ids, str | int | None) or (isinstance(ids, AsyncResult) and ids._scalar)
        first = self.link.take_ids(len(texts))
        result = AsyncHubResult(self._as_client(), first, "resubmit", None, None if scalar else len(texts))
        fresh = range(first, first + len(texts))
        self.link.expect(fresh, result)
        try:
            facts = self.link.ask("resubmit", {"ids": texts, "as": list(fresh)})
        except BaseException:
            self.link.expect_no_more(fresh)
            raise
        assert isinstance(facts, dict), "facts by message id"
        result._take_facts(facts)
        self.remember(result, 0)
        return result.get() if (self.block if block is None else block) else result

    # --- forgetting -----------------------------------------------------------------------------------------------

    def purge_results(self, jobs: Any = _NOTHING, targets: Any = _NOTHING) -> None:
        """Forget results, here and in the controller's memory. See ``purge_local_results`` and ``purge_hub_results``."""
        self.purge_local_results(jobs, targets)
        self.purge_hub_results(jobs, targets)

    def purge_local_results(self, jobs: Any = _NOTHING, targets: Any = _NOTHING) -> None:
        """Forget results in this process: ``history`` and ``get_result`` find them no more. AsyncResults stay as they are.

        Args:
            jobs: ``"all"``, message ids, results, or collections of them.
            targets: And what these engines replied.

        Raises:
            RuntimeError: One of them has no result yet.
            ValueError: Nothing was named.
        """
        _check_named(jobs, targets)
        if _is_all(jobs):
            self._check_ended(self.link.outstanding_ids())
            self.log.clear()
            return
        ids = []
        for name in self._names_of(jobs):
            try:
                ids.append(self.task_id(name))
            except KeyError:
                continue  # of another client, of which there is nothing here
        engines = self._engines_named(targets)
        for result in self.log.results() if engines else ():
            ids += [result._id_at(at) for at in range(result._size()) if result.reply_engine(at) in engines]
        self._check_ended(ids)
        self.log.forget(ids)

    def _check_ended(self, ids: Iterable[int]) -> None:
        pending = [each for each in ids if self.link.is_outstanding(each)]
        if pending:
            raise RuntimeError(
                f"{len(pending)} of these requests have no result yet, so there is nothing to purge: wait() for them, or "
                "abort() them."
            )

    def purge_hub_results(self, jobs: Any = _NOTHING, targets: Any = _NOTHING) -> None:
        """Forget recorded requests in the controller's memory, or its database.

        Args:
            jobs: ``"all"`` (that have ended), message ids, results, or collections of them.
            targets: And what these engines replied.

        Raises:
            NoRecord: There is no record of one of them, or of none (``--nodb``).
            ValueError: One of them has not ended, or nothing was named.
        """
        _check_named(jobs, targets)
        ids: Any = "all" if _is_all(jobs) else self._names_of(jobs)
        known = self.link.engines
        engines = [known[each].uuid for each in sorted(self._engines_named(targets))]
        self.link.ask("purge", {"ids": ids, "engines": engines})

    def purge_everything(self) -> None:
        """Forget all results, here and in the controller's memory. Raises RuntimeError if one has not come yet."""
        self.purge_local_results("all")
        self.purge_hub_results("all")

    def _engines_named(self, targets: Any) -> set[int]:
        is_none = targets is None or (isinstance(targets, list | tuple) and not targets)
        return set() if is_none else set(self.resolve(targets)[0])

    # --- helpers --------------------------------------------------------------------------------------------------

    def _as_client(self) -> Client:
        return self  # type: ignore[return-value]  # it is one: this is a part of it

    def _flat(self, jobs: Any) -> list[Any]:
        """Message ids and results for whatever stands for them."""
        if isinstance(jobs, str | AsyncResult):
            return [jobs]
        if isinstance(jobs, int):
            return [self._at(jobs)]
        if isinstance(jobs, Iterable):
            return [each for job in jobs for each in self._flat(job)]
        raise TypeError(f"Requests are named by message ids, positions in the history, or results, not by {jobs!r}.")

    def _names_of(self, jobs: Any) -> list[str]:
        """Message ids for whatever stands for them, each once."""
        names = [name for job in self._flat(jobs) for name in ([job] if isinstance(job, str) else job.msg_ids)]
        return list(dict.fromkeys(names))

    def _local(self, msg_id: str) -> AsyncResult | None:
        try:
            return self.log.find(self.task_id(msg_id))
        except KeyError:
            return None


def _together(wanted: list[Any], local: list[AsyncResult | None], recorded: AsyncHubResult | None) -> AsyncResult:
    """One result for requests of which some are known here and the others to the controller."""
    if recorded is None:
        found = [each for each in local if each is not None]
        return found[0] if len(found) == 1 else AsyncResult.join(*found)
    places = {text: at for at, text in enumerate(recorded._texts)}
    others = recorded.split()
    parts = [each if each is not None else others[places[text]] for text, each in zip(wanted, local, strict=True)]
    return joined(AsyncHubResult, parts)


def _is_all(jobs: Any) -> bool:
    return isinstance(jobs, str) and jobs == "all"


def _check_named(jobs: Any, targets: Any) -> None:
    empty = [given is None or (isinstance(given, list | tuple | set) and not given) for given in (jobs, targets)]
    if all(empty):
        raise ValueError('Name what to purge: jobs (message ids, results, or "all") or targets.')
