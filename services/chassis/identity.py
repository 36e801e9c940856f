"""Who a call is made for, signed by the caller's service, checked by the callee's.

Does not know how a user was authenticated, and owns no resource names.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from joserfc import jwk, jwt
from joserfc.errors import JoseError

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure

METADATA_KEY = "moorline-identity"
"""gRPC metadata key that carries the token."""

_ALGORITHM = "HS256"
_ISSUER = "moorline"
_LIFETIME = 60.0
# A token leaves with at least half its life, so clocks may differ by that much.
_REUSE = 30.0
# A token of somebody whose clock is further ahead would live for too long.
_MOST_AHEAD = 600.0
TIME_KEY = "time"
"""Metadata of TOKEN_INVALID for a token whose only fault is its time: the checker's seconds since
the epoch, signed. Tells the owner of the key, and nobody else, how much the clocks differ; and
whoever lacks the key gets no token for a time of their choice."""

_KEY_LENGTH = 32


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a call is made for.

    Attributes:
        user: `users/{user}`, or `services/{service}` when a service acts for
            itself.
        admin: True when the user may see what belongs to the platform.
        keyed: True when the user was authenticated by an API key.
    """

    user: str
    admin: bool = False
    keyed: bool = False


class Signer:
    """Makes the tokens a service sends along with its calls.

    Args:
        key: Key shared by all services, at least 32 characters.
        clock: Seconds since the epoch.
        cache_size: How many tokens are remembered.
    """

    def __init__(
        self, *, key: str, clock: Callable[[], float] = time.time, cache_size: int = 10_000
    ) -> None:
        self._cache_size = cache_size
        self._key = _import_key(key)
        self._clock = clock
        self._tokens: dict[tuple[Identity, int], tuple[str, float]] = {}

    def token(self, identity: Identity, offset_seconds: int = 0) -> str:
        """Return a token with at least 30 s left to live.

        Args:
            identity: Whom it names.
            offset_seconds: How much the checker's clock is ahead of ours.
        """
        now, key = self._clock(), (identity, offset_seconds)
        cached = self._tokens.get(key)
        if cached is not None and now < cached[1]:
            return cached[0]
        claims = {
            "iss": _ISSUER,
            "sub": identity.user,
            "exp": int(now + offset_seconds + _LIFETIME),
            "admin": identity.admin,
            "keyed": identity.keyed,
        }
        token = jwt.encode({"alg": _ALGORITHM}, claims, self._key, algorithms=[_ALGORITHM])
        _make_room(self._tokens, now, self._cache_size)
        self._tokens[key] = (token, now + _REUSE)
        return token

    def offset_seconds(self, failure: Failure) -> int | None:
        """Return how much a checker's clock is ahead of ours, by what it refused.

        None when it refused something else than the time of a token.
        """
        told = failure.metadata.get(TIME_KEY, "")
        if failure.reason != errors_pb2.ERROR_REASON_TOKEN_INVALID or not told:
            return None
        try:
            time_there = jwt.decode(told, self._key, algorithms=[_ALGORITHM]).claims.get("time")
        except (JoseError, ValueError):
            return None
        # Without it, it is somebody's identity, which says nothing about the time there.
        return time_there - round(self._clock()) if isinstance(time_there, int) else None


class Checker:
    """Checks the tokens that come with calls.

    Args:
        key: Key shared by all services, at least 32 characters.
        clock: Seconds since the epoch.
        cache_size: How many tokens are remembered.
    """

    def __init__(
        self, *, key: str, clock: Callable[[], float] = time.time, cache_size: int = 10_000
    ) -> None:
        self._cache_size = cache_size
        self._key = _import_key(key)
        self._clock = clock
        self._identities: dict[str, tuple[Identity, float]] = {}

    def check(self, token: str) -> Identity:
        """Return whom a token names.

        Raises:
            Failure: TOKEN_INVALID when it is not ours, has expired or lives for too
                long. Never says what the token was. For a token that is ours
                the metadata says what time it is here.
        """
        now = self._clock()
        cached = self._identities.get(token)
        # The time again, too: the clock may have been set back meanwhile.
        if cached is not None and _is_timely(cached[1], now):
            return cached[0]
        identity, expiry = self._decode(token)
        if not _is_timely(expiry, now):
            failure = _invalid("The identity token has expired. Call again with a new one.")
            claims = {"iss": _ISSUER, "time": round(now)}
            told = jwt.encode({"alg": _ALGORITHM}, claims, self._key, algorithms=[_ALGORITHM])
            failure.metadata[TIME_KEY] = told
            raise failure
        _make_room(self._identities, now, self._cache_size)
        self._identities[token] = (identity, expiry)
        return identity

    def _decode(self, token: str) -> tuple[Identity, float]:
        try:
            claims = jwt.decode(token, self._key, algorithms=[_ALGORITHM]).claims
        except (JoseError, ValueError):
            # `from None`: the library's message may quote the token.
            raise _invalid("The identity token is not valid.") from None
        user, expiry = claims.get("sub"), claims.get("exp")
        if claims.get("iss") != _ISSUER or not isinstance(user, str) or not isinstance(expiry, int):
            raise _invalid("The identity token is not valid.")
        admin, keyed = claims.get("admin") is True, claims.get("keyed") is True
        return Identity(user=user, admin=admin, keyed=keyed), float(expiry)


_caller: ContextVar[Identity] = ContextVar("caller")


def caller() -> Identity:
    """Return whom the call in progress is made for.

    Raises:
        LookupError: No call is in progress.
    """
    return _caller.get()


def act_as(identity: Identity) -> None:
    """Make `identity` the caller for the rest of the running task."""
    _caller.set(identity)


def _is_timely(expiry: float, now: float) -> bool:
    return 0 < expiry - now <= _MOST_AHEAD + _LIFETIME


def _invalid(message: str) -> Failure:
    return Failure(errors_pb2.ERROR_REASON_TOKEN_INVALID, message)


def _import_key(key: str) -> jwk.OctKey:
    if len(key) < _KEY_LENGTH:
        raise ValueError(f"the identity key must have at least {_KEY_LENGTH} characters")
    return jwk.OctKey.import_key(key)


def _make_room(cache: dict[Any, tuple[Any, float]], now: float, size: int) -> None:
    if len(cache) < size:
        return
    for key in [key for key, (_, expiry) in cache.items() if expiry <= now]:
        del cache[key]
    if len(cache) >= size:
        cache.clear()
