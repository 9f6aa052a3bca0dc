"""Who asks: bearer keys, compared as SHA-256 in constant time, and what each key opens.

A key itself is held nowhere: the configuration has its SHA-256 or the name of the environment
variable to make one of. It does not know: HTTP, routes, what is asked.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from poise.config import Config, Key, environment_key
from poise.errors import UsageError
from poise.serve.refusals import Refusal

__all__ = ["Caller", "Keyring", "Scope", "may_use"]

Scope = Literal["chat", "outcomes", "metrics"]
"""What a key can open."""

_NOTHING = hashlib.sha256(b"").digest()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. Both None: anybody, where no key is configured."""

    key: Key | None
    name: str | None


class Keyring:
    """The keys that are known here. Without any, everybody is served: bind to loopback only."""

    def __init__(self, keys: Sequence[tuple[bytes, Key]]):
        """``keys``: pairs of a SHA-256 digest (32 bytes) and the key that it is of."""
        self._callers = tuple((digest, Caller(key, key.name)) for digest, key in keys)

    @classmethod
    def from_config(cls, config: Config) -> Keyring:
        """Read hashes and environment variables.

        Raises UsageError for a variable that is not set, for the hash of an empty key and for two
        names of one key.
        """
        named: dict[bytes, Key] = {}
        for key in config.key:
            digest = _digest(key)
            if digest == _NOTHING:
                raise UsageError(f"key {key.name!r}: sha256 is of an empty text; hash the key")
            if digest in named:
                raise UsageError(
                    f"keys {named[digest].name!r} and {key.name!r} are the same key; make a new one"
                )
            named[digest] = key
        return cls(tuple(named.items()))

    @property
    def is_empty(self) -> bool:
        """Whether no key is configured, so that everybody who gets here is served."""
        return not self._callers

    def caller(self, authorization: str | None, scope: Scope) -> Caller:
        """Whose key the ``Authorization`` header (None: not sent) holds.

        Raises Refusal: 401 without a known key, 403 where it does not open ``scope``.
        """
        if not self._callers:
            return Caller(None, None)
        scheme, _, token = (authorization or "").strip().partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise _unknown("no key was sent; send it in the header Authorization: Bearer KEY")
        # Servers read header bytes as Latin-1: encoding so gives the bytes that were sent.
        sent = hashlib.sha256(token.encode("latin-1", "backslashreplace")).digest()
        found: Caller | None = None
        for digest, caller in self._callers:  # all of them, so that time does not tell which
            if hmac.compare_digest(digest, sent):
                found = caller
        if found is None or found.key is None:
            raise _unknown("this key is not known here; check it, or ask the operator for one")
        if scope not in found.key.scopes:
            raise _forbidden(
                f"key {found.name!r} does not open {scope}; ask the operator to add it to its"
                " scopes",
                code="scope",
            )
        return found


def may_use(caller: Caller, alias_name: str) -> Refusal | None:
    """None where ``caller`` may name the alias, else the refusal (403) to raise."""
    if caller.key is None or not caller.key.aliases or alias_name in caller.key.aliases:
        return None
    have = ", ".join(caller.key.aliases)
    return _forbidden(f"key {caller.name!r} may not use that model; it may use: {have}", "model")


def _digest(key: Key) -> bytes:
    """The SHA-256 of a configured key. Raises UsageError for a variable that is not set."""
    if key.sha256 is not None:
        return bytes.fromhex(key.sha256)
    held = environment_key(key.env)
    assert held is not None, "a key has sha256 or env"
    return hashlib.sha256(held.encode()).digest()


def _unknown(message: str) -> Refusal:
    return Refusal(401, message, "authentication_error", "invalid_api_key")


def _forbidden(message: str, code: str) -> Refusal:
    param = "model" if code == "model" else None
    return Refusal(403, message, "permission_error", code, param)
