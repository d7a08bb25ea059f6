"""Who comes in, and as what: hellos are judged by their key, and the holders of keys that are no good any more are named.

Without a keyring everybody may come in, as whatever they say they are.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from enginery.controller.keyring import Key
from enginery.core.scopes import Scope, allows, forbidden, may_ask
from enginery.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from enginery.controller.keyring import Keyring, Pair
    from enginery.controller.ports import Handler, Peer

#: What everybody has where no keys are wanted.
OPEN: Final = {"client": Key("", Scope.ADMIN, ""), "engine": Key("", Scope.ENGINE, "")}
#: Keys that may be made; each takes memory, and time at each hello.
MOST_KEYS: Final = 1000
#: Characters of a note.
LONGEST_NOTE: Final = 200


def handlers_by_scope(all_of_them: Mapping[type, Handler], otherwise: Handler) -> dict[Scope, dict[type, Handler]]:
    """For each scope of clients, who sees to which message: ``otherwise`` to those that are not in it."""
    return {
        scope: {kind: handle if allows(scope, kind) else otherwise for kind, handle in all_of_them.items()}
        for scope in Scope
        if scope.port == "client"
    }


def refusal(scope: Scope, message: Any) -> m.Answer | m.Results | None:
    """What to answer to a message that is not in a scope; None if nobody waits for anything."""
    why = forbidden(scope, type(message).__name__)
    if isinstance(message, m.Query | m.Signal | m.Shutdown):
        return m.Answer(message.number, error=why)
    ids: list[int] = []
    if isinstance(message, m.Submit):
        ids = [task.id for task in message.tasks]
    elif isinstance(message, m.Direct):
        ids = [request.task.id + at for request in message.requests for at in range(len(request.targets))]
    fault = m.Fault("Refused", "Refused", why)
    return m.Results(-1, [m.Result(number, m.Status.UNRUNNABLE, b"", fault=fault) for number in ids]) if ids else None


class Door:
    """Judges who comes in. Belongs to the loop's thread."""

    def __init__(
        self,
        keyring: Keyring | None = None,
        *,
        describe: Callable[[Key, Pair | None], dict[str, object]] = lambda _key, _pair: {},
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """``describe`` gives connection info for a key; ``changed`` is called when there are other keys than before.

        The pair is None for a default key, which is in its connection file.
        """
        self._keyring = keyring
        self._describe = describe
        self._changed = changed
        self._over: list[tuple[Key, str]] = []
        self._questions: dict[str, Callable[[Mapping[str, object]], object]] = {
            "key_create": self._create,
            "key_list": self._list,
            "key_revoke": self._revoke,
            "key_rotate": self._rotate,
        }

    def judge(self, peer: Peer, port: str, token: str) -> Key | str:
        """The key by which a peer comes in by the port of clients or engines, or why it does not."""
        ring = self._keyring
        if ring is None:
            return OPEN[port]
        if peer.is_local:
            key = ring.by_token(token)
        else:
            key = ring.by_public(peer.credential) or ring.by_name(peer.credential)
        if key is None:
            return (
                "Its key is not one of this controller's, or has expired or been revoked. Use the connection file that "
                "the controller wrote last, or have a new one made by `ipcluster key create`."
            )
        if key.scope.port != port:
            return f"Its key is of scope {str(key.scope)!r}, which does not open the port of {port}s."
        return key

    def answer(self, peer: Peer, query: m.Query) -> m.Answer | None:
        """The answer to a question that the peer may not ask, or that is about keys; None for all others."""
        if not may_ask(peer.key.scope, query.name):
            return m.Answer(query.number, error=forbidden(peer.key.scope, query.name))
        ask = self._questions.get(query.name)
        if ask is None:
            return None
        try:
            return m.Answer(query.number, ask(query.arguments))
        except ValueError as error:
            return m.Answer(query.number, error=f"{error}.")

    def take_over(self) -> list[tuple[Key, str]]:
        """Keys whose holders have to leave, and why; each is named once."""
        if self._keyring is not None:
            expired = self._keyring.drop_expired()
            self._over += [(key, f"Its key {key.name!r} has expired.") for key in expired]
            if expired:
                self._changed()
        over, self._over = self._over, []
        return over

    # --- what admins ask for ------------------------------------------------------------------------------------

    def _ring(self) -> Keyring:
        if self._keyring is None:
            msg = "this controller was started with --no-secure, and needs no keys"
            raise ValueError(msg)
        return self._keyring

    def _create(self, arguments: Mapping[str, object]) -> object:
        ring = self._ring()
        scope, seconds, note = arguments.get("scope"), arguments.get("seconds", 0.0), arguments.get("note", "")
        if scope not in list(Scope):
            msg = f"the scope has to be one of {', '.join(Scope)}, not {scope!r}"
            raise ValueError(msg)
        if not isinstance(seconds, int | float) or not math.isfinite(seconds) or seconds < 0:
            msg = f"the time until the key expires has to be a number of seconds, not {seconds!r}"
            raise ValueError(msg)
        if len(ring.keys) >= MOST_KEYS:
            msg = f"there are {len(ring.keys)} keys already. Revoke some (`ipcluster key list`, `ipcluster key revoke`)"
            raise ValueError(msg)
        key, pair = ring.create(Scope(str(scope)), seconds=float(seconds), note=str(note)[:LONGEST_NOTE])
        self._changed()
        return {"key": key.describe(), "connection": self._describe(key, pair)}

    def _list(self, _arguments: Mapping[str, object]) -> object:
        return [key.describe() for key in self._ring().keys.values()]

    def _revoke(self, arguments: Mapping[str, object]) -> object:
        key = self._ring().revoke(str(arguments.get("name")))
        self._over.append((key, f"Its key {key.name!r} was revoked."))
        self._changed()
        return key.describe()

    def _rotate(self, _arguments: Mapping[str, object]) -> object:
        ring = self._ring()
        old = ring.rotate()
        self._changed()
        new: dict[str, Any] = {key.name: self._describe(ring.keys[key.name], None) for key in old}
        return new
