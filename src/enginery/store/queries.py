"""The query language: which records match, the same for every store. No I/O.

A query is a mapping of keys to conditions, all of which must hold. A condition is a value (equality; None: the key is
missing or None), or a mapping of operators, all of which must hold. ``metadata.retries`` looks into a nested mapping.

Rules of the room:

1. Stores may use a database's own index to leave out records, but ``Query.matches`` has the last word.
2. Values of different kinds are unequal and in no order: comparing them is false, never an error.
3. None is in no order either: ``$lt`` and its like are false for it. ``$ne`` and ``$nin`` are true for it, unless it is
   the value named.
"""

from __future__ import annotations

import fnmatch
import operator
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from enginery.store.records import BUFFERS, KEYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Test = Callable[[Any], bool]

_PAIR: Final = 2
_MISSING: Final = None


class Query:
    """A query, checked and ready to be asked. Immutable."""

    __slots__ = ("_tests", "conditions")

    def __init__(self, query: Mapping[str, Any] | None) -> None:
        """Raises ValueError that names the key, operator or value that makes no sense."""
        if query is not None and not isinstance(query, dict):
            raise ValueError(f"A query is a dict of keys and conditions, not {query!r}.")
        #: key -> operator -> value, for stores that look things up
        self.conditions: dict[str, dict[str, Any]] = {}
        self._tests: list[tuple[list[str], Test]] = []
        for key, condition in (query or {}).items():
            _check_key(key)
            operators = _operators(key, condition)
            self.conditions[key] = operators
            for name, value in operators.items():
                self._tests.append((key.split("."), _test(key, name, value)))

    def matches(self, record: Mapping[str, Any]) -> bool:
        """Whether a record meets all conditions."""
        return all(test(_look_up(record, path)) for path, test in self._tests)

    def may_match(self, part: Mapping[str, Any]) -> bool:
        """Whether a record with these values may match, whatever its other values are."""
        return all(test(_look_up(part, path)) for path, test in self._tests if path[0] in part)

    @property
    def keys(self) -> set[str]:
        """The keys of a record that it looks at."""
        return {key.partition(".")[0] for key in self.conditions}


def selection(keys: Iterable[str] | str | None) -> tuple[str, ...]:
    """The keys of the records that are wanted: those asked for, and always ``msg_id``; all but buffers for None.

    Raises ValueError for a key that no record has.
    """
    if keys is None:
        return tuple(key for key in KEYS if key not in BUFFERS)
    wanted = [keys] if isinstance(keys, str) else list(keys)
    for key in wanted:
        if key not in KEYS:
            raise ValueError(f"Records have no key {key!r}. They have: {', '.join(KEYS)}.")
    return ("msg_id", *(key for key in KEYS if key in wanted and key != "msg_id"))


