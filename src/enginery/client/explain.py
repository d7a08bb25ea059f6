"""Why requests are not done: what this process knows, and what the controller says when it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from enginery.client.metadata import message_id
from enginery.errors import ConnectionLost

if TYPE_CHECKING:
    from enginery.client.jobs import Jobs
    from enginery.client.result import AsyncResult

#: Requests that are explained one by one.
MOST: Final = 10
#: Seconds that the controller may take to answer.
PATIENCE: Final = 2.0


def why(result: AsyncResult) -> str:
    """Why a result is not there: one sentence for each request that has not ended, up to ``MOST`` of them."""
    missing = result._open_ids()
    if result._ended is not None or not missing:
        return "It is done."
    sentences = reasons(result.client, missing[:MOST])
    if result._size() == 1:
        return sentences[0]
    session = result.client.session
    lines = [f"{len(missing)} of {result._size()} requests are not done."]
    lines += [f"{message_id(session, task)}: {sentence}" for task, sentence in zip(missing, sentences, strict=False)]
    if len(missing) > MOST:
        lines.append(f"… and {len(missing) - MOST} more.")
    return "\n".join(lines)


def reasons(client: Jobs, tasks: Sequence[int], patience: float = PATIENCE) -> list[str]:
    """A sentence for each of some requests of this client that have not ended, in their order."""
    link = client.link
    if trouble := link.trouble():
        return [trouble for _ in tasks]
    unsent = link.unsent(tasks)
    asked = [task for task in tasks if task not in unsent]
    answers: dict[int, str] = {}
    if asked:
        try:
            said = link.ask("why", {"tasks": asked}, timeout=patience)
            answers = dict(zip(asked, said, strict=False)) if isinstance(said, list) else {}
        except TimeoutError:
            answers = dict.fromkeys(asked, _silent(client, patience))
        except ConnectionLost as lost:
            answers = dict.fromkeys(asked, str(lost))
    for task in unsent:
        answers[task] = "It has not left this process: the controller does not take more at the moment."
    return [answers.get(task, "The controller did not say.") for task in tasks]


def in_short(client: Jobs, task: int) -> str:
    """For one line that is written while somebody waits: why the first of the requests is not done."""
    return reasons(client, [task], patience=PATIENCE / 2)[0]


def _silent(client: Jobs, patience: float) -> str:
    return (
        f"The controller (pid {client.link.info.pid}) does not answer: it was asked {patience:g} s ago, and last heard "
        f"{client.link.silence():.0f} s ago."
    )
