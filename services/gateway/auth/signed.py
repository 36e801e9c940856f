"""Tokens signed by an identity provider: JSON web tokens.

Accepts public-key signatures only, so that nobody who can read the provider's
keys can sign. Does not know where the keys come from.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Collection
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import JoseError, SecurityWarning

from services.gateway.auth.jwks import ALGORITHMS, Jwks
from services.gateway.auth.verifier import Principal, from_epoch, token_invalid, untimely
from services.gateway.names import USER_ID

LEEWAY = 30.0
"""Seconds by which the provider's clock may be ahead of ours."""
_HASH_CHARACTERS = 32
_LAST_TIME = 2**37  # in the year 6325; `datetime` goes to 9999


class SignedVerifier:
    """Accepts signed tokens.

    Args:
        keys: The provider's keys.
        issuer: Required `iss`.
        audience: Required `aud`, alone or in a list.
        user_claim: The claim that names the user.
        admins: Ids of the users who administer.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        *,
        keys: Jwks,
        issuer: str,
        audience: str,
        user_claim: str,
        admins: Collection[str],
        clock: Callable[[], float],
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._user_claim = user_claim
        self._admins = frozenset(admins)
        self._clock = clock

    async def verify(self, token: str) -> Principal:
        """See `Verifier`."""
        if token.count(".") != 2:
            raise token_invalid()
        # `from None` below: the library's messages may quote the token.
        try:
            header: Any = jws.extract_compact(token.encode(errors="replace")).protected
        except (JoseError, ValueError):
            raise token_invalid() from None
        if not isinstance(header, dict):
            raise token_invalid()
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or not isinstance(kid, str | None):
            raise token_invalid()
        if algorithm not in ALGORITHMS:
            raise token_invalid()
        key = await self._keys.find(kid, algorithm)
        try:
            with warnings.catch_warnings(category=SecurityWarning, action="ignore"):
                # It warns of the older name of Ed25519, which is what providers use.
                claims = jwt.decode(token, key, algorithms=[algorithm]).claims
        except (JoseError, ValueError):
            raise token_invalid() from None
        return self._principal(claims)

    def _principal(self, claims: dict[str, Any]) -> Principal:
        now = self._clock()
        issuer, audience = claims.get("iss"), claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        end, start = claims.get("exp"), claims.get("nbf", 0)
        if issuer != self._issuer or self._audience not in audiences:
            raise token_invalid()
        if not isinstance(end, int | float) or not isinstance(start, int | float):
            raise token_invalid()
        if not end < _LAST_TIME:
            raise token_invalid()
        if end <= now or start > now + LEEWAY:
            raise untimely()
        user = self._user(claims.get(self._user_claim))
        return Principal(
            user=f"users/{user}", expire_time=from_epoch(end), admin=user in self._admins
        )

    def _user(self, subject: Any) -> str:
        if not isinstance(subject, str) or not subject:
            raise token_invalid()
        # A subject that looks like one of our hashes could be somebody else's.
        if USER_ID.fullmatch(subject) and not subject.startswith("u-"):
            return subject
        digest = hashlib.sha256(f"{self._issuer}\0{subject}".encode()).hexdigest()
        return f"u-{digest[:_HASH_CHARACTERS]}"
