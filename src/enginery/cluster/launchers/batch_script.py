"""Scripts for batch systems: templates with Python expressions in them, and directives that a template lacks. No I/O."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class EvalFormatter(string.Formatter):
    """``str.format`` with expressions as names, as IPython's class of this name has it: ``{n//4}``, ``{queue.upper()}``.

    What follows a colon is a format, ``{n:03}``; braces that are meant as such are doubled, ``${{HOME}}``. Ours, since
    IPython's is 400 ms away.
    """

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, str]:  # noqa: ARG002 - the signature of string.Formatter
        """The value of an expression. Raises whatever it raises."""
        # The template is the user's own program text, just as the script that comes of it.
        return eval(field_name, dict(kwargs)), field_name  # noqa: S307


def render(template: str, namespace: Mapping[str, Any]) -> str:
    """``template`` with the values of its expressions. Raises ValueError that names what cannot be evaluated."""
    formatter = EvalFormatter()
    lines = []
    # Line by line, so that an error can say where it is.
    for line in template.splitlines():
        try:
            lines.append(formatter.vformat(line, (), namespace))
        except Exception as error:  # an expression may raise anything
            msg = (
                f"the line {line.strip()!r} of the template cannot be filled in: {type(error).__name__}: {error}. "
                f"Known are {', '.join(sorted(namespace))}, and what you put into `namespace`; braces that belong to "
                "the script itself are doubled: ${{HOME}}."
            )
            raise ValueError(msg) from error
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Directive:
    """A line for the batch system: how to see that a script has it, and what to insert if not."""

    regexp: str
    template: str
    #: a line that is to be completed instead of adding a second one, and by what
    amend: tuple[str, str] | None = None
    #: whether it closes the script instead of opening it
    at_end: bool = False


def insert(script: str, directive: Directive) -> str:
    """``script`` with the directive, unless it has one already; below the line that names the shell."""
    if re.search(directive.regexp, script, re.MULTILINE):
        return script
    if directive.amend is not None:
        pattern, replacement = directive.amend
        script, count = re.subn(pattern, replacement, script, count=1, flags=re.MULTILINE)
        if count:
            return script
    if directive.at_end:
        return f"{script.rstrip()}\n{directive.template}\n"
    first, newline, rest = script.partition("\n")
    if first.startswith("#!"):
        return f"{first}{newline or chr(10)}{directive.template}\n{rest}"
    return f"{directive.template}\n{script}"


def mentions(template: str, name: str) -> bool:
    """Whether an expression of the template uses ``name``."""
    return any(re.search(rf"\b{name}\b", field or "") for field in _fields(template))


def _fields(template: str) -> Iterable[str | None]:
    try:
        return [field for line in template.splitlines() for _, field, _, _ in string.Formatter().parse(line)]
    except ValueError:  # rendering will say what is wrong with it
        return []
