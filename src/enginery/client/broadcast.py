"""All engines at once: BroadcastView."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from enginery.client.direct import DirectView

if TYPE_CHECKING:
    from enginery.client.result import AsyncResult


#: Requests whose replies differ in kind from engine to engine: programs expect them one by one.
_NEVER_COALESCING: Final = frozenset({"execute", "map", "scatter", "gather"})


class BroadcastView(DirectView):
    """A DirectView for many engines.

    Requests leave as one message in either kind of view, and the controller fans them out. What this class adds is its name,
    ``is_coalescing`` and the entries of metadata of the same names, on which programs may rely.
    """

    flag_names: ClassVar[frozenset[str]] = DirectView.flag_names | {"is_coalescing"}

    #: Asks for one reply with all results. Replies travel in batches anyway.
    is_coalescing: bool

    def _set_defaults(self) -> None:
        self.is_coalescing = False

    def _check_flag(self, name: str, value: Any) -> Any:
        return bool(value) if name == "is_coalescing" else super()._check_flag(name, value)

    def _mark(self, result: AsyncResult) -> None:
        result._flavour = (True, self.is_coalescing and result._method not in _NEVER_COALESCING)
