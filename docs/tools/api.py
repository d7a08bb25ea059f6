"""The page of all public names, made from their signatures and docstrings."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from inspect import iscoroutinefunction
from typing import Any

from traitlets import HasTraits, TraitType

import enginery
from words import as_markdown, code, fence, first_sentence, page, table

INTRODUCTION = """# Public names

All of these are attributes of `enginery`, which is usually imported as `ipp`. Whatever is not listed here may change
without notice. This page is made from the docstrings by `make docs`.
"""
#: Longest signature on one line.
WIDTH = 100
#: The public names in the order of the page.
GROUPS = {
    "Clusters": ("Cluster", "ClusterManager"),
    "Client and views": ("Client", "DirectView", "BroadcastView", "LoadBalancedView", "ViewExecutor", "Dependency"),
    "Results": ("AsyncResult", "AsyncMapResult", "ExecuteReply", "Metadata"),
    "Decorators": (
        "remote", "parallel", "RemoteFunction", "ParallelFunction", "require", "depend", "dependent", "interactive"
    ),
    "What is sent": ("Reference", "PrePickled", "use_cloudpickle", "use_dill", "use_pickle"),
    "Errors": (
        "IPythonError", "ConnectionFileError", "LauncherError", "SerializationError", "KernelError", "ConnectionLost",
        "Refused", "VersionMismatch", "EngineError", "NoEnginesRegistered", "TaskAborted", "TaskTimeout",
        "TaskRejectError", "UnmetDependency", "ImpossibleDependency", "DependencyTimeout", "InvalidDependency",
        "RemoteError", "CompositeError", "AlreadyDisplayedError", "collect_exceptions", "wrap_exception",
        "unwrap_exception",
    ),
}  # fmt: skip
#: Names that are handed on from the standard library, or are plain values.
HANDED_ON = {
    "TimeoutError": "the builtin",
    "ALL_COMPLETED": "`concurrent.futures.ALL_COMPLETED`",
    "FIRST_COMPLETED": "`concurrent.futures.FIRST_COMPLETED`",
    "FIRST_EXCEPTION": "`concurrent.futures.FIRST_EXCEPTION`",
    "__version__": "the version of this package as text",
    "version_info": "the version of this package as a tuple of numbers",
}


#: Methods that other rooms of the package call, and users have no business with.
PLUMBING = frozenset(
    {
        "arrived", "begin_growing", "end_growing", "engine_info", "find_result", "grow", "message_ids", "on",
        "outstanding_of", "remember", "reply_arrived", "reply_engine", "reply_metadata", "reply_outcome",
        "reply_status", "reply_times", "resolve", "said", "set_exception", "set_result",
        "set_running_or_notify_cancel", "settled", "task_id",
    }
)  # fmt: skip


def render() -> str:
    """The page."""
    parts = [INTRODUCTION]
    for title, names in groups().items():
        parts.append(f"## {title}")
        if title == "Errors":
            parts.append(fence(_tree(), "text"))
        parts += [part for name in names for part in describe(name, getattr(enginery, name))]
    parts += ["## Handed on", table(("name", "is"), [(code(name), text) for name, text in HANDED_ON.items()])]
    return page(*parts)


def groups() -> dict[str, list[str]]:
    """The public names by group; those that no group lists come last."""
    listed = {name for names in GROUPS.values() for name in names} | HANDED_ON.keys()
    further = {"Further names": tuple(name for name in enginery.__all__ if name not in listed)}
    found = {title: [name for name in names if name in enginery.__all__] for title, names in (GROUPS | further).items()}
    return {title: names for title, names in found.items() if names}


def describe(name: str, thing: Any) -> Iterator[str]:
    """The parts of the page about one name."""
    yield f"### {name}"
    if not isinstance(thing, type):
        yield fence(signature(name, thing), "text")
        yield as_markdown(thing.__doc__)
        return
    if "__init__" in {attribute for owner in ours(thing) for attribute in vars(owner)}:
        yield fence(signature(name, thing), "text")
    if bases := [base for base in thing.__bases__ if base in shown()]:
        yield "Has everything that " + " and ".join(code(base.__name__) for base in bases) + " has, and:"
    yield as_markdown(thing.__doc__)
    yield settings(thing)
    values, methods = members(thing)
    if any(attribute.endswith("_sync") and hasattr(thing, attribute.removesuffix("_sync")) for attribute, _ in methods):
        yield "The methods whose names end in `_sync` wait; each has an awaitable twin without that ending."
    yield table(("attribute", "is"), values)
    for attribute, function in methods:
        yield f"#### {name}.{attribute}"
        yield fence(signature(attribute, function), "text")
        yield as_markdown(function.__doc__)


def members(thing: type) -> tuple[list[tuple[str, str]], list[tuple[str, Any]]]:
    """Attributes with their meaning, and methods, of a class and of those of its bases that have no page of their own."""
    values: list[tuple[str, str]] = []
    methods: list[tuple[str, Any]] = []
    seen: set[str] = set()
    for owner in ours(thing):
        for attribute, value in vars(owner).items():
            if attribute.startswith("_") or attribute in seen | PLUMBING or isinstance(value, TraitType):
                continue
            if iscoroutinefunction(value) and hasattr(thing, f"{attribute}_sync"):
                continue
            seen.add(attribute)
            if isinstance(value, property):
                values.append((code(attribute), first_sentence(value.__doc__)))
            elif isinstance(value, staticmethod | classmethod) and inspect.isroutine(
                found := getattr(thing, attribute)
            ):
                methods.append((attribute, found))
            elif inspect.isfunction(value) and value.__doc__ and not value.__doc__.startswith("See "):
                methods.append((attribute, value))
    return values, methods


def shown() -> list[type]:
    """The classes that are on the page."""
    things = [getattr(enginery, name) for names in groups().values() for name in names]
    return [thing for thing in things if isinstance(thing, type)]


def ours(thing: type) -> list[type]:
    """The class and those of its bases that are told about with it: ours, and not told about elsewhere on the page."""
    elsewhere = {
        owner for other in shown() if other is not thing and issubclass(thing, other) for owner in other.__mro__
    }
    return [owner for owner in thing.__mro__ if owner.__module__.startswith("enginery.") and owner not in elsewhere]


def settings(thing: type) -> str:
    """The traits of a class that has some."""
    if not issubclass(thing, HasTraits):
        return ""
    rows = [
        (code(name), trait.help)
        for name, trait in sorted(thing.class_traits(config=True).items())
        if str(trait.this_class.__module__).startswith("enginery.")
    ]
    return table(("argument or setting", "meaning"), rows)


def signature(name: str, function: Any) -> str:
    """A signature as people write it, on one line if that is not too long."""
    parameters = list(inspect.signature(function).parameters.values())
    if parameters and parameters[0].name in {"self", "cls"}:
        del parameters[0]
    words: list[str] = []
    for at, parameter in enumerate(parameters):
        before = parameters[at - 1].kind if at else None
        if parameter.kind is parameter.KEYWORD_ONLY and before not in {
            parameter.KEYWORD_ONLY,
            parameter.VAR_POSITIONAL,
        }:
            words.append("*")
        elif at and before is parameter.POSITIONAL_ONLY and parameter.kind is not before:
            words.append("/")
        words.append(_parameter(parameter))
    if parameters and parameters[-1].kind is inspect.Parameter.POSITIONAL_ONLY:
        words.append("/")
    returned = _returned(function)
    line = f"{name}({', '.join(words)}){returned}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{name}(", *(f"    {word}," for word in words), f"){returned}"])


def _returned(function: Any) -> str:
    """What a function returns, where that says something."""
    told = inspect.signature(function).return_annotation
    if isinstance(function, type) or told in {inspect.Signature.empty, "Any", "None", "NoReturn"}:
        return ""
    return f" -> {told if isinstance(told, str) else inspect.formatannotation(told)}"


def _parameter(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    annotation = parameter.annotation
    if annotation is parameter.empty or annotation == "Any" or stars:
        text, equals = f"{stars}{parameter.name}", "="
    else:
        kind = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
        text, equals = f"{parameter.name}: {kind}", " = "
    return text if parameter.default is parameter.empty else f"{text}{equals}{parameter.default!r}"


def _tree() -> str:
    """The drawing in the docstring of the errors."""
    text = inspect.cleandoc(importlib.import_module("enginery.errors").__doc__ or "")
    lines = text.splitlines()
    drawing = [line.removeprefix("    ") for line in lines if line.startswith("    ")]
    return "\n".join(drawing)
