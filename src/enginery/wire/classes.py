"""Classes by value: identity is kept, and state is sent on only when it changed. No I/O.

A class of ``__main__`` is sent with everything that contains an instance of it. It carries an identity, so that each
process builds it once and ``isinstance`` holds everywhere, also for what comes back; and a version, so that a class
that has not changed where it comes from stays as the receiver's functions left it. Its origin never changes its own.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Final

import cloudpickle.cloudpickle as cp

from enginery.wire.traces import Trace, trace_of

#: Attributes that follow from others, or differ from process to process.
_NOISE: Final = frozenset(
    {
        "__abstractmethods__",
        "__annotations__",
        "__annotate_func__",
        "__dataclass_fields__",
        "__dataclass_params__",
        "__dict__",
        "__firstlineno__",
        "__match_args__",
        "__orig_bases__",
        "__parameters__",
        "__slots__",
        "__static_attributes__",
        "__weakref__",
        "_abc_impl",
        "_generate_next_value_",
        "_member_map_",
        "_member_names_",
        "_value2member_map_",
        "_unhashable_values_",
        "_unhashable_values_map_",
        "_hashable_values_",
    }
)

_versions: weakref.WeakKeyDictionary[type, tuple[int, dict[str, Trace]]] = weakref.WeakKeyDictionary()
_received: weakref.WeakKeyDictionary[type, int] = weakref.WeakKeyDictionary()


def reduce_class(cls: type) -> Any:
    """Reduce a class to what rebuilds it by value, in the form that ``reducer_override`` returns."""
    reduced = cp._class_reduce(cls)
    if reduced is NotImplemented:  # cloudpickle would send it by name; the caller knows better
        reduced = cp._dynamic_class_reduce(cls)
    if reduced[-1] is not cp._class_setstate:
        return reduced  # NoneType and its like
    maker, arguments, state = reduced[:3]
    identity = cp._get_or_create_tracker_id(cls)
    return make_class, (identity, maker, arguments), (version_of(cls), state), None, None, set_class


def version_of(cls: type) -> int:
    """How often attributes of a class were seen to have changed. Changes inside values count where these pickle."""
    now = _attributes_of(cls)
    known = _versions.get(cls)
    if known is not None and known[1] == now:
        return known[0]
    version = 0 if known is None else known[0] + 1
    _versions[cls] = (version, now)
    return version


def _attributes_of(cls: type) -> dict[str, Trace]:
    return {name: trace_of(value) for name, value in vars(cls).items() if name not in _NOISE}


def make_class(identity: str, maker: Callable[..., type], arguments: tuple[Any, ...]) -> type:
    """First half of a class: the one that is here already, or an empty one."""
    known: type | None = cp._DYNAMIC_CLASS_TRACKER_BY_ID.get(identity)
    if known is not None:
        return known
    made = maker(*arguments)
    _received[made] = -1
    return made


def set_class(cls: type, state: tuple[int, Any]) -> None:
    """Second half of a class: its attributes, unless this version of them is here, or the class stems from here."""
    version, attributes = state
    if _received.get(cls, version) == version:
        return
    cp._class_setstate(cls, attributes)
    _received[cls] = version
    _versions[cls] = (version, _attributes_of(cls))  # so that handing it on counts from here
