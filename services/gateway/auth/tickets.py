"""Tickets: open one WebSocket within 30 s, for pages that cannot send a header.

Does not know HTTP.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta

from services.gateway.auth.keys import KeyVerifier
from services.gateway.auth.seal import Seal
from services.gateway.auth.verifier import Principal, token_invalid

LIFE = timedelta(seconds=30)
"""How long a ticket waits to be used."""
_MAX_USED = 100_000


class Tickets:
    """Makes tickets and accepts each once.

    Once for each gateway: they do not tell each other which were used. The 30 s
    bound what that is worth to a thief.

    Args:
        seal: Made for tickets and nothing else.
        keys: Asked again about a ticket that an API key paid for.
        nonce: Returns a text that is never the same.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        *,
        seal: Seal,
        keys: KeyVerifier,
        nonce: Callable[[], str],
        clock: Callable[[], float],
    ) -> None:
        self._seal = seal
        self._keys = keys
        self._nonce = nonce
        self._clock = clock
        # By digest of a used ticket, in the order of use: when it may be forgotten.
        self._used: dict[bytes, float] = {}

    def make(self, principal: Principal) -> tuple[str, float]:
        """Return a ticket and when it ends, in seconds since the epoch."""
        return self._seal.seal(principal, life=LIFE, nonce=self._nonce())

    async def verify(self, token: str) -> Principal:
        """See `Verifier`. A good ticket is used up by this.

        The proof it gives ends with the one that paid for it.
        """
        principal, _ = self._seal.open(token)
        now = self._clock()
        self._forget(now)
        digest = hashlib.sha256(token.encode()).digest()
        if digest in self._used or len(self._used) >= _MAX_USED:
            raise token_invalid("The ticket was used before. Ask for another one.")
        self._used[digest] = now + LIFE.total_seconds()
        if principal.key:
            await self._keys.require_good(principal)
        return principal

    async def verify_again(self, principal: Principal) -> Principal:
        """Check that the API key behind a used ticket is still good.

        Raises:
            Failure: As `verify`.
        """
        await self._keys.require_good(principal)
        return principal

    def _forget(self, now: float) -> None:
        for digest, end in list(self._used.items()):
            if end > now:
                return
            del self._used[digest]
