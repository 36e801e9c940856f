"""Short texts that only this platform can have made: cookies and tickets.

Any gateway can read what any other has sealed: they share the identity key. Does
not know what is sealed, and does not hide it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from datetime import timedelta

import orjson

from services.gateway.auth.verifier import Principal, from_epoch, token_invalid, untimely


class Seal:
    """Seals a principal for a purpose and a time.

    Args:
        key: Key shared by all gateways.
        purpose: A seal of one purpose is worth nothing for another.
        clock: Seconds since the epoch.
    """

    def __init__(self, *, key: str, purpose: str, clock: Callable[[], float]) -> None:
        self._key = hmac.digest(key.encode(), f"moorline gateway {purpose}".encode(), "sha256")
        self._clock = clock

    def seal(self, principal: Principal, *, life: timedelta, nonce: str = "") -> tuple[str, float]:
        """Return the sealed text and when it ends, in seconds since the epoch.

        Args:
            principal: Whom it names. It does not outlive the principal's own proof.
            life: How long it is good otherwise.
            nonce: Makes the text different from every other one.
        """
        end = self._clock() + life.total_seconds()
        proof_end = None
        if principal.expire_time is not None:
            proof_end = principal.expire_time.timestamp()
            end = min(end, proof_end)
        content = _encode(
            orjson.dumps([principal.user, principal.admin, principal.key, proof_end, end, nonce])
        )
        return f"{content}.{self._sign(content)}", end

    def open(self, text: str) -> tuple[Principal, float]:
        """Return whom a sealed text names, and when the text ends.

        Raises:
            Failure: TOKEN_INVALID when it is not ours or has ended.
        """
        content, _, signature = text.partition(".")
        expected = self._sign(content).encode()
        if not hmac.compare_digest(expected, signature.encode(errors="replace")):
            raise token_invalid()
        user, admin, key, proof_end, end, _ = orjson.loads(
            base64.urlsafe_b64decode(content + "=" * (-len(content) % 4))
        )
        if end <= self._clock():
            raise untimely()
        expire_time = None if proof_end is None else from_epoch(proof_end)
        return Principal(user=user, admin=admin, key=key, expire_time=expire_time), end

    def _sign(self, content: str) -> str:
        return _encode(hmac.digest(self._key, content.encode(errors="replace"), hashlib.sha256))


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
