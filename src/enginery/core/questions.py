"""Answers about the scheduler's state, in plain values: status, statistics, why a task is not done, its story. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enginery.core.tasks import State, name_of
from enginery.wire.messages import CLIENT_SHIFT

if TYPE_CHECKING:
    from collections.abc import Collection

    from enginery.core.engines import EngineRecord
    from enginery.core.scheduler import Scheduler
    from enginery.core.tasks import Rare

#: How many tasks or engines a sentence names.
NAMED: Final = 5
#: Seconds below which it is not said for how long something has been so.
WORTH_SAYING: Final = 0.5


def queue_status(scheduler: Scheduler, targets: list[int] | None, *, verbose: bool) -> dict[str, object]:
    """What each engine holds, and what no engine has yet: counts, or ids when ``verbose``."""
    scheduler.settle()
    status: dict[str, object] = {}
    for number, engine in sorted(scheduler.engines.items()):
        if targets is None or number in targets:
            status[str(number)] = {
                "queue": list(engine.direct) if verbose else len(engine.direct),
                "tasks": list(engine.balanced) if verbose else len(engine.balanced),
                "completed": engine.completed,
            }
    lanes = [scheduler.dealer.general, *scheduler.dealer.lanes.values()]
    waiting = scheduler.book.waiting
    if verbose:
        status["unassigned"] = [*waiting, *(task for lane in lanes for task in lane.ids())]
    else:
        status["unassigned"] = len(waiting) + sum(lane.live + lane.aside for lane in lanes)
    return status


def statistics(scheduler: Scheduler) -> dict[str, object]:
    """Counts since the start, and how much there is now."""
    scheduler.settle()
    return {
        **scheduler.counts,
        "engines": len(scheduler.engines),
        "clients": len(scheduler.clients),
        "unfinished": len(scheduler.book.tasks),
        "waiting": len(scheduler.book.waiting),
        "ready": sum(lane.live + lane.aside for lane in (scheduler.dealer.general, *scheduler.dealer.lanes.values())),
        "held_back": len(scheduler.dealer.held_back),
        "assigned": sum(len(e.balanced) + len(e.direct) for e in scheduler.engines.values()),
        "paused": sum(len(e.paused) for e in scheduler.engines.values()),
        "functions": len(scheduler.dealer.bodies),
        "scheme": scheduler.dealer.scheme_name,
        "hwm": scheduler.dealer.hwm,
    }


def crashes(scheduler: Scheduler) -> list[dict[str, object]]:
    """The newest crashes of engines, the oldest first."""
    return [{name: getattr(each, name) for name in each.__struct_fields__} for each in scheduler.crashes]


def story(scheduler: Scheduler, task: int, now: float) -> list[str]:
    """What happened to a task, the earliest first; the last line is how it stands, or how it ended."""
    scheduler.settle()
    if task in scheduler.book.tasks:
        rare = scheduler.book.rare.get(task)
        lines = [f"tried on {attempt}" for attempt in rare.attempts] if rare is not None else []
        return [*lines, _reason(scheduler, task, now)]
    remembered = scheduler.stories.of(task)
    if remembered is not None:
        return list(remembered)
    client = scheduler.clients.get(task >> CLIENT_SHIFT)
    if client is None or not client.has_used(task):
        return ["never came to the controller"]
    ending = client.ledger.read(task, client.highest)
    if ending.engine >= 0:
        return [f"{'ended well' if ending.ok else 'failed, or was interrupted,'} on engine {ending.engine}"]
    return ["ended well (where is not remembered)" if ending.ok else "was taken back, or failed long ago"]


def why(scheduler: Scheduler, task: int, now: float) -> str:
    """One sentence on why a task has not finished, and one more if it was tried before."""
    scheduler.settle()
    if task not in scheduler.book.tasks:
        client = scheduler.clients.get(task >> CLIENT_SHIFT)
        if client is not None and client.has_used(task):
            return "It has ended; its result is on the way to its client."
        return "It has not come to the controller."
    return _reason(scheduler, task, now) + _attempts(scheduler.book.rare.get(task))


def _reason(scheduler: Scheduler, task: int, now: float) -> str:
    state, engine = scheduler.locate(task)
    if state is State.WAITING:
        return _waits_for(scheduler, task)
    if engine is not None:
        return _stands_at(scheduler, engine, task, now)
    return _is_ready(scheduler, task)


def _waits_for(scheduler: Scheduler, task: int) -> str:
    ids = scheduler.admission.awaited_by(task)
    names = scheduler.places.awaits(task)
    if names and not ids:
        return f"It waits for {', '.join(map(repr, names[:NAMED]))}, which no engine is known to have yet."
    parts = []
    for other in ids[:NAMED]:
        state, engine = scheduler.locate(other)
        place = f"at engine {engine.info.id}" if engine is not None else state.name.lower()
        parts.append(f"{name_of(other, task)} ({place})")
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return f"It waits for {len(ids)} unfinished task{'s' * (len(ids) != 1)}: {', '.join(parts)}{more}."


def _stands_at(scheduler: Scheduler, engine: EngineRecord, task: int, now: float) -> str:
    mine, others = list(engine.direct), list(engine.balanced)
    if engine.paused:
        mine = [other for other in mine if other not in engine.paused or other == task]
    if task in engine.balanced:
        mine, others = others, mine
    ahead = mine.index(task)
    where = f"engine {engine.info.id} (pid {engine.info.pid} on {engine.info.host})"
    rare = scheduler.book.rare.get(task)
    stopping = " It was asked to stop." if rare is not None and rare.stopping else ""
    seconds = now - engine.progressed
    if task in engine.paused:
        return f"It waits at {where}, but {_unread(scheduler)}{stopping}"
    if ahead:
        before = f"{ahead} other task{'s' * (ahead != 1)}"
        return f"It is queued behind {before} at {where}, which last ended one {seconds:.1f} s ago.{stopping}"
    if others:  # of the two that stand first, the controller cannot tell which one runs
        return f"It runs, or is next, on {where}, which last ended a task {seconds:.1f} s ago.{stopping}"
    since = f", for {seconds:.1f} s" if seconds >= WORTH_SAYING else ""
    return f"It runs on {where}{since}.{stopping}"


def _is_ready(scheduler: Scheduler, task: int) -> str:
    if not scheduler.engines:
        return "It is ready to run, but no engines are registered."
    if task >> CLIENT_SHIFT in scheduler.dealer.held_back:
        return f"It is ready to run, but {_unread(scheduler)}"
    rare = scheduler.book.rare.get(task)
    lane = rare.lane if rare is not None else None
    place = scheduler.dealer.ahead_of(task) + 1
    if lane is None:
        busy = f"all {len(scheduler.engines)} engines are busy"
        return f"It is ready to run, number {place} in its client's queue; {busy}."
    assert rare is not None, "only tasks with a side record are restricted"
    here = [number for number in lane if number in scheduler.engines]
    return (
        f"It is ready to run, number {place} in the queue for {_engines(here)}, "
        f"which {'is' if len(here) == 1 else 'are'} busy{_restrictions(scheduler, rare)}."
    )


def _unread(scheduler: Scheduler) -> str:
    most = scheduler.readers.most >> 20
    return f"its client has not read more than {most} MB of results: nothing of its is begun until it has read half of them."


def _restrictions(scheduler: Scheduler, rare: Rare) -> str:
    """Why other engines may not run it."""
    parts = []
    if rare.targets is not None:
        absent = rare.targets - scheduler.engines.keys()
        missing = f" ({_engines(absent)} not registered)" if absent else ""
        parts.append(f"its targets are {_engines(rare.targets)}{missing}")
    if rare.place is not None:
        parts.append(f"it follows tasks that ran on {_engines(rare.place)}")
    if rare.excluded:
        parts.append(f"{_engines(rare.excluded)} failed it")
    if rare.unsuited:
        parts.append(f"{_engines(rare.unsuited)} did not meet its requirement")
    return "".join(f"; {part}" for part in parts)


def _engines(numbers: Collection[int]) -> str:
    shown = sorted(numbers)[:NAMED]
    more = " …" if len(numbers) > NAMED else ""
    return f"engine{'s' * (len(numbers) != 1)} {', '.join(map(str, shown))}{more}"


def _attempts(rare: Rare | None) -> str:
    return f" Tried before: {'; '.join(rare.attempts)}." if rare is not None and rare.attempts else ""
