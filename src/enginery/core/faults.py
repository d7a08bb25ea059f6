"""The faults the scheduler itself reports, in words: what happened, with which value, what to do next. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enginery.wire.messages import Fault, Result, Status

if TYPE_CHECKING:
    from enginery.core.engines import EngineRecord
    from enginery.core.tasks import Rare


def result_of(task: int, status: Status, fault: Fault) -> Result:
    """A result without a value."""
    return Result(task, status, b"", fault=fault)


def history(rare: Rare | None) -> str:
    """What happened to a task before, as a sentence, or nothing."""
    if rare is None or not rare.attempts:
        return ""
    return " Earlier attempts: " + "; ".join(rare.attempts) + "."


def engine_lost(
    engine: EngineRecord, reason: str, rare: Rare | None = None, *, direct: bool = False, poison: bool = False
) -> Fault:
    """The engine that had the task is gone."""
    info = engine.info
    text = f"Engine {info.id} (pid {info.pid} on {info.host}) left: {reason}."
    if poison:
        text += f" The task was with {rare.deaths if rare else 1} engines when they died; it is not run again."
    elif direct:
        text += " Requests addressed to one engine are not run elsewhere."
    else:
        text += " The task had no retries left. Pass retries=1 to run it elsewhere."
    return Fault("EngineError", "EngineError", text + history(rare))


def aborted(task: int, why: str) -> Result:
    """The task was taken back."""
    return result_of(task, Status.ABORTED, Fault("TaskAborted", "TaskAborted", why))


def no_such_engine(target: int, present: list[int]) -> Fault:
    """A request named an engine that is not there."""
    have = f"Registered engines: {present}." if present else "No engines are registered."
    return Fault("EngineError", "EngineError", f"Engine {target} is not registered (it may have left). {have}")


def no_target_left(rare: Rare | None, targets: list[int]) -> Fault:
    """None of the engines a task is restricted to exists any more."""
    text = f"None of the engines {targets} that the task may run on is registered."
    return Fault("ImpossibleDependency", "ImpossibleDependency", text + history(rare))


def impossible(rare: Rare | None, why: str) -> Fault:
    """A dependency can never be met."""
    return Fault("ImpossibleDependency", "ImpossibleDependency", why + history(rare))


def invalid(ids: list[int]) -> Fault:
    """A dependency names tasks that were never submitted."""
    shown = ", ".join(str(task) for task in ids[:3])
    text = f"Dependency on unknown task ids ({shown}): they were never submitted to this controller."
    return Fault("InvalidDependency", "InvalidDependency", text)


def timed_out(rare: Rare | None, seconds: float) -> Fault:
    """Dependencies stayed unmet for too long."""
    text = f"Dependencies were not met within timeout={seconds:g} s."
    return Fault("TaskTimeout", "TaskTimeout", text + history(rare))


def value_lost(why: str, rare: Rare | None = None) -> Fault:
    """A value that was kept on an engine is not there any more."""
    text = f"A value that was kept on an engine (keep=True) is lost: {why}. Make it again."
    return Fault("EngineError", "EngineError", text + history(rare))


def body_lost(digest: bytes) -> Fault:
    """Nobody has the function of a task any more."""
    text = f"The function (digest {digest.hex()}) is no longer kept by the controller, and its client has left."
    return Fault("EngineError", "EngineError", text)
