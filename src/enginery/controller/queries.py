"""Answers to the questions clients may ask: one function each, found by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enginery.core import questions
from enginery.wire.messages import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from enginery.core.scheduler import Scheduler
    from enginery.wire.messages import Query


def _queue_status(scheduler: Scheduler, arguments: Mapping[str, object]) -> object:
    targets = arguments.get("targets")
    wanted = [int(str(target)) for target in targets] if isinstance(targets, list) else None
    return questions.queue_status(scheduler, wanted, verbose=bool(arguments.get("verbose")))


def _statistics(scheduler: Scheduler, _arguments: Mapping[str, object]) -> object:
    return questions.statistics(scheduler)


def _why(scheduler: Scheduler, arguments: Mapping[str, object]) -> object:
    return questions.why(scheduler, int(str(arguments.get("task", -1))))


QUERIES: dict[str, Callable[[Scheduler, Mapping[str, object]], object]] = {
    "queue_status": _queue_status,
    "statistics": _statistics,
    "why": _why,
}


def answer(scheduler: Scheduler, query: Query) -> Answer:
    """Answer a question. What is wrong with it is said in the answer."""
    ask = QUERIES.get(query.name)
    if ask is None:
        return Answer(query.number, error=f"No question is named {query.name!r}; there are {', '.join(QUERIES)}.")
    try:
        return Answer(query.number, ask(scheduler, query.arguments))
    except ValueError as error:
        return Answer(query.number, error=f"{query.name}: {error}")
