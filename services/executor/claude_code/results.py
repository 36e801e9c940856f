"""What the end of a turn or a process of Claude Code means: how, why, and what it cost.

Does not know processes, books or turns.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from moorline.errors.v1 import errors_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.executor.agent_process import Result
from services.executor.channel import Exit

_RETRY_DELAY = timedelta(seconds=10)
"""Told with failures of the provider that pass by waiting; the CLI has retried for a while."""

_INT32_MAX = 2**31 - 1


def outcome(frame: dict[str, Any]) -> tuple[Result, Failure | None]:
    """Tell how the turn of a result frame ended.

    The subtype is "success" on a refused credential too, so `is_error`, `terminal_reason` and
    `api_error_status` decide, in this order.

    Args:
        frame: A frame of type `result`.
    """
    if not frame.get("is_error"):
        return Result.FINISHED, None
    terminal = str(frame.get("terminal_reason") or "")
    if terminal.startswith("aborted"):
        return Result.INTERRUPTED, None
    return Result.FAILED, _failure(frame, terminal)


def answers(frame: dict[str, Any], message_id: str) -> bool:
    """Tell whether a result belongs to a message of ours; results of background work do not."""
    answered = [frame.get("user_message_uuid"), *(frame.get("user_message_uuids") or ())]
    if any(answered):
        return message_id in answered
    return not frame.get("origin")


def crash(ended: Exit | None) -> Failure:
    """Return what the end of a process is for whoever did not want it.

    Args:
        ended: How it ended; None when nobody knows.
    """
    code = "unknown" if ended is None or ended.code is None else str(ended.code)
    reason = "lost" if ended is None else ended.reason.value
    return Failure(
        errors_pb2.ERROR_REASON_AGENT_CRASHED,
        f"The agent process ended abnormally: {reason}, exit code {code}.",
        exitCode=code,
        exitReason=reason,
    )


def usage(frame: dict[str, Any], *, cost_before: float) -> transcript_pb2.Usage:
    """Tell what was consumed since the result before this one.

    The total is lost when a process is killed, so the difference the CLI reports is used, and
    the total only when a version does not report it.

    Args:
        frame: A frame of type `result`.
        cost_before: `total_cost_usd` of the result before.
    """
    per_model = frame.get("model_usage_since_last_result")
    if per_model is None:
        total = frame.get("usage") or {}
        cost = float(frame.get("total_cost_usd") or 0.0) - cost_before
        return _usage(
            total.get("input_tokens"),
            total.get("output_tokens"),
            total.get("cache_read_input_tokens"),
            total.get("cache_creation_input_tokens"),
            cost,
        )
    models = per_model.values()
    return _usage(
        sum(model.get("inputTokens") or 0 for model in models),
        sum(model.get("outputTokens") or 0 for model in models),
        sum(model.get("cacheReadInputTokens") or 0 for model in models),
        sum(model.get("cacheCreationInputTokens") or 0 for model in models),
        sum(model.get("costUSD") or 0.0 for model in models),
    )


def add(total: transcript_pb2.Usage, more: transcript_pb2.Usage) -> None:
    """Add one usage to another, in place."""
    for field in transcript_pb2.Usage.DESCRIPTOR.fields:
        both = getattr(total, field.name) + getattr(more, field.name)
        setattr(total, field.name, min(both, _INT32_MAX))


def _usage(
    read: int | None, written: int | None, cached: int | None, caching: int | None, cost: float
) -> transcript_pb2.Usage:
    return transcript_pb2.Usage(
        input_tokens=_int32(read or 0),
        output_tokens=_int32(written or 0),
        cache_read_tokens=_int32(cached or 0),
        cache_write_tokens=_int32(caching or 0),
        cost_usd_micros=_int32(round(cost * 1_000_000)),
    )


def _int32(value: int) -> int:
    return max(0, min(value, _INT32_MAX))


def _failure(frame: dict[str, Any], terminal: str) -> Failure:
    subtype = frame.get("subtype")
    if terminal == "max_turns" or subtype == "error_max_turns":
        return Failure(
            errors_pb2.ERROR_REASON_MAX_STEPS, "The agent used all the steps a turn may take."
        )
    if terminal == "budget_exhausted" or subtype == "error_max_budget_usd":
        return Failure(errors_pb2.ERROR_REASON_BUDGET_EXHAUSTED, "The turn's budget is spent.")
    status = frame.get("api_error_status")
    if isinstance(status, int):
        return provider_failure(status)
    said = "; ".join(map(str, frame.get("errors") or ())) or str(frame.get("result") or "")
    if "No conversation found" in said:
        return Failure(
            errors_pb2.ERROR_REASON_CONVERSATION_LOST,
            "The agent's conversation could not be resumed; start a new one.",
        )
    if terminal == "api_error":
        return refusal() if frame.get("stop_reason") == "refusal" else provider_failure(None)
    return Failure(errors_pb2.ERROR_REASON_AGENT_FAILED, "The agent reported a failure of its own.")


def refusal() -> Failure:
    """Return what it is when the model itself refuses to go on, in an answer like others."""
    return Failure(
        errors_pb2.ERROR_REASON_PROVIDER_REJECTED,
        "The model refused to go on; change the message and send it again.",
        status="200",
    )


def provider_failure(status: int | None) -> Failure:
    """Return what a failure of the provider is.

    Args:
        status: Status of its answer; None when there was none, or none that was whole.
    """
    if status is None:
        return Failure(
            errors_pb2.ERROR_REASON_PROVIDER_UNREACHABLE,
            "The model provider could not be reached.",
            retry_delay=_RETRY_DELAY,
        )
    if status in {401, 403}:
        return Failure(
            errors_pb2.ERROR_REASON_PROVIDER_AUTHENTICATION,
            f"The model provider refused our credential with status {status}.",
            status=str(status),
        )
    if status == 429:
        reason, what = errors_pb2.ERROR_REASON_PROVIDER_RATE_LIMITED, "limits our rate"
    elif status == 529:
        reason, what = errors_pb2.ERROR_REASON_PROVIDER_OVERLOADED, "is overloaded"
    elif status >= 500:
        reason, what = errors_pb2.ERROR_REASON_PROVIDER_FAILED, "failed"
    else:
        return Failure(
            errors_pb2.ERROR_REASON_PROVIDER_REJECTED,
            f"The model provider refused the request with status {status}.",
            status=str(status),
        )
    return Failure(
        reason,
        f"The model provider {what}, with status {status}; try again later.",
        retry_delay=_RETRY_DELAY,
        status=str(status),
    )
