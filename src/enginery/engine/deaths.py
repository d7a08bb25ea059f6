"""The death of an engine in words: what ended it, and what that probably means."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Final

#: What a fatal signal probably means. Signals not listed speak for themselves.
MEANINGS: Final = {
    "SIGSEGV": "a crash in native code",
    "SIGBUS": "a crash in native code, or a full disk under mapped memory",
    "SIGABRT": "native code gave up",
    "SIGFPE": "a numeric fault in native code",
    "SIGILL": "native code built for another processor",
    "SIGSYS": "a forbidden system call",
    "SIGXCPU": "its limit of processor time was reached",
    "SIGXFSZ": "its limit of file size was reached",
}
#: Why an engine leaves by itself in the middle of a task.
OVERDUE: Final = "its task ran longer than its time_limit and did not heed the interrupt"
#: Shells report a signal of a child as 128 plus its number.
SHELL_OFFSET: Final = 128
KILO, MEGA, GIGA = 10**3, 10**6, 10**9


def describe(code: int, *, peak: int = 0, out_of_memory: bool | None = None, cause: str = "") -> str:
    """How a process ended, in words that can follow "Engine 3 …".

    Args:
        code: exit code, negative for a signal.
        peak: the most memory it had, in bytes; 0 if unknown.
        out_of_memory: whether the kernel killed something for want of memory meanwhile; None if that is unknown.
        cause: who ended it and why, where that is known; then nothing is guessed.
    """
    if code >= 0:
        return _exited(code, cause)
    name = signal_name(-code)
    remarks = [cause or _meaning(name, out_of_memory=out_of_memory)]
    if peak and not cause:
        remarks.append(f"last seen at {amount(peak)}")
    text = "; ".join(filter(None, remarks))
    return f"killed by {name} ({text})" if text else f"killed by {name}"


def signal_name(number: int) -> str:
    """SIGKILL for 9; "signal 77" where the system has no name for it."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def amount(size: int) -> str:
    """A number of bytes as people say it: 7.2 GB, 120 MB."""
    if size >= GIGA:
        return f"{size / GIGA:.1f} GB"
    return f"{size / MEGA:.0f} MB" if size >= MEGA else f"{size / KILO:.0f} kB"


class MemoryWitness:
    """Tells whether the kernel has killed processes for want of memory since it was last asked.

    Two counters: that of the control group this process is in, which is about us, and that of the machine, which
    may be about somebody else.
    """

    __slots__ = ("_machine", "_ours", "_seen")

    def __init__(self, root: Path = Path("/")) -> None:
        self._ours = _group_counters(root)
        self._machine = root / "proc/vmstat"
        self._seen = self._read()

    def out_of_memory(self) -> bool | None:
        """True if it happened in our control group, False if nowhere on this machine, None if nobody can tell."""
        before, self._seen = self._seen, self._read()
        ours, machine = (
            None if old is None or new is None else new > old for old, new in zip(before, self._seen, strict=True)
        )
        if ours:
            return True
        return False if machine is False else None

    def _read(self) -> tuple[int | None, int | None]:
        counts = [count for path in self._ours if (count := _counter(path)) is not None]
        return (sum(counts) if counts else None), _counter(self._machine)


def _exited(code: int, cause: str) -> str:
    if cause:
        return f"ended with exit code {code} ({cause})"
    if code == 0:
        return "left in good order"
    if code > SHELL_OFFSET and (name := signal_name(code - SHELL_OFFSET)).startswith("SIG"):
        return f"ended with exit code {code} (which often stands for {name})"
    return f"ended with exit code {code} (its log has the reason, unless user code ended the process itself)"


def _meaning(name: str, *, out_of_memory: bool | None) -> str:
    if name != "SIGKILL":
        return MEANINGS.get(name, "")
    if out_of_memory:
        return "out of memory: the kernel killed it"
    return "possibly out of memory" if out_of_memory is None else "not by the kernel: memory had not run out"


def _group_counters(root: Path) -> list[Path]:
    """Files with an ``oom_kill`` line of the control groups this process is in, for both generations of them."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            candidates = [f"sys/fs/cgroup{path}/memory.events", f"sys/fs/cgroup/unified{path}/memory.events"]
        elif "memory" in controllers.split(","):
            candidates = [f"sys/fs/cgroup/memory{path}/memory.oom_control"]
        else:
            continue
        found += [root / each for each in candidates if (root / each).is_file()]
    return found


def _counter(path: Path) -> int | None:
    try:
        text = path.read_text()
    except OSError:
        return None
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill":
            return int(value)
    return None
