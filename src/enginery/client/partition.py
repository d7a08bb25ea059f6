"""Cutting sequences into parts for engines, and putting parts together again. No I/O.

Two ways to deal: ``"b"`` blocks (neighbours stay together) and ``"r"`` round robin (like cards). Arrays, data frames and
series stay what they are; nothing here imports numpy or pandas unless the data comes from there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Final

BLOCK: Final = "b"
ROUND_ROBIN: Final = "r"


def check_kind(dist: str) -> str:
    """Return ``dist``. Raises ValueError for an unknown one."""
    if dist not in {BLOCK, ROUND_ROBIN}:
        raise ValueError(f"dist={dist!r} is no way to partition; use 'b' (blocks) or 'r' (round robin).")
    return dist


def block_sizes(length: int, parts: int) -> list[int]:
    """Sizes of ``parts`` blocks that make up ``length``; they differ by one at most, larger ones first."""
    small, extra = divmod(length, parts)
    return [small + 1] * extra + [small] * (parts - extra)


def partition(seq: Any, parts: int, dist: str = BLOCK) -> list[Any]:
    """Cut ``seq`` into ``parts`` parts; some are empty if there are fewer items. Iterators are read to their end.

    Slices of arrays are views, not copies. Raises ValueError for an unknown ``dist``, TypeError if ``seq`` is no sequence.
    """
    check_kind(dist)
    if parts < 1:
        raise ValueError(f"A sequence cannot be cut into {parts} parts.")
    seq = as_sequence(seq)
    if dist == ROUND_ROBIN:
        return [_cut(seq, slice(start, None, parts)) for start in range(parts)]
    found = []
    start = 0
    for size in block_sizes(len(seq), parts):
        found.append(_cut(seq, slice(start, start + size)))
        start += size
    return found


def join(parts: Sequence[Any], dist: str = BLOCK) -> Any:
    """Put together what ``partition`` cut: arrays to an array, frames to a frame, text to text, all else to a list."""
    check_kind(dist)
    kinds = {_family(part) for part in parts}
    family = kinds.pop() if len(kinds) == 1 else ""
    if dist == ROUND_ROBIN:
        return _deal_back(parts, family)
    if family == "numpy":
        return sys.modules["numpy"].concatenate(parts)
    if family == "pandas":
        return sys.modules["pandas"].concat(parts)
    if family == "str":
        return "".join(parts)
    if family == "bytes":
        return b"".join(parts)
    return list(chain.from_iterable(_iterable(part) for part in parts))


def as_sequence(seq: Any) -> Any:
    """``seq`` itself if it can be sliced, else a list of its items."""
    if _family(seq) or isinstance(seq, list | tuple | range):
        return seq
    if hasattr(seq, "__len__") and hasattr(seq, "__getitem__") and not isinstance(seq, dict):
        try:
            seq[0:0]
        except Exception:  # whatever a foreign class raises for a slice: then its items are taken one by one
            return list(seq)
        return seq
    if isinstance(seq, Iterable):
        return list(seq)
    raise TypeError(f"{seq!r} (a {type(seq).__name__}) is no sequence and cannot be cut into parts.")


def _cut(seq: Any, where: slice) -> Any:
    return seq.iloc[where] if _family(seq) == "pandas" else seq[where]


def _family(part: Any) -> str:
    if isinstance(part, str):
        return "str"
    if isinstance(part, bytes | bytearray):
        return "bytes"
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(part, numpy.ndarray) and part.ndim:
        return "numpy"
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(part, pandas.DataFrame | pandas.Series):
        return "pandas"
    return ""


def _iterable(part: Any) -> Iterable[Any]:
    # `scatter(..., flatten=True)` leaves bare items where parts were; `gather` takes them as parts of one.
    return part if isinstance(part, Iterable) and not isinstance(part, str | bytes) else (part,)


def _deal_back(parts: Sequence[Any], family: str) -> Any:
    if family == "numpy":
        numpy = sys.modules["numpy"]
        whole = numpy.empty((sum(len(part) for part in parts), *parts[0].shape[1:]), numpy.result_type(*parts))
        for start, part in enumerate(parts):
            whole[start :: len(parts)] = part
        return whole
    if family == "pandas":
        pandas = sys.modules["pandas"]
        order = [
            sum(len(part) for part in parts[:which]) + row
            for row in range(max(map(len, parts)))
            for which in range(len(parts))
            if row < len(parts[which])
        ]
        return pandas.concat(parts).iloc[order]
    lists = [list(part) if family else list(_iterable(part)) for part in parts]
    items = [each[row] for row in range(max(map(len, lists), default=0)) for each in lists if row < len(each)]
    if family == "str":
        return "".join(items)
    return bytes(items) if family == "bytes" else items
