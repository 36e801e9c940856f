"""API keys, checked by the session service and remembered for moments.

Does not know how a key is stored or hashed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from datetime import UTC, timedelta

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import keys_pb2
from services.chassis.failures import Failure
from services.chassis.identity import Identity
from services.gateway.auth.verifier import Principal, token_invalid
from services.gateway.pods import Caller

GOOD_SECONDS = 5.0
"""How long a good key is believed in without asking."""
BAD_SECONDS = 1.0
"""How long a bad key is refused without asking."""
_CACHE_SIZE = 4096
_SHAPE = re.compile(r"moorline_[a-z0-9]{8,16}_[A-Za-z0-9]{16,128}")
_TIMEOUT = timedelta(seconds=5)
_SERVICE = "/moorline.session.v1.KeyService/"
_SELF = Identity(user="services/gateway")


class KeyVerifier:
    """Accepts API keys.

    Args:
        peer: The session service.
        clock: Seconds since the epoch.
        monotonic: Seconds of a clock that does not go back.
    """

    def __init__(
        self, *, peer: Caller, clock: Callable[[], float], monotonic: Callable[[], float]
    ) -> None:
        self._peer = peer
        self._clock = clock
        self._monotonic = monotonic
        # By digest of a secret, or by name of a key: what was found, and until when
        # to believe it. None for a bad one. Secrets themselves are not kept.
        self._known: dict[str, tuple[Principal | None, float]] = {}
        # By name of a key that was just revoked: until when to refuse it whatever is known.
        self._revoked: dict[str, float] = {}

    async def verify(self, token: str) -> Principal:
        """See `Verifier`. Asks the session service, unless it has just answered."""
        if _SHAPE.fullmatch(token) is None:
            raise token_invalid()
        digest = hashlib.sha256(token.encode()).hexdigest()
        if digest not in self._known or self._known[digest][1] <= self._monotonic():
            self._remember(digest, await self._ask(token))
        return self._recall(digest)

    async def require_good(self, principal: Principal) -> None:
        """Check that the API key somebody logged in with is still good.

        Raises:
            Failure: TOKEN_INVALID when it was revoked or deleted;
                SERVICE_UNAVAILABLE when the session service cannot be asked.
        """
        name = principal.key
        if name not in self._known or self._known[name][1] <= self._monotonic():
            listed = await self._peer.call(
                _SERVICE + "ListKeys",
                keys_pb2.ListKeysRequest(parent=principal.user),
                keys_pb2.ListKeysResponse,
                identity=Identity(user=principal.user),
                timeout=_TIMEOUT,
            )
            good = (key for key in listed.keys if not key.HasField("revoke_time"))
            found = next((_principal(key) for key in good if key.name == name), None)
            self._remember(name, found)
        self._recall(name)

    def revoked(self, name: str) -> None:
        """Believe in a key no longer, also if an answer on its way calls it good.

        Args:
            name: `users/{user}/keys/{key}`; the session service has revoked it.
        """
        now = self._monotonic()
        if name not in self._revoked:
            self._revoked = {key: end for key, end in self._revoked.items() if end > now}
        self._revoked[name] = now + _TIMEOUT.total_seconds() + GOOD_SECONDS

    async def _ask(self, token: str) -> Principal | None:
        try:
            answer = await self._peer.call(
                _SERVICE + "VerifyKey",
                keys_pb2.VerifyKeyRequest(secret=token),
                keys_pb2.VerifyKeyResponse,
                identity=_SELF,
                timeout=_TIMEOUT,
            )
        except Failure as failure:
            if failure.reason != errors_pb2.ERROR_REASON_TOKEN_INVALID:
                raise
            return None
        return _principal(answer.key)

    def _remember(self, name: str, principal: Principal | None) -> None:
        now = self._monotonic()
        if len(self._known) >= _CACHE_SIZE:
            self._known = {key: entry for key, entry in self._known.items() if entry[1] > now}
        if len(self._known) >= _CACHE_SIZE:
            self._known.clear()
        life = BAD_SECONDS if principal is None else GOOD_SECONDS
        self._known[name] = (principal, now + life)

    def _recall(self, name: str) -> Principal:
        principal, _ = self._known[name]
        now = self._monotonic()
        if principal is None or principal.expired(self._clock()):
            raise token_invalid()
        if self._revoked.get(principal.key, now) > now:
            raise token_invalid()
        return principal


def _principal(key: keys_pb2.Key) -> Principal:
    expire_time = None
    if key.HasField("expire_time"):
        expire_time = key.expire_time.ToDatetime(tzinfo=UTC)
    return Principal(user=key.name.partition("/keys/")[0], expire_time=expire_time, key=key.name)
