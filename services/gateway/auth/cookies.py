"""The page's cookie: sealed, so that no server keeps a list of logins.

Does not know HTTP.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from services.gateway.auth.keys import KeyVerifier
from services.gateway.auth.seal import Seal
from services.gateway.auth.verifier import Principal, from_epoch

LIFE = timedelta(hours=12)
"""How long a login lasts, unless its token ends before."""


class CookieVerifier:
    """Accepts the cookies it makes.

    Args:
        seal: Made for cookies and nothing else.
        keys: Asked again about every login that an API key made.
    """

    def __init__(self, *, seal: Seal, keys: KeyVerifier) -> None:
        self._seal = seal
        self._keys = keys

    def make(self, principal: Principal) -> tuple[str, float]:
        """Return a cookie's value and when it ends, in seconds since the epoch."""
        return self._seal.seal(principal, life=LIFE)

    async def verify(self, token: str) -> Principal:
        """See `Verifier`."""
        principal, end = self._seal.open(token)
        if principal.key:
            await self._keys.require_good(principal)
        return replace(principal, expire_time=from_epoch(end))
