"""How the command ends: the exit codes, which are stable and documented in `--help`.

Does not know where they are raised.
"""

from __future__ import annotations

from enum import IntEnum

from moorline import exceptions
from moorline.events import OutcomeState, TurnOutcome


class Exit(IntEnum):
    """What the exit code of `moorline` means."""

    OK = 0
    FAILED = 1
    USAGE = 2
    STOPPED = 3
    FORBIDDEN = 4
    NEEDS_PERMISSION = 5
    LIMITED = 6
    UNREACHABLE = 7
    INTERRUPTED = 130


HELP = """\b
Exit codes:
  0    done
  1    the turn, or the command, failed
  2    wrong usage, or no such thing
  3    the turn was cancelled, or ran out of time
  4    not authenticated, or not allowed
  5    a permission was needed and nobody was there to give it
  6    a limit is reached or a part is unavailable: try again later
  7    the server cannot be reached
  130  interrupted by Ctrl-C"""

_BY_KIND: tuple[tuple[type[exceptions.MoorlineError], Exit], ...] = (
    (exceptions.AuthenticationError, Exit.FORBIDDEN),
    (exceptions.PermissionDeniedError, Exit.FORBIDDEN),
    (exceptions.NotFoundError, Exit.USAGE),
    (exceptions.InvalidRequestError, Exit.USAGE),
    (exceptions.SequenceUnknownError, Exit.USAGE),
    (exceptions.RateLimitedError, Exit.LIMITED),
    (exceptions.UnavailableError, Exit.LIMITED),
    (exceptions.CallTimeoutError, Exit.LIMITED),
    (exceptions.ConnectionLostError, Exit.UNREACHABLE),
)

# A turn that failed for one of these may well finish another time.
_LIMITS = frozenset(
    {
        "BUDGET_EXHAUSTED",
        "EXECUTOR_CAPACITY",
        "PROVIDER_OVERLOADED",
        "PROVIDER_RATE_LIMITED",
        "QUOTA_EXCEEDED",
        "RATE_LIMITED",
        "SESSION_CAPACITY",
    }
)


def exit_of_error(error: exceptions.MoorlineError) -> Exit:
    """Exit code for a call that was refused."""
    for kind, code in _BY_KIND:
        if isinstance(error, kind):
            return code
    return Exit.FAILED


def exit_of_outcome(outcome: TurnOutcome) -> Exit:
    """Exit code for a turn that ended."""
    if outcome.state is OutcomeState.FINISHED:
        return Exit.OK
    if outcome.state is OutcomeState.CANCELLED:
        return Exit.STOPPED
    reason = outcome.error.reason if outcome.error else ""
    if reason == "TURN_TIMEOUT":
        return Exit.STOPPED
    return Exit.LIMITED if reason in _LIMITS else Exit.FAILED
