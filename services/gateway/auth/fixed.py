"""One token that is written down: whoever has it is one user, and administers.

Does not know where it may be used; `settings.py` refuses what is unsafe.
"""

from __future__ import annotations

import hmac

from services.gateway.auth.verifier import Principal, token_invalid

DEVELOPER = "users/dev"
"""The user of development, on loopback only."""
ADMINISTRATOR = "users/admin"
"""The user of the administrator's token."""


class FixedVerifier:
    """Accepts exactly one token.

    Args:
        token: The token, never empty.
        user: Whom it names, `users/{user}`.
    """

    def __init__(self, *, token: str, user: str) -> None:
        self._token = token.encode()
        self._user = user

    async def verify(self, token: str) -> Principal:
        """See `Verifier`."""
        if not hmac.compare_digest(token.encode(errors="replace"), self._token):
            raise token_invalid()
        return Principal(user=self._user, admin=True)
