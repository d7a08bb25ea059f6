"""Exceptions of user code as bytes, beside the words that describe them. No I/O.

Most clients see the words (``RemoteError``). Futures of executors raise the exception itself, as those of the standard
library do.
"""

from __future__ import annotations

from typing import Final

from enginery.wire.serialize import pack, unpack

#: Bytes that an exception may take; larger ones are told in words only.
MOST: Final = 16 * 1024


def pack_exception(error: BaseException) -> bytes:
    """An exception as bytes; nothing for those that cannot be sent, are large, or are no errors."""
    if not isinstance(error, Exception):
        return b""
    try:
        head, buffers = pack(error)
    except Exception:  # what pickling the user's objects raises: then there are the words
        return b""
    return b"" if buffers or len(head) > MOST else head


def unpack_exception(head: bytes) -> Exception | None:
    """The exception, or None if it cannot be rebuilt here: many classes cannot be made from their arguments."""
    try:
        error = unpack(head)
    except Exception:
        return None
    return error if isinstance(error, Exception) else None
