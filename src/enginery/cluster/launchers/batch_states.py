"""What batch systems say of a job, read into one form, and that form in words. No I/O."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

#: Where a job is on its way. Somebody meant a ``held`` one to wait; a ``stuck`` one failed, and waits to be removed.
Phase = Literal["pending", "held", "running", "stuck", "ended", "failed"]
OVER: Final[frozenset[Phase]] = frozenset({"stuck", "ended", "failed"})
#: Reasons that say nothing.
SAYS_NOTHING: Final = frozenset({"", "None", "(null)", "undefined", "N/A"})
#: An exit status above it stands for a signal, as in a shell.
SIGNALLED: Final = 128
#: Exit codes of PBS above it stand for signals.
PBS_SIGNALLED: Final = 256


@dataclass(frozen=True, slots=True)
class Part:
    """A job, or one task of an array of them."""

    id: str
    phase: Phase
    word: str  #: the system's own word for its state
    reason: str = ""
    code: int | None = None  #: exit code as of ``subprocess``: negative for a signal


def describe(job_id: str, parts: Iterable[Part]) -> str:
    """One phrase: ``job 4711 is PENDING: Resources``, or ``job 4711: 3 RUNNING, 1 PENDING (Resources)``.

    Where parts in one state have different reasons, the most frequent stands for all.
    """
    reasons: dict[str, Counter[str]] = {}
    for part in parts:
        told = ", ".join(filter(None, (part.reason, _code_in_words(part.code))))
        reasons.setdefault(part.word, Counter())[told] += 1
    if not reasons:
        return f"job {job_id} is not in the queue"
    usual = {word: counted.most_common(1)[0][0] for word, counted in reasons.items()}
    if len(reasons) == 1:
        ((word, reason),) = usual.items()
        return f"job {job_id} is {word}" + (f": {reason}" if reason else "")
    counts = Counter({word: counted.total() for word, counted in reasons.items()})
    return f"job {job_id}: " + ", ".join(
        f"{count} {word}" + (f" ({usual[word]})" if usual[word] else "") for word, count in counts.most_common()
    )


def with_reason(part: Part, reason: str) -> Part:
    """The same part, and why it waits."""
    return replace(part, reason=part.reason or reason)


def outcome(parts: Iterable[Part]) -> int | None:
    """The exit code of a job whose parts are over: the first that is not 0; None if nobody knows any.

    A job that failed without a code, such as one that was cancelled, counts as 1.
    """
    parts = list(parts)
    codes = [part.code for part in parts if part.code is not None]
    if any(codes):
        return next(code for code in codes if code)
    if any(part.phase in {"failed", "stuck"} for part in parts):
        return 1
    return codes[0] if codes else None


def _code_in_words(code: int | None) -> str:
    if not code:
        return ""
    return f"exit code {code}" if code > 0 else f"signal {-code}"


# --- the systems, one by one --------------------------------------------------------------------------------------

#: What squeue is asked for.
SLURM_FIELDS: Final = ("JobArrayID", "State", "Reason", "exit_code")
SLURM_PENDING: Final = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "SUSPENDED", "STAGE_OUT"})
SLURM_HELD: Final = frozenset({"REQUEUE_HOLD", "SPECIAL_EXIT"})
SLURM_RUNNING: Final = frozenset({"RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STOPPED"})


def read_slurm(text: str) -> list[Part]:
    """Lines of ``squeue --Format``: id, state, reason and wait status, each closed by ``|``."""
    parts = []
    for line in text.splitlines():
        fields = [each.strip() for each in line.split("|")]
        if line.count("|") < len(SLURM_FIELDS):
            continue
        id, word, reason, status = fields[: len(SLURM_FIELDS)]
        if word in SLURM_PENDING:
            phase: Phase = "held" if reason.startswith("JobHeld") else "pending"
        elif word in SLURM_HELD:
            phase = "held"
        elif word in SLURM_RUNNING:
            phase = "running"
        else:
            phase = "ended" if word == "COMPLETED" else "failed"
        code = _from_wait_status(int(status)) if phase in OVER and status.isdigit() else None
        parts.append(Part(id, phase, word, _said(reason), code))
    return parts


def _from_wait_status(status: int) -> int:
    return -(status & 0x7F) if status & 0x7F else status >> 8


#: Letters of PBS for states: phase, and a word that people understand.
PBS_STATES: Final[Mapping[str, tuple[Phase, str]]] = {
    "Q": ("pending", "queued"),
    "W": ("pending", "waiting"),
    "T": ("pending", "in transit"),
    "M": ("pending", "moved"),
    "S": ("pending", "suspended"),
    "U": ("pending", "suspended"),
    "H": ("held", "held"),
    "B": ("running", "begun"),
    "R": ("running", "running"),
    "E": ("running", "exiting"),
    "F": ("ended", "finished"),
    "X": ("ended", "finished"),
    "C": ("ended", "completed"),
}


def read_openpbs(text: str) -> list[Part]:
    """``qstat -t -x -f -F json``. Raises ValueError for anything else."""
    jobs: dict[str, Any] = json.loads(text).get("Jobs", {})
    parts = [
        _pbs_part(id, str(job.get("job_state", "")), str(job.get("comment", "")), job.get("Exit_status"))
        for id, job in jobs.items()
    ]
    return _without_whole(parts)


def read_torque(text: str) -> list[Part]:
    """``qstat -t -f``: a block of ``key = value`` lines per job, long values continued after a tab."""
    parts = []
    for block in re.split(r"^Job Id:\s*", text, flags=re.MULTILINE)[1:]:
        id, _, rest = block.partition("\n")
        pairs = re.findall(r"^\s{4}(\w+) = (.*)$", rest.replace("\n\t", ""), re.MULTILINE)
        fields = {name.lower(): value.strip() for name, value in pairs}
        parts.append(
            _pbs_part(id.strip(), fields.get("job_state", ""), fields.get("comment", ""), fields.get("exit_status"))
        )
    return _without_whole(parts)


def _pbs_part(id: str, letter: str, comment: str, status: object) -> Part:
    phase, word = PBS_STATES.get(letter, ("running", letter))
    code = None
    if phase == "ended" and status is not None and re.fullmatch(r"-?\d+", str(status)):
        code = int(str(status))
        code = -(code - PBS_SIGNALLED) if code > PBS_SIGNALLED else code
        phase = "failed" if code else "ended"
    return Part(id, phase, word, comment if phase in {"pending", "held", "failed"} else "", code)


def _without_whole(parts: list[Part]) -> list[Part]:
    """An array's own entry tells less than those of its tasks, where they are listed."""
    tasks = [part for part in parts if "[]" not in part.id]
    return tasks or parts


