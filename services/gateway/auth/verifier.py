"""The extension point of authentication.

Does not know how a proof reaches the server.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.chassis.identity import Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who a client has proven to be.

    Attributes:
        user: `users/{user}`.
        expire_time: When the proof ends; None when it does not.
        admin: True when the user administers the platform.
        key: `users/{user}/keys/{key}` when an API key was the proof, else empty.
    """

    user: str
    expire_time: datetime | None = None
    admin: bool = False
    key: str = ""

    @property
    def identity(self) -> Identity:
        """As the other services are told."""
        return Identity(user=self.user, admin=self.admin, keyed=bool(self.key))

    def expired(self, now: float) -> bool:
        """True when the proof had ended at `now`, in seconds since the epoch."""
        return self.expire_time is not None and self.expire_time.timestamp() <= now


class Verifier(Protocol):
    """One way to prove who one is. Safe to call at any time, from many tasks."""

    async def verify(self, token: str) -> Principal:
        """Return whom a token names; called for every new connection.

        The same token is verified again, every few seconds, while a connection
        that an API key opened lives.

        Args:
            token: Anything a client may send, not trusted in any way.

        Raises:
            Failure: TOKEN_INVALID for a token that is malformed, unknown, expired
                or revoked, never saying which to a guesser;
                SERVICE_UNAVAILABLE when that cannot be found out now.
        """


class UntimelyFailure(Failure):
    """A TOKEN_INVALID of a token that is good but for its time, or that of our clock."""


def untimely() -> UntimelyFailure:
    """Return the failure of a token that has expired, or is not good yet."""
    failure = token_invalid()
    return UntimelyFailure(failure.reason, failure.message)


def token_invalid(message: str = "") -> Failure:
    """Return the failure of a token that proves nothing."""
    return Failure(
        errors_pb2.ERROR_REASON_TOKEN_INVALID,
        message or "The token is wrong, expired or revoked. Log in again, or use another token.",
    )


def from_epoch(seconds: float) -> datetime:
    """Return an instant given in seconds since the epoch."""
    return datetime.fromtimestamp(seconds, UTC)
