"""What a task needs to be where it runs: names that its arguments refer to, and values that were kept on engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from enginery.wire.kept import mentioned
from enginery.wire.messages import Options
from enginery.wire.reference import names_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: What a packed call contains if it may need something. Those with numbers and strings do not.
MENTION: Final = b"enginery.wire."


def with_needs(
    options: Options | None, payload: bytes, values: Iterable[Any] = (), function: Callable[..., Any] | None = None
) -> Options | None:
    """The options of a task whose packed arguments are ``payload``, with what it needs besides.

    References are looked for in ``values`` and in ``function``, which may be one itself.
    """
    kept = mentioned(payload)
    names = names_in((*values, function))
    if not kept and not names:
        return options
    options = options if options is not None else Options()
    names = list(dict.fromkeys([*(options.names or ()), *names]))
    return msgspec.structs.replace(options, names=names or None, values=kept or None)