#: Letters of Grid Engine for states, which come several at a time: the first that is there decides.
SGE_STATES: Final[Mapping[str, tuple[Phase, str]]] = {
    "E": ("stuck", "in error"),
    "d": ("running", "being deleted"),
    "h": ("held", "held"),
    "q": ("pending", "waiting"),
    "s": ("pending", "suspended"),
    "t": ("running", "starting"),
    "": ("running", "running"),
}


def read_sge(text: str, job_id: str) -> list[Part]:
    """``qstat -xml``: every job of the user, tasks that wait as one entry with their range."""
    parts: list[Part] = []
    for entry in re.findall(r"<job_list.*?</job_list>", text, re.DOTALL):
        fields = dict(re.findall(r"<(\w+)[^>]*>([^<]*)</\1>", entry))
        if fields.get("JB_job_number") != job_id:
            continue
        letters = fields.get("state", "")
        tasks = list(_sge_tasks(fields.get("tasks", "")))
        phase, word = next(state for letter, state in SGE_STATES.items() if letter in letters)
        parts.extend(Part(f"{job_id}.{task}" if task else job_id, phase, f"{word} ({letters})") for task in tasks)
    return parts


def _sge_tasks(text: str) -> Iterator[str]:
    """The tasks in ``3``, ``1-4:1`` or ``1,3-7:2``; one without a number if there is no array."""
    for piece in text.split(","):
        first, _, rest = piece.partition("-")
        last, _, step = rest.partition(":")
        if first.isdigit() and last.isdigit():
            yield from map(str, range(int(first), int(last) + 1, int(step or 1)))
        else:
            yield piece


def read_sge_reason(text: str) -> str:
    """Why a job waits, of ``qstat -j``: its error, or the last lines of the scheduler's information."""
    errors = re.findall(r"^error reason\s+\d+:\s*(.*)$", text, re.MULTILINE)
    if errors:
        return str(errors[0]).strip()
    _, found, information = text.partition("scheduling info:")
    lines = [line.strip() for line in information.splitlines() if line.strip()]
    return lines[-1] if found and lines and "not available" not in lines[-1] else ""


#: Numbers of failures that say no more than the exit code: none at all, and the end by a signal.
SGE_UNSAID: Final = frozenset({"0", "100"})


def read_sge_end(text: str) -> list[Part]:
    """``qacct -j``: how each task ended."""
    parts = []
    for block in re.split(r"^=+$", text, flags=re.MULTILINE):
        fields = dict(re.findall(r"^(\w+)\s+(.*?)\s*$", block, re.MULTILINE))
        if "exit_status" not in fields:
            continue
        status = int(fields["exit_status"].split()[0])
        failed = fields.get("failed", "0")
        task = fields.get("taskid", "undefined")
        id = fields.get("jobnumber", "") + (f".{task}" if task.isdigit() else "")
        code = SIGNALLED - status if status > SIGNALLED else status
        reason = "" if failed.split()[0] in SGE_UNSAID else failed.partition(":")[2].strip() or failed
        is_bad = bool(code or reason)
        parts.append(Part(id, "failed" if is_bad else "ended", "failed" if is_bad else "ended", reason, code))
    return parts


