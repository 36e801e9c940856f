"""The exceptions of the client, one tree; what to catch tells what to do.

Does not know the socket or any call: it turns the facts of an error into the
exception that fits them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from moorline.decoding import parse_duration, strip_prefix

if TYPE_CHECKING:
    from moorline.events import TurnOutcome

_NOTHING: Mapping[str, str] = MappingProxyType({})

# Reasons that ask for the same call again although their code alone does not.
_RETRYABLE_REASONS = frozenset({"FENCED"})


class MoorlineError(Exception):
    """Anything the platform or the connection to it refused.

    Attributes:
        message: One English sentence: what failed and what to do.
        reason: The cause, a name of `errors.v1.ErrorReason` without its prefix,
            for example `QUEUE_FULL`. Act on this.
        code: Canonical gRPC status code, 1 to 16; for a reason not yet known.
        retryable: True when the same call may succeed later.
        retry_after: Wait at least this long before; None when nothing is said.
        metadata: Facts about this failure, for example `limit`.
        repeated: True when the client had sent the call before and does not
            know whether that did something.
    """

    repeated = False

    def __init__(
        self,
        message: str,
        *,
        reason: str = "INTERNAL",
        code: int = 13,
        retry_after: timedelta | None = None,
        metadata: Mapping[str, str] = _NOTHING,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.code = code
        self.retry_after = retry_after
        self.metadata = metadata

    @property
    def retryable(self) -> bool:
        """True when the same call may succeed later."""
        return self.code == 14 or self.retry_after is not None or self.reason in _RETRYABLE_REASONS

    def __str__(self) -> str:
        return f"{self.message} [{self.reason}]"


class AuthenticationError(MoorlineError):
    """The token is missing, wrong, expired or revoked: get another one."""


class PermissionDeniedError(MoorlineError):
    """The platform knows who you are, and you may not do this."""


class NotFoundError(MoorlineError):
    """It does not exist, or belongs to somebody else; the platform does not say which."""


class InvalidRequestError(MoorlineError):
    """A value sent is wrong; `metadata["field"]` names it."""


class ConflictError(MoorlineError):
    """The state of things does not allow it: look again, then decide.

    Among the reasons: `RESOURCE_EXISTS` (the same id was used with other
    content), `ETAG_MISMATCH`, `TURN_FINISHED`, `PERMISSION_RESOLVED` (somebody
    answered before), `BACKEND_UNAVAILABLE`.
    """


class SequenceUnknownError(MoorlineError):
    """The position asked for is not in this history.

    Forget what you keep of the agent and read from 0. `metadata["headSequence"]`
    is the newest number there is.
    """


class RateLimitedError(MoorlineError):
    """A limit is reached; it passes by waiting when `retry_after` is set."""


class UnavailableError(MoorlineError):
    """A part of the platform cannot answer now; the same call may succeed later."""


class CallTimeoutError(MoorlineError):
    """The answer did not come in time; for a call with an id of yours, ask again."""


class ConnectionLostError(MoorlineError):
    """The server cannot be reached, or went away and did not come back in time."""


class ProtocolError(MoorlineError):
    """The two sides do not understand each other: update the older one."""


class ServerError(MoorlineError):
    """The platform failed by itself; `metadata["errorId"]` finds its log line."""


class TurnFailedError(MoorlineError):
    """A turn ended other than finished.

    Attributes:
        outcome: How it ended.
    """

    def __init__(self, outcome: TurnOutcome) -> None:
        error = outcome.error
        super().__init__(
            error.message if error else f"The turn was {outcome.state.value}.",
            reason=error.reason if error else "CALL_CANCELLED",
            code=error.code if error else 1,
            retry_after=error.retry_after if error else None,
            metadata=error.metadata if error else _NOTHING,
        )
        self.outcome = outcome


_BY_CODE: Mapping[int, type[MoorlineError]] = MappingProxyType(
    {
        3: InvalidRequestError,
        4: CallTimeoutError,
        5: NotFoundError,
        6: ConflictError,
        7: PermissionDeniedError,
        8: RateLimitedError,
        9: ConflictError,
        10: ConflictError,
        11: SequenceUnknownError,
        12: ProtocolError,
        14: UnavailableError,
        16: AuthenticationError,
    }
)


def from_error(error: Mapping[str, Any]) -> MoorlineError:
    """Turn an `errors.v1.Error` in JSON into the exception that fits it."""
    code = error.get("code", 13)
    return _BY_CODE.get(code, ServerError)(
        str(error.get("message", "The server gave no reason.")),
        reason=strip_prefix(error.get("reason", 0), "ERROR_REASON_"),
        code=code,
        retry_after=parse_duration(error.get("retryDelay")),
        metadata=MappingProxyType(dict(error.get("metadata", {}))),
    )
