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
    if family == "numpy":
        return _join_arrays(parts, dist)
    if family in {"pandas", "index", "arrow"}:
        return _join_tables(parts, family, dist)
    if dist == ROUND_ROBIN:
        return _deal_back(parts, family)
    if family == "str":
        return "".join(parts)
    if family == "bytes":
        return type(parts[0])().join(parts)
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
    family = _family(seq)
    if family == "pandas":
        return seq.iloc[where]
    if family == "arrow" and where.step is not None:
        return seq.take(_arrow_indices(range(*where.indices(len(seq)))))
    part = seq[where]
    if family == "numpy" and not part.flags.forc:
        # Else it would travel inside of the pickle, slowly, and forget the order of its memory.
        return part.copy(order="K")
    return part


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
    if pandas is not None and isinstance(part, pandas.Index):
        return "index"
    arrow = sys.modules.get("pyarrow")
    if arrow is not None and isinstance(part, arrow.Array | arrow.ChunkedArray | arrow.Table | arrow.RecordBatch):
        return "arrow"
    return ""


def _iterable(part: Any) -> Iterable[Any]:
    # `scatter(..., flatten=True)` leaves bare items where parts were; `gather` takes them as parts of one.
    return part if isinstance(part, Iterable) and not isinstance(part, str | bytes) else (part,)


def _deal_back(parts: Sequence[Any], family: str) -> Any:
    lists = [list(part) if family else list(_iterable(part)) for part in parts]
    items = [each[row] for row in range(max(map(len, lists), default=0)) for each in lists if row < len(each)]
    if family == "str":
        return "".join(items)
    return type(parts[0])(items) if family == "bytes" else items


def _join_arrays(parts: Sequence[Any], dist: str) -> Any:
    numpy = sys.modules["numpy"]
    masked = any(isinstance(part, numpy.ma.MaskedArray) for part in parts)
    if masked or len({(type(part), part.dtype, part.shape[1:]) for part in parts}) > 1:
        # Engines have made something else of their parts, or the mask is an array of its own.
        whole = (numpy.ma if masked else numpy).concatenate(parts)
        return whole if dist == BLOCK else whole[_dealt_order(parts)]
    # `concatenate` would forget byte order and field names of records. The longest part shows the order of memory.
    whole = numpy.empty_like(max(parts, key=len), shape=(sum(map(len, parts)), *parts[0].shape[1:]))
    start = 0
    for which, part in enumerate(parts):
        whole[start : start + len(part) if dist == BLOCK else None : 1 if dist == BLOCK else len(parts)] = part
        start = start + len(part) if dist == BLOCK else which + 1
    return whole


def _join_tables(parts: Sequence[Any], family: str, dist: str) -> Any:
    if family == "pandas":
        whole = sys.modules["pandas"].concat(parts)
        return whole if dist == BLOCK else whole.iloc[_dealt_order(parts)]
    if family == "index":
        whole = parts[0].append(list(parts[1:]))
        return whole if dist == BLOCK else whole[_dealt_order(parts)]
    arrow = sys.modules["pyarrow"]
    if isinstance(parts[0], arrow.Table):
        whole = arrow.concat_tables(parts)
    elif isinstance(parts[0], arrow.RecordBatch):
        whole = arrow.Table.from_batches(parts)
    elif isinstance(parts[0], arrow.ChunkedArray):
        whole = arrow.chunked_array([chunk for part in parts for chunk in part.chunks], parts[0].type)
    else:
        whole = arrow.concat_arrays(parts)
    return whole if dist == BLOCK else whole.take(_arrow_indices(_dealt_order(parts)))


def _arrow_indices(rows: Iterable[int]) -> Any:
    return sys.modules["pyarrow"].array(list(rows), "int64")  # said, since an empty list has no type


def _dealt_order(parts: Sequence[Any]) -> list[int]:
    """Where the items of a sequence that was dealt stand in its joined parts."""
    starts = [0]
    for part in parts[:-1]:
        starts.append(starts[-1] + len(part))
    rows = range(max(map(len, parts)))
    return [start + row for row in rows for start, part in zip(starts, parts, strict=True) if row < len(part)]
