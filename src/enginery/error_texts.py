"""How errors read: who said what, those that said the same together, and how much is left out. No I/O."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: What an exception looks like in a ``CompositeError``: ename, evalue, traceback, engine_info.
Element = tuple[str, str, str, "dict[str, object]"]

#: What differs between texts that say the same: addresses of objects, numbers of cells.
_PARTICULARS: Final = re.compile(r"\b0x[0-9a-fA-F]{4,}\b|(?<=<ipython-input-)\d+(?=-)")


def _label(info: Mapping[str, object], who: Sequence[Element] = ()) -> str:
    """``[3:apply]``, or ``[0-7:apply]`` for a group of engines. Without any knowledge: nothing."""
    engines = _engines(who) if len(who) > 1 else str(info.get("engine_id", ""))
    method = str(info.get("method", ""))
    return f"[{engines}:{method}]" if engines or method else ""


def headline(ename: str, evalue: str, info: Mapping[str, object], who: Sequence[Element] = ()) -> str:
    """One line: label, class and text of an exception, and who said the same."""
    named = _label(info, who)
    return f"{named + ': ' if named else ''}{ename}: {evalue}{_said_the_same(who)}"


def render(ename: str, evalue: str, text: str, info: Mapping[str, object], who: Sequence[Element] = ()) -> list[str]:
    """The traceback as lines, the first one naming the engine; only the headline if there is no traceback."""
    if not text:
        return [headline(ename, evalue, info, who)]
    named = _label(info, who)
    place = f" on {info['host']}" if info.get("host") and len(who) <= 1 else ""
    first = f"{named}{place}{_said_the_same(who)}"
    return [first, *text.splitlines()] if first else text.splitlines()


def _said_the_same(who: Sequence[Element]) -> str:
    """For a group of more than one: `` (engines 0-7 said the same)``."""
    if len(who) <= 1:
        return ""
    known = {info["engine_id"] for *_, info in who if info.get("engine_id") is not None}
    if not known:
        return f" ({len(who)} said the same)"
    count = f"{len(who)} tasks on " if len(who) > len(known) else ""
    return f" ({count}engine{'s' if len(known) > 1 else ''} {_engines(who)} said the same)"


def _engines(who: Sequence[Element]) -> str:
    """Ids of the engines of a group."""
    found = {info.get("engine_id") for *_, info in who} - {None}
    numbers = id_ranges(engine for engine in found if isinstance(engine, int))
    return ",".join(filter(None, [numbers, *sorted(str(each) for each in found if not isinstance(each, int))]))


def id_ranges(ids: Iterable[int]) -> str:
    """Ids as people write them, runs of neighbours joined: ``0-3,7``."""
    runs: list[list[int]] = []
    for number in sorted(ids):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in runs)


def general(text: str) -> str:
    """Text without what differs between engines that say the same: addresses of objects, numbers of cells."""
    return _PARTICULARS.sub("…", text)


def grouped(elist: Sequence[Element]) -> list[list[Element]]:
    """Exceptions that say the same, but for addresses of objects, together; in order of first appearance."""
    groups: dict[tuple[str, str, str], list[Element]] = {}
    for entry in elist:
        ename, evalue, text, _ = entry
        groups.setdefault((ename, general(evalue), general(text)), []).append(entry)
    return list(groups.values())


def left_out(groups: Sequence[Sequence[Element]]) -> list[str]:
    """Lines that say how many exceptions are not shown, if there are any."""
    if not groups:
        return []
    count = sum(map(len, groups))
    return [f".... {count} more exception{'s' if count > 1 else ''} ...", "(see all of them in .elist)"]


def element(entry: Sequence[object]) -> Element:
    """An entry of a ``CompositeError`` as it should be, made of what somebody passed as one."""
    ename, evalue, text, info = entry
    return str(ename), str(evalue), str(text or ""), dict(info) if isinstance(info, dict) else {}


def without_traceback(entry: Element) -> tuple[str, str, dict[str, object]]:
    """What ``headline`` wants of an entry."""
    ename, evalue, _, info = entry
    return ename, evalue, info
