"""One token for one machine: whoever has it is `users/dev` and administers.

For loopback only; `settings.py` refuses everything else.
"""

from __future__ import annotations

import hmac

from services.gateway.auth.verifier import Principal, token_invalid

USER = "users/dev"
"""The user of development."""


class DevelopmentVerifier:
    """Accepts exactly one token.

    Args:
        token: The token.
    """

    def __init__(self, *, token: str) -> None:
        self._token = token.encode()

    async def verify(self, token: str) -> Principal:
        """See `Verifier`."""
        if not hmac.compare_digest(token.encode(errors="replace"), self._token):
            raise token_invalid()
        return Principal(user=USER, admin=True)
