"""Answers about the scheduler's state, in plain values: status, statistics, a task's story. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enginery.core.tasks import State

if TYPE_CHECKING:
    from enginery.core.scheduler import Scheduler


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
        status["unassigned"] = len(waiting) + sum(lane.live for lane in lanes)
    return status


def statistics(scheduler: Scheduler) -> dict[str, object]:
    """Counts since the start, and how much there is now."""
    scheduler.settle()
    return {
        **scheduler.counts,
        "engines": len(scheduler.engines),
        "clients": len(scheduler.clients),
        "unfinished": len(scheduler.book.tasks),
        "ready": scheduler.dealer.general.live + sum(lane.live for lane in scheduler.dealer.lanes.values()),
        "assigned": sum(len(e.balanced) + len(e.direct) for e in scheduler.engines.values()),
        "functions": len(scheduler.dealer.bodies),
        "scheme": scheduler.dealer.scheme_name,
        "hwm": scheduler.dealer.hwm,
    }


def why(scheduler: Scheduler, task: int) -> str:
    """One sentence on why a task has not finished."""
    scheduler.settle()
    if task not in scheduler.book.tasks:
        return "It is not with the controller: it has ended, or never arrived."
    return _reason(scheduler, task) + _attempts(scheduler, task)


def _reason(scheduler: Scheduler, task: int) -> str:
    state, engine = scheduler.locate(task)
    if state is State.WAITING:
        ids = scheduler.admission.awaited_by(task)
        shown = ", ".join(str(other) for other in ids[:5]) + (", …" if ids[5:] else "")
        return f"It waits for {len(ids)} unfinished tasks ({shown})."
    if engine is not None:
        held = engine.direct if task in engine.direct else engine.balanced
        place = next(at for at, other in enumerate(held) if other == task)
        where = f"engine {engine.info.id} (pid {engine.info.pid} on {engine.info.host})"
        return f"It is next or running on {where}." if not place else f"It is number {place + 1} at {where}."
    if not scheduler.engines:
        return "It is ready, but no engines are registered."
    place = scheduler.dealer.ahead_of(task)
    return f"It is ready, number {place + 1} in its client's queue; all {len(scheduler.engines)} engines are busy."


def _attempts(scheduler: Scheduler, task: int) -> str:
    rare = scheduler.book.rare.get(task)
    return " Tried before: " + "; ".join(rare.attempts) + "." if rare is not None and rare.attempts else ""
