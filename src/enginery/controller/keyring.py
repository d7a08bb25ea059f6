"""The keys of a controller: made, drawn from a given one, revoked, replaced, and kept for the next start.

A key is two things that say the same. The *token* (``exec_key`` in a connection file) is shown in a hello on this host
and signs connections where there is no CURVE; the *pair* is for CURVE. The keys ``client`` and ``engine`` are those of
the two connection files that every controller writes; the others were made by ``ipcluster key create``.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass, field
from time import time
from typing import TYPE_CHECKING, Final

from enginery.core.scopes import Scope
from enginery.errors import ConnectionFileError
from enginery.net.connection_file import require_private, write_private
from enginery.net.signed import key_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

#: Bytes of a token.
TOKEN: Final = 32
#: Public and secret half of a CURVE key.
Pair = tuple[str, str]
#: The keys that every controller has.
DEFAULTS: Final = {"client": Scope.ADMIN, "engine": Scope.ENGINE}


@dataclass(slots=True, eq=False)
class Key:
    """One key, without the secret half of its pair."""

    name: str
    scope: Scope
    token: str = field(repr=False)
    public: str = field(default="", repr=False)
    created: float = 0.0
    expires: float = 0.0  #: seconds since the epoch; 0: never
    note: str = ""

    def is_good(self, now: float) -> bool:
        """Whether it has not expired."""
        return not self.expires or now < self.expires

    def describe(self) -> dict[str, object]:
        """What may be told of it."""
        return {
            "name": self.name,
            "scope": str(self.scope),
            "created": self.created,
            "expires": self.expires,
            "note": self.note,
        }


class Keyring:
    """All keys of one controller. Not thread-safe: it belongs to the loop's thread."""

    def __init__(self, *, given: str = "", clock: Callable[[], float] = time) -> None:
        """``given`` is the secret that the tokens of the default keys are made from; without it, chance decides."""
        self.keys: dict[str, Key] = {}
        self.pairs: dict[str, Pair] = {}  #: of the server and the two default keys, where there is CURVE
        #: Public keys by the port they open; the doorkeeper looks there.
        self.allowed: dict[str, set[str]] = {"client": set(), "engine": set()}
        self.make_pair: Callable[[], Pair] | None = None
        self.clock = clock
        self._given = given

    def __repr__(self) -> str:
        return f"<Keyring {', '.join(self.keys)}>"

    # --- making -------------------------------------------------------------------------------------------------

    def fill(
        self,
        make_pair: Callable[[], Pair] | None,
        stored: dict[str, object] | None = None,
        given: Mapping[str, Pair] | None = None,
    ) -> None:
        """Have the keys there that every controller needs: as they are given, else as they are stored, else new.

        ``make_pair`` is None where there is no CURVE.
        """
        self.make_pair = make_pair
        if stored is not None:
            self._restore(stored)
        self.pairs = {**self.pairs, **(given or {})} if make_pair is not None else {}
        if make_pair is not None:
            self.pairs.update({name: make_pair() for name in ("server", *DEFAULTS) if name not in self.pairs})
        made = self._made_tokens()
        for name, scope in DEFAULTS.items():
            before = self.keys.get(name)
            if before is not None:
                self._remove(before)
            token = made.get(name) or (before.token if before is not None else secrets.token_hex(TOKEN))
            public = self.pairs[name][0] if make_pair is not None else ""
            self._add(Key(name, scope, token, public, self.clock()))

    def create(self, scope: Scope, *, seconds: float = 0.0, note: str = "") -> tuple[Key, Pair]:
        """A new key, and its pair, which is kept nowhere else; both halves are empty where there is no CURVE."""
        pair = self.make_pair() if self.make_pair is not None else ("", "")
        now = self.clock()
        name = secrets.token_hex(4)
        key = Key(name, scope, secrets.token_hex(TOKEN), pair[0], now, now + seconds if seconds else 0.0, note)
        self._add(key)
        return key, pair

    def rotate(self) -> list[Key]:
        """Put new default keys in place of the old ones, which open nothing any more. Returns the old ones.

        Raises ValueError if they are drawn from a key that was given.
        """
        if self._given:
            msg = "the keys are drawn from Session.key. Change that, or the key file, and start the controller anew"
            raise ValueError(msg)
        old = [self.keys[name] for name in DEFAULTS]
        for key in old:
            self._remove(key)
            self.pairs.pop(key.name, None)
        self.fill(self.make_pair)
        return old

    def revoke(self, name: str) -> Key:
        """Take a key that was made back. Raises ValueError if there is no such key, or every controller needs it."""
        key = self.keys.get(name)
        if key is None:
            msg = f"there is no key {name!r}. `ipcluster key list` shows those there are"
            raise ValueError(msg)
        if name in DEFAULTS:
            msg = f"the key {name!r} is the controller's own. `ipcluster key rotate` puts a new one in its place"
            raise ValueError(msg)
        self._remove(key)
        return key

    def drop_expired(self) -> list[Key]:
        """Remove keys whose time is over, and return them."""
        now = self.clock()
        over = [key for key in self.keys.values() if not key.is_good(now)]
        for key in over:
            self._remove(key)
        return over

    # --- asking -------------------------------------------------------------------------------------------------

    def by_token(self, token: str) -> Key | None:
        """The key with this token."""
        now = self.clock()
        shown = token.encode()
        for key in self.keys.values():
            if hmac.compare_digest(key.token.encode(), shown):
                return key if key.is_good(now) else None
        return None

    def by_public(self, public: str) -> Key | None:
        """The key with this public half."""
        now = self.clock()
        return next((key for key in self.keys.values() if public and key.public == public and key.is_good(now)), None)

    def by_name(self, name: str) -> Key | None:
        """The key that signed connections name so."""
        now = self.clock()
        return next((key for key in self.keys.values() if key_id(key.token) == name and key.is_good(now)), None)

    def secret_of(self, port: str, name: str) -> str | None:
        """The secret of the key that signed connections name so, if it opens the port of this name."""
        key = self.by_name(name)
        return key.token if key is not None and key.scope.port == port else None

    # --- keeping ------------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Keep all of it for the next start."""
        plain = {
            "pairs": {name: list(pair) for name, pair in self.pairs.items()},
            "keys": [{**key.describe(), "token": key.token, "public": key.public} for key in self.keys.values()],
        }
        write_private(path, json.dumps(plain))

    def _restore(self, stored: dict[str, object]) -> None:
        pairs, keys = stored["pairs"], stored["keys"]
        if not isinstance(pairs, dict) or not isinstance(keys, list):
            raise TypeError
        self.pairs = {str(name): (str(public), str(secret)) for name, (public, secret) in pairs.items()}
        for each in keys:
            self._add(Key(**{**each, "scope": Scope(each["scope"])}))
        self.drop_expired()

    def _made_tokens(self) -> dict[str, str]:
        """The tokens of the default keys that go with the given secret: the same ones each time."""
        if not self._given:
            return {}
        # Slow by design, for people choose texts that can be guessed.
        raw = hashlib.scrypt(self._given.encode(), salt=b"enginery tokens", n=1 << 14, r=8, p=1, dklen=TOKEN * 2)
        return {name: raw[at * TOKEN :][:TOKEN].hex() for at, name in enumerate(DEFAULTS)}

    def _add(self, key: Key) -> None:
        self.keys[key.name] = key
        if key.public:
            self.allowed[key.scope.port].add(key.public)

    def _remove(self, key: Key) -> None:
        self.keys.pop(key.name, None)
        self.allowed[key.scope.port].discard(key.public)


def read_stored(path: Path) -> dict[str, object] | None:
    """What ``Keyring.save`` has written; None if there is nothing. Raises ConnectionFileError if it is damaged."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    require_private(path, "key file")
    try:
        stored = json.loads(text)
        Keyring().fill(None, stored)  # what cannot be used shall be said now
    except (ValueError, TypeError, KeyError) as error:
        msg = f"key file {str(path)!r} is damaged ({type(error).__name__}). Remove it to get new keys."
        raise ConnectionFileError(msg, path=str(path)) from None
    return dict(stored)
