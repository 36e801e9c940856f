"""How turns end or are refused, and what an outcome makes of a turn's record.

Does not know what leads to an outcome.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import turns_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.session.records import TurnRecord

Outcome = transcript_pb2.TurnOutcome

_STATES = {
    Outcome.STATE_FINISHED: turns_pb2.Turn.STATE_FINISHED,
    Outcome.STATE_CANCELLED: turns_pb2.Turn.STATE_CANCELLED,
    Outcome.STATE_FAILED: turns_pb2.Turn.STATE_FAILED,
    Outcome.STATE_LOST: turns_pb2.Turn.STATE_LOST,
}

UNHEARD = frozenset(
    {errors_pb2.ERROR_REASON_EXECUTION_LOST, errors_pb2.ERROR_REASON_SEQUENCE_UNKNOWN}
)
"""Reasons which say that a lost execution has done what nobody will hear of."""

_WHY_LOST = {
    errors_pb2.ERROR_REASON_RESOURCE_NOT_FOUND: ("Its executor was restarted, or never began it."),
    errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE: (
        "Its executor could not be reached for too long."
    ),
    errors_pb2.ERROR_REASON_CALL_TIMEOUT: "Its executor did not answer for too long.",
    errors_pb2.ERROR_REASON_DRAINING: "Its executor was shut down.",
    errors_pb2.ERROR_REASON_SEQUENCE_UNKNOWN: "Its executor has forgotten a part of it.",
}


def end_turn(turn: TurnRecord, outcome: transcript_pb2.TurnOutcome, now: datetime) -> None:
    """Bring a turn's record to the state that an outcome tells, and time the outcome."""
    began = turn.start_time or now
    outcome.duration.FromTimedelta(now - began)
    turn.state = _STATES.get(outcome.state, turns_pb2.Turn.STATE_FAILED)
    turn.end_time = now
    turn.error = outcome.error if outcome.HasField("error") else None
    turn.usage = outcome.usage if outcome.HasField("usage") else None


def outcome_label(turn: TurnRecord) -> str:
    """Return a final state as a metric's label, for example `finished`."""
    return turns_pb2.Turn.State.Name(turn.state).removeprefix("STATE_").lower()


def turn_exists(turn: TurnRecord) -> Failure:
    """Return why an id cannot be used for another prompt."""
    return Failure(
        errors_pb2.ERROR_REASON_RESOURCE_EXISTS,
        "This turn was created before with another prompt. Use a new id.",
        resource=str(turn.name),
    )


def queue_full(limit: int) -> Failure:
    """Return why no more turns may wait."""
    return Failure(
        errors_pb2.ERROR_REASON_QUEUE_FULL,
        f"{limit} turns wait already. Wait until one has ended.",
        limit=str(limit),
    )


def lost(failure: Failure) -> Failure:
    """Return why a turn's execution is given up.

    Args:
        failure: What following it ended with.
    """
    why = _WHY_LOST.get(failure.reason, failure.message)
    return Failure(errors_pb2.ERROR_REASON_EXECUTION_LOST, f"The execution is gone. {why}")


def moved() -> Failure:
    """Return why a subscription ends although its agent goes on, somewhere else."""
    return Failure(
        errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
        "The agent moved. Watch again from the last number seen.",
        retry_delay=timedelta(milliseconds=100),
        service="session",
    )


def unreachable() -> Failure:
    """Return why a turn could not begin."""
    return Failure(
        errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
        "The executor cannot be reached. Send the prompt again later.",
        service="executor",
    )


def conversation_lost() -> Failure:
    """Return why a turn could not go on with its agent's conversation."""
    return Failure(
        errors_pb2.ERROR_REASON_CONVERSATION_LOST,
        "The conversation could not be brought to where the agent runs now. Send the prompt"
        " again: it begins a new conversation with the same files.",
    )


def broken() -> Failure:
    """Return why a turn ended by a bug of ours, whose traceback is in the log."""
    return Failure(
        errors_pb2.ERROR_REASON_INTERNAL, "The turn failed inside. The server's log says why."
    )
