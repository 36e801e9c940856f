"""Why connections are closed, as WebSocket close codes.

1001, 1006, 1012, 1013 and 4000 to 4499 mean to a client: reconnect with backoff;
4500 to 4999: do not.
"""

from __future__ import annotations

from enum import IntEnum


class CloseCode(IntEnum):
    """The codes this server closes with."""

    SERVICE_RESTART = 1012
    SLOW_CONSUMER = 4002
    TOKEN_EXPIRED = 4003
    RATE_LIMITED = 4005
    NO_FIRST_FRAME = 4008
    BAD_FRAME = 4500
    UNAUTHENTICATED = 4501
    TOO_MANY_CONNECTIONS = 4506


REASON_BYTES = 123
"""Longest reason a close frame can carry; RFC 6455, section 5.5."""


def reason_bytes(reason: str) -> bytes:
    """Encode a reason, cut to what fits, never inside a character."""
    return reason.encode()[:REASON_BYTES].decode(errors="ignore").encode()
