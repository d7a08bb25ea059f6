"""From settings to the plain dataclasses the rooms below take."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")


def build(options: type[T], settings: Mapping[str, Any], *, optional: frozenset[str] = frozenset()) -> T:
    """Make ``options`` from the settings of the same name.

    Settings in ``optional`` may be unknown to ``options``. Raises TypeError for any other unknown one: a setting that
    has no effect must not go unnoticed.
    """
    known = {each.name for each in fields(options)}  # type: ignore[arg-type]  # T is a dataclass
    if unknown := settings.keys() - known - optional:
        msg = f"{options.__name__} has no field for {sorted(unknown)}"
        raise TypeError(msg)
    return options(**{name: value for name, value in settings.items() if name in known})