def selected(record: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """The part of a record that is wanted."""
    return {key: record.get(key) for key in keys}


def in_order(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records by the time of their submission, those without one first, and then by message id."""
    return sorted(records, key=_place)


def together(live: Iterable[dict[str, Any]], found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records in order, each once: a store may have been told before of what has not ended, and has the last word."""
    return in_order({record["msg_id"]: record for record in (*live, *found)}.values())


def _place(record: Mapping[str, Any]) -> tuple[float, str, int, str]:
    submitted = record.get("submitted")
    msg_id = str(record["msg_id"])
    session, _, number = msg_id.rpartition("_")
    counted = int(number) if number.isdecimal() else 0
    return (submitted.timestamp() if submitted is not None else 0.0, session, counted, msg_id)


def _check_key(key: object) -> None:
    if not isinstance(key, str):
        raise ValueError(f"The keys of a query are strings, not {key!r}.")  # noqa: TRY004 - as every mistake in a query
    first = key.partition(".")[0]
    if first in BUFFERS:
        raise ValueError(f"Records cannot be found by {first!r}: buffers are opaque.")
    if first not in KEYS:
        raise ValueError(f"Records have no key {first!r}. They have: {', '.join(KEYS)}.")


def _operators(key: str, condition: Any) -> dict[str, Any]:
    """A condition as a mapping of operators."""
    if not isinstance(condition, dict):
        return {"$eq": condition}
    names = [name for name in condition if isinstance(name, str) and name.startswith("$")]
    if not names:
        return {"$eq": condition}  # a nested mapping is a value like any other
    if len(names) != len(condition):
        raise ValueError(f"The condition on {key!r} mixes operators and other keys: {condition!r}.")
    for name in names:
        if name not in _TESTS:
            raise ValueError(f"The condition on {key!r} has no operator {name!r}. There are: {', '.join(_TESTS)}.")
    # Where an operator is there by both of its names, both of its values count.
    return {name if _SAME.get(name) in names else _SAME.get(name, name): condition[name] for name in names}


def _test(key: str, name: str, value: Any) -> Test:
    try:
        return _TESTS[name](value)
    except ValueError as error:
        raise ValueError(f"{name} on {key!r} {error}, not {value!r}.") from None


def _look_up(record: Mapping[str, Any], path: list[str]) -> Any:
    found: Any = record
    for key in path:
        if not isinstance(found, dict):
            return _MISSING
        found = found.get(key)
    return found


def comparable(value: Any) -> Any:
    """A value as it is compared: datetimes in UTC (naive ones are local time), sequences as lists."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, tuple | list):
        return [comparable(each) for each in value]
    if isinstance(value, memoryview | bytearray):
        return bytes(value)
    return value


def _kind(value: Any) -> object:
    """Values of one kind can be equal and ordered. Numbers are of one kind; True and False are not numbers."""
    if isinstance(value, bool):
        return bool
    if isinstance(value, int | float):
        return float
    return type(value)


def _are_equal(found: Any, wanted: Any) -> bool:
    found = comparable(found)
    return bool(_kind(found) is _kind(wanted) and found == wanted)


def _equal(value: Any) -> Test:
    wanted = comparable(value)
    return lambda found: _are_equal(found, wanted)


def _unequal(value: Any) -> Test:
    wanted = comparable(value)
    return lambda found: not _are_equal(found, wanted)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any], Test]:
    def make(value: Any) -> Test:
        wanted = comparable(value)
        kind = _kind(wanted)
        if kind not in {float, str, datetime, bytes}:
            raise ValueError("needs a number, a string or a datetime")

        def test(found: Any) -> bool:
            return _kind(found) is kind and compare(comparable(found), wanted)

        return test

    return make


def _choices(value: Any) -> list[Any]:
    if not isinstance(value, list | tuple | set | frozenset):
        raise ValueError("needs a list")  # noqa: TRY004 - as every mistake in a query
    return [comparable(each) for each in value]


def _in(value: Any) -> Test:
    choices = _choices(value)
    # The usual case, thousands of message ids, without a search for each.
    names = {each for each in choices if isinstance(each, str)}
    others = [each for each in choices if not isinstance(each, str)]
    return lambda found: found in names if isinstance(found, str) else any(_are_equal(found, each) for each in others)


def _not_in(value: Any) -> Test:
    test = _in(value)
    return lambda found: not test(found)


def _all(value: Any) -> Test:
    choices = _choices(value)

    def test(found: Any) -> bool:
        items = found if isinstance(found, list | tuple) else [found]
        return bool(choices) and all(any(_are_equal(item, each) for item in items) for each in choices)

    return test


def _modulo(value: Any) -> Test:
    if (
        not isinstance(value, list | tuple)
        or len(value) != _PAIR
        or not all(_kind(each) is float and float(each).is_integer() for each in value)
        or not int(value[0])
    ):
        raise ValueError("needs [divisor, remainder], two whole numbers of which the first is not 0")
    divisor, remainder = int(value[0]), int(value[1])
    return lambda found: _kind(found) is float and found % divisor == remainder % divisor


def _exists(value: Any) -> Test:
    if not isinstance(value, bool | int):
        raise ValueError("needs True or False")  # noqa: TRY004 - likewise
    wanted = bool(value)
    return lambda found: (found is not None) is wanted


def _glob(value: Any) -> Test:
    if not isinstance(value, str):
        raise ValueError("needs a pattern such as 'sim-*'")  # noqa: TRY004 - likewise
    fits = re.compile(fnmatch.translate(value)).match
    return lambda found: isinstance(found, str) and fits(found) is not None


#: What operators of two names are called here.
_SAME: Final = {"$le": "$lte", "$ge": "$gte"}
_TESTS: Final[dict[str, Callable[[Any], Test]]] = {
    "$eq": _equal,
    "$ne": _unequal,
    "$lt": _ordered(operator.lt),
    "$lte": _ordered(operator.le),
    "$le": _ordered(operator.le),
    "$gt": _ordered(operator.gt),
    "$gte": _ordered(operator.ge),
    "$ge": _ordered(operator.ge),
    "$in": _in,
    "$nin": _not_in,
    "$all": _all,
    "$mod": _modulo,
    "$exists": _exists,
    "$glob": _glob,
}
