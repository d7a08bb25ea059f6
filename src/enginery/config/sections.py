"""Parts of a configuration as plain values, for another process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from traitlets.config.loader import Config, LazyConfigValue

if TYPE_CHECKING:
    from collections.abc import Container


def plain_sections(config: Config, *, without: Container[str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The sections of a configuration but for some classes, and the names of settings that are no plain values.

    Plain are strings, numbers, booleans, None, and lists and dictionaries of them. What a command line says is text
    that only the class itself can interpret.
    """
    sections: dict[str, dict[str, Any]] = {}
    unfit: list[str] = []
    for name, section in config.items():
        if name in without or not isinstance(section, Config):
            continue
        plain: dict[str, Any] = {}
        for key, given in section.items():
            value = given.get_value([]) if isinstance(given, LazyConfigValue) else given
            if _is_plain(value):
                plain[key] = _plain(value)
            else:
                unfit.append(f"{name}.{key}")
        if plain:
            sections[name] = plain
    return sections, unfit


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(each) for key, each in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float | bool)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    # Strings of the command line are of a class of their own.
    return str(value) if isinstance(value, str) else value
