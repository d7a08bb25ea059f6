"""One job of a batch system: what the system says of it, until it is over."""

from __future__ import annotations

import contextlib
import re
import time
from typing import TYPE_CHECKING, Final

from enginery.cluster.launchers import batch_states, batch_systems
from enginery.errors import LauncherError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from logging import Logger

    from enginery.cluster.launchers.batch_commands import Answer
    from enginery.cluster.launchers.batch_states import Part, Phase
    from enginery.cluster.launchers.batch_systems import BatchSystem, Command

#: A job that has never been seen counts as gone only after so many seconds: some systems list it a little late.
GRACE: Final = 10.0
#: Phases in which a job waits for something that can be told.
WAITING: Final[frozenset[Phase]] = frozenset({"pending", "held", "stuck"})


class Job:
    """A job that was submitted.

    ``ask`` runs a command of the system. ``ended`` is called once with how the job's parts ended, none if nobody knows.
    It counts as over when the system says so or does not know it any more, never because the system does not answer.
    ``look`` is called by one thread at a time; the rest by any.
    """

    def __init__(
        self,
        system: BatchSystem,
        id: str,
        ask: Callable[[Sequence[str]], Answer],
        ended: Callable[[list[Part]], None],
        log: Logger,
    ) -> None:
        self.system = system
        self.id = id
        self.parts: list[Part] = []
        self.is_over = False
        self.is_cancelled = False
        self._ask = ask
        self._ended = ended
        self._log = log
        self._silence = ""  #: why the system did not answer, if so
        self._missed = 0.0  #: since when it has not been in the queue, in monotonic seconds; 0: it is there
        self._was_seen = False

    def status(self) -> str:
        """What the job does now, in one phrase."""
        if self._silence:
            return f"{self.system.name} does not say what job {self.id} does: {self._silence}"
        return batch_states.describe(self.id, self.parts) if self.parts else f"job {self.id} is submitted"

    def adopt(self) -> bool:
        """Look at a job that somebody else submitted; whether it may still be there."""
        self._was_seen = True
        try:
            self.parts = self.query()
        except LauncherError as error:
            self._silence = str(error)
            return True
        return any(part.phase not in batch_states.OVER for part in self.parts)

    def look(self) -> bool:
        """Look at the job, and tell if it has ended; whether it has."""
        if self.is_over:
            return True
        try:
            parts = self.query()
        except LauncherError as error:
            self._silence = str(error)
            return False
        self._silence = ""
        if parts:
            self._tell_news(parts)
            self._was_seen, self._missed, self.parts = True, 0.0, parts
            if all(part.phase in batch_states.OVER for part in parts):
                self._end(self._with_codes(parts))
        elif (ended := self._parts_of_the_gone()) is not None:
            self._end(ended)
        return self.is_over

    def query(self) -> list[Part]:
        """What the system says of the job now; empty if it is not in the queue. Raises LauncherError if it says nothing."""
        failures = []
        for command in self.system.query:
            answer = self._ask(self._about(command))
            if answer.code == 0:
                try:
                    return self._with_reasons(self.system.read(answer.text, self.id))
                except ValueError as error:
                    failures.append(f"`{command[0]}` said what cannot be read ({error}): {answer.all[:200]}")
            elif self.system.gone and re.search(self.system.gone, answer.all):
                return []
            else:
                failures.append(f"`{command[0]}` ended with {answer.code}: {answer.all}")
        raise LauncherError("; ".join(failures))

    def cancel(self, command: Sequence[str]) -> None:
        """Remove the job from the queue, without waiting. Raises LauncherError if the command cannot be run."""
        self.is_cancelled = True
        answer = self._ask(command)
        if answer.code:
            # It may just be that the job has ended meanwhile; the next look tells.
            self._log.debug("`%s` ended with %s: %s", " ".join(command), answer.code, answer.all)

    def _about(self, command: Command) -> list[str]:
        return [each.replace(batch_systems.JOB, self.id) for each in command]

    def _with_reasons(self, parts: list[Part]) -> list[Part]:
        """``parts`` with the reason why they wait, of a system that tells it only when it is asked for it."""
        if not self.system.reason or all(part.phase not in WAITING for part in parts):
            return parts
        answer = self._ask(self._about(self.system.reason))
        reason = self.system.read_reason(answer.text) if answer.code == 0 else ""
        return [batch_states.with_reason(part, reason) if part.phase in WAITING else part for part in parts]

    def _with_codes(self, parts: list[Part]) -> list[Part]:
        """``parts``, which are over, with their exit codes, of a system that tells them only when it is asked."""
        if not self.system.end or any(part.code is not None or part.phase == "stuck" for part in parts):
            return parts
        return self._ask_end() or parts

    def _ask_end(self) -> list[Part]:
        if not self.system.end:
            return []
        with contextlib.suppress(LauncherError):
            answer = self._ask(self._about(self.system.end))
            return self.system.read_end(answer.text) if answer.code == 0 else []
        return []

    def _parts_of_the_gone(self) -> list[Part] | None:
        """How a job ended that is not in the queue any more; None if it is too early to say that it ended."""
        now = time.monotonic()
        self._missed = self._missed or now
        parts = self._ask_end()
        if parts or self.is_cancelled:
            return parts
        patience = self.system.end_patience if self._was_seen else max(GRACE, self.system.end_patience)
        return None if now - self._missed < patience else []

    def _tell_news(self, parts: list[Part]) -> None:
        """Log which parts failed while others go on; the end of all is told by whoever started them."""
        if all(part.phase in batch_states.OVER for part in parts):
            return
        before = {part.id: part.phase for part in self.parts}
        failed = [part for part in parts if part.phase in {"failed", "stuck"} and before.get(part.id) != part.phase]
        if failed and not self.is_cancelled:
            self._log.warning("%s", batch_states.describe(self.id, failed))

    def _end(self, parts: list[Part]) -> None:
        self.is_over = True
        self._ended(parts)
