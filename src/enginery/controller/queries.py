"""Answers to the questions clients may ask: one function each, found by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enginery.core import questions
from enginery.wire.messages import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from enginery.core.scheduler import Scheduler
    from enginery.wire.messages import Query

#: Tasks looked at for one question: it takes the controller's time.
MOST: Final = 100


def _queue_status(scheduler: Scheduler, arguments: Mapping[str, object], _now: float) -> object:
    targets = arguments.get("targets")
    wanted = [int(str(target)) for target in targets] if isinstance(targets, list) else None
    return questions.queue_status(scheduler, wanted, verbose=bool(arguments.get("verbose")))


def _sessions(scheduler: Scheduler, _arguments: Mapping[str, object], _now: float) -> object:
    return {str(client.number): client.session for client in scheduler.clients.values()}


def _statistics(scheduler: Scheduler, _arguments: Mapping[str, object], _now: float) -> object:
    return questions.statistics(scheduler)


def _crashes(scheduler: Scheduler, _arguments: Mapping[str, object], _now: float) -> object:
    return questions.crashes(scheduler)


def _why(scheduler: Scheduler, arguments: Mapping[str, object], now: float) -> object:
    return [questions.why(scheduler, task, now) for task in _tasks(arguments)]


def _story(scheduler: Scheduler, arguments: Mapping[str, object], now: float) -> object:
    return [questions.story(scheduler, task, now) for task in _tasks(arguments)]


def _unknown(scheduler: Scheduler, arguments: Mapping[str, object], _now: float) -> object:
    scheduler.settle()
    tasks = arguments.get("tasks")
    return [task for task in tasks if task not in scheduler.book.tasks] if isinstance(tasks, list) else []


def _tasks(arguments: Mapping[str, object]) -> list[int]:
    tasks = arguments.get("tasks")
    if not isinstance(tasks, list) or not all(isinstance(task, int) for task in tasks):
        msg = f"the argument 'tasks' has to be a list of task ids, not {tasks!r}"
        raise ValueError(msg)
    return tasks[:MOST]


def ask_where(scheduler: Scheduler, client: int, query: Query, now: float) -> Answer | None:
    """Which engines have some names, or kept values. None if that has to be found out: then the scheduler answers."""
    names, values = query.arguments.get("names"), query.arguments.get("values")
    if isinstance(values, list) and all(isinstance(value, int) for value in values):
        return Answer(query.number, [scheduler.places.where(value) for value in values[:MOST]])
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return Answer(query.number, error=f"where: 'names' has to be a list of names, not {names!r}")
    scheduler.places.ask(client, query.number, list(dict.fromkeys(names[:MOST])), now)
    return None


QUERIES: dict[str, Callable[[Scheduler, Mapping[str, object], float], object]] = {
    "crashes": _crashes,
    "queue_status": _queue_status,
    "sessions": _sessions,
    "statistics": _statistics,
    "story": _story,
    "unknown": _unknown,
    "why": _why,
}


def answer(scheduler: Scheduler, query: Query, now: float) -> Answer:
    """Answer a question. What is wrong with it is said in the answer."""
    ask = QUERIES.get(query.name)
    if ask is None:
        return Answer(query.number, error=f"No question is named {query.name!r}; there are {', '.join(QUERIES)}.")
    try:
        return Answer(query.number, ask(scheduler, query.arguments, now))
    except ValueError as error:
        return Answer(query.number, error=f"{query.name}: {error}")