LSF_PHASES: Final[Mapping[str, Phase]] = {
    "PEND": "pending",
    "PSUSP": "held",
    "USUSP": "held",
    "SSUSP": "pending",
    "WAIT": "pending",
    "PROV": "pending",
    "DONE": "ended",
    "EXIT": "failed",
    "ZOMBI": "failed",
}


def read_lsf(text: str) -> list[Part]:
    """``bjobs -a -w``: a table with id, user and state first, and the name with its index in an array."""
    parts = []
    for line in text.splitlines():
        fields = line.split()
        if not re.match(r"\d+\s+\S+\s+[A-Z]+\s", line):
            continue
        index = re.search(r"\[(\d+)\]", line)
        id = fields[0] + (index[0] if index else "")
        code = 0 if fields[2] == "DONE" else None
        parts.append(Part(id, LSF_PHASES.get(fields[2], "running"), fields[2], "", code))
    return parts


def read_lsf_reason(text: str) -> str:
    """Why a job waits, of ``bjobs -l``."""
    joined = re.sub(r"\n {10,}", "", text)
    found = re.search(r"PENDING REASONS:\s*\n\s*(.+?);?\s*$", joined, re.MULTILINE)
    return found[1] if found else ""


def read_lsf_end(text: str) -> list[Part]:
    """How a job ended, of ``bjobs -l``: ``Exited with exit code 3``, ``Exited by signal 9``, ``Done successfully``."""
    joined = re.sub(r"\n {10,}", "", text)
    parts: list[Part] = []
    for block in re.split(r"^Job <", joined, flags=re.MULTILINE)[1:]:
        id = block.partition(">")[0]
        found = re.search(r"(Exited(?: with exit code (\d+)| by signal (\d+))?[^.;]*)|Done successfully", block)
        if found is None:
            continue
        code = -int(found[3]) if found[3] else int(found[2]) if found[2] else None if found[1] else 0
        why = re.search(r"(TERM_\w+: [^.;]*)", block)
        failed: Phase = "failed"
        phase, word = (failed, "EXIT") if found[1] else ("ended", "DONE")
        parts.append(Part(id, phase, word, why[1] if why else "", code))
    return parts


#: Numbers of HTCondor for states.
CONDOR_STATES: Final[Mapping[str, tuple[Phase, str]]] = {
    "1": ("pending", "idle"),
    "2": ("running", "running"),
    "3": ("failed", "removed"),
    "4": ("ended", "completed"),
    "5": ("stuck", "held"),
    "6": ("running", "transferring output"),
    "7": ("pending", "suspended"),
}
#: ClusterId, ProcId, JobStatus, ExitCode, then words.
CONDOR_LINE: Final = re.compile(r"^(\d+) (\d+) (\d) (-?\d+|undefined) ?(.*)$", re.MULTILINE)


def read_condor(text: str) -> list[Part]:
    """``condor_q -autoformat ClusterId ProcId JobStatus ExitCode HoldReason``; the same of ``condor_history``."""
    parts = []
    for cluster, process, number, status, words in CONDOR_LINE.findall(text):
        known: tuple[Phase, str] = CONDOR_STATES.get(number, ("running", number))
        phase, word = known
        code = int(status) if status != "undefined" and phase in {"ended", "failed"} else None
        phase = "failed" if code else phase
        parts.append(Part(f"{cluster}.{process}", phase, word, _said(words), code))
    return parts


WINHPC_PHASES: Final[Mapping[str, Phase]] = {
    "configuring": "pending",
    "submitted": "pending",
    "validating": "pending",
    "externalvalidation": "pending",
    "queued": "pending",
    "running": "running",
    "finishing": "running",
    "canceling": "running",
    "finished": "ended",
    "failed": "failed",
    "canceled": "failed",
}


def read_winhpc(text: str) -> list[Part]:
    """``job view``: lines of ``Name : value``."""
    fields: dict[str, str] = {
        key.strip().lower(): value.strip() for key, value in re.findall(r"^([^:\n]+?)\s*:(.*)$", text, re.MULTILINE)
    }
    word = fields.get("state", "")
    if not word:
        return []
    reason = fields.get("pending reason") or fields.get("error message") or ""
    phase = WINHPC_PHASES.get(word.lower(), "running")
    code = 0 if phase == "ended" else None
    return [Part(fields.get("job id", fields.get("id", "")), phase, word, reason, code)]


def _said(reason: str) -> str:
    reason = reason.strip()
    return "" if reason in SAYS_NOTHING else reason
