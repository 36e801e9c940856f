"""Tickets: open one WebSocket within 30 s, for pages that cannot send a header.

Does not know HTTP.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta

from moorline.session.v1 import keys_pb2
from services.gateway.auth.keys import KeyVerifier
from services.gateway.auth.seal import Seal
from services.gateway.auth.verifier import Principal
from services.gateway.pods import Caller
from services.gateway.upstream import GATEWAY

LIFE = timedelta(seconds=30)
"""How long a ticket waits to be used."""
_TIMEOUT = timedelta(seconds=5)
_METHOD = "/moorline.session.v1.KeyService/RedeemTicket"


class Tickets:
    """Makes tickets and accepts each once, at whichever gateway it is shown.

    Args:
        seal: Made for tickets and nothing else.
        peer: The session service, which knows those that were used.
        keys: Asked again about a ticket that an API key paid for.
        nonce: Returns a text that is never the same, 64 characters at most.
    """

    def __init__(
        self,
        *,
        seal: Seal,
        peer: Caller,
        keys: KeyVerifier,
        nonce: Callable[[], str],
    ) -> None:
        self._seal = seal
        self._peer = peer
        self._keys = keys
        self._nonce = nonce

    def make(self, principal: Principal) -> tuple[str, float]:
        """Return a ticket and when it ends, in seconds since the epoch."""
        return self._seal.seal(principal, life=LIFE, nonce=self._nonce())

    async def verify(self, token: str) -> Principal:
        """See `Verifier`. A good ticket is used up by this.

        The proof it gives ends with the one that paid for it. Fails as the session
        service does when it cannot be asked; the ticket may be used up then.
        """
        principal, end = self._seal.open(token)
        digest = hashlib.sha256(token.encode()).hexdigest()
        request = keys_pb2.RedeemTicketRequest(ticket=digest, redemption=self._nonce())
        request.expire_time.FromNanoseconds(int(end * 1e9))
        await self._peer.call(
            _METHOD, request, keys_pb2.RedeemTicketResponse, identity=GATEWAY, timeout=_TIMEOUT
        )
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
