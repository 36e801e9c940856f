"""Why a connection did not come about or ended, and whether to try again.

Does not know calls: it maps HTTP statuses and close codes to exceptions.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType

from moorline import exceptions

# Reconnecting starts within a quarter of a second and slows down to 5 s, so
# that a restarted server is found at once and a dead one is left in peace.
FIRST_DELAY = timedelta(milliseconds=250)
LONGEST_DELAY = timedelta(seconds=5)

# Outside 4000–4499, which all mean "again": RFC 6455 section 7.4.1 for the
# meanings. A protocol violation (1002, 1003, 1007–1010) would repeat itself.
_AGAIN_BELOW_4000 = frozenset({1000, 1001, 1005, 1006, 1011, 1012, 1013, 1014})
_OVERLOADED = frozenset({1013, 4005, 4006})
_OVERLOAD_DELAY = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a connection ended.

    Attributes:
        error: What a caller is told.
        again: True when connecting again may help.
        delay: Wait at least this long before.
    """

    error: exceptions.MoorlineError
    again: bool
    delay: timedelta = timedelta(0)


class HungUp(Exception):  # noqa: N818 - never leaves the package
    """There is no connection, or no longer."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.error.message)
        self.ending = ending


def backoff(failures: int) -> timedelta:
    """Delay before the next attempt, at random between 0 and a doubling limit.

    Full jitter, so that a thousand clients of one restarted server come back
    spread out.

    Args:
        failures: Attempts that failed in a row, 0 for the first one.
    """
    limit = min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(failures, 10))
    return timedelta(seconds=random.uniform(0, limit.total_seconds()))  # noqa: S311 - spreads load


def ended_by_status(status: int, headers: Mapping[str, str], body: bytes) -> Ending:
    """Judge a refused upgrade.

    Args:
        status: HTTP status.
        headers: Of the answer; `Retry-After` in seconds is honoured.
        body: An `errors.v1.Error` in JSON, or anything.
    """
    seconds = headers.get("Retry-After", "")
    retry_after = timedelta(seconds=int(seconds)) if seconds.isdigit() else None
    kind, reason, code = _BY_STATUS.get(
        status,
        (exceptions.ConnectionLostError, "SERVICE_UNAVAILABLE", 14)
        if status >= 500
        else (exceptions.ProtocolError, "METHOD_UNKNOWN", 12),
    )
    message, reason = _read_refusal(body, status, reason)
    error = kind(message, reason=reason, code=code, retry_after=retry_after)
    return Ending(
        error=error, again=status == 429 or status >= 500, delay=retry_after or timedelta(0)
    )


def ended_by_close(code: int, reason: str) -> Ending:
    """Judge a closed connection by its close code.

    Args:
        code: As received; 1006 when the connection just broke.
        reason: The server's words; may be empty.
    """
    words = reason or f"close code {code}"
    if code in _AGAIN_BELOW_4000 or 4000 <= code <= 4499:
        delay = _OVERLOAD_DELAY if code in _OVERLOADED else timedelta(0)
        return Ending(error=lost(f"The connection ended: {words}."), again=True, delay=delay)
    kind, name, number = _BY_CLOSE_CODE.get(code, (exceptions.ProtocolError, "FIELD_INVALID", 3))
    error = kind(f"The server closed the connection for good: {words}.", reason=name, code=number)
    return Ending(error=error, again=False)


def lost(message: str) -> exceptions.ConnectionLostError:
    """Say that there is no connection."""
    return exceptions.ConnectionLostError(message, reason="SERVICE_UNAVAILABLE", code=14)


def _read_refusal(body: bytes, status: int, reason: str) -> tuple[str, str]:
    try:
        error = json.loads(body)
        error = error.get("error", error)
        message = str(error["message"])
    except (ValueError, KeyError, AttributeError, TypeError):
        return f"The server refused the connection with HTTP {status}.", reason
    return message, str(error.get("reason", reason)).removeprefix("ERROR_REASON_")


_Kind = tuple[type[exceptions.MoorlineError], str, int]

_BY_STATUS: Mapping[int, _Kind] = MappingProxyType(
    {
        401: (exceptions.AuthenticationError, "TOKEN_INVALID", 16),
        403: (exceptions.PermissionDeniedError, "FORBIDDEN", 7),
        429: (exceptions.RateLimitedError, "RATE_LIMITED", 8),
        503: (exceptions.UnavailableError, "SERVICE_UNAVAILABLE", 14),
    }
)

_BY_CLOSE_CODE: Mapping[int, _Kind] = MappingProxyType(
    {
        4501: (exceptions.AuthenticationError, "TOKEN_INVALID", 16),
        4502: (exceptions.PermissionDeniedError, "FORBIDDEN", 7),
        4503: (exceptions.ProtocolError, "METHOD_UNKNOWN", 12),
        4506: (exceptions.RateLimitedError, "QUOTA_EXCEEDED", 8),
    }
)
