"""Tests of `services.executor.claude_code.results`."""

from __future__ import annotations

from typing import Any

import pytest

from moorline.transcript.v1 import transcript_pb2
from services.executor.agent_process import Result
from services.executor.claude_code import results


def test_result_without_error_is_finished() -> None:
    """Nothing else is looked at."""
    frame = {"subtype": "error_max_turns", "is_error": False}

    assert (Result.FINISHED, None) == results.outcome(frame)


@pytest.mark.parametrize("terminal", ["aborted_streaming", "aborted_tools"])
def test_aborted_result_is_interrupted(terminal: str) -> None:
    """An interrupt is an error for the CLI and none for us."""
    frame = {"is_error": True, "terminal_reason": terminal}

    assert (Result.INTERRUPTED, None) == results.outcome(frame)


API = {"subtype": "success", "terminal_reason": "api_error"}


@pytest.mark.parametrize(
    ("frame", "reason", "retries"),
    [
        (API | {"api_error_status": 401}, "PROVIDER_AUTHENTICATION", False),
        (API | {"api_error_status": 403}, "PROVIDER_AUTHENTICATION", False),
        (API | {"api_error_status": 429}, "PROVIDER_RATE_LIMITED", True),
        (API | {"api_error_status": 529}, "PROVIDER_OVERLOADED", True),
        (API | {"api_error_status": 500}, "PROVIDER_FAILED", True),
        (API | {"api_error_status": 400}, "PROVIDER_REJECTED", False),
        (API | {"api_error_status": None}, "PROVIDER_UNREACHABLE", True),
        ({"subtype": "error_max_turns"}, "MAX_STEPS", False),
        ({"terminal_reason": "max_turns"}, "MAX_STEPS", False),
        ({"subtype": "error_max_budget_usd"}, "BUDGET_EXHAUSTED", False),
        ({"terminal_reason": "budget_exhausted"}, "BUDGET_EXHAUSTED", False),
        ({"errors": ["No conversation found with session ID: x"]}, "CONVERSATION_LOST", False),
        ({"result": "No conversation found"}, "CONVERSATION_LOST", False),
        ({"subtype": "error_during_execution"}, "AGENT_FAILED", False),
    ],
)
def test_failure_has_a_reason(frame: dict[str, Any], reason: str, retries: bool) -> None:
    """Each documented failure is told apart; what passes by waiting says so."""
    result, failure = results.outcome(frame | {"is_error": True})

    assert Result.FAILED is result
    assert failure is not None
    assert reason == failure.reason_name
    assert retries == (failure.retry_delay is not None)
    status = frame.get("api_error_status")
    assert failure.metadata == ({"status": str(status)} if status else {})


def test_refusal_of_the_model_is_not_the_network() -> None:
    """It comes without a status, as what got no answer does, and waiting does not help."""
    frame = {"is_error": True, "api_error_status": None, "stop_reason": "refusal", **API}
    _, failure = results.outcome(frame)

    assert failure is not None
    assert ("PROVIDER_REJECTED", {"status": "200"}) == (failure.reason_name, failure.metadata)
    assert failure.retry_delay is None


def test_usage_is_the_sum_over_models() -> None:
    """The difference since the result before counts, not the process's total."""
    frame = {
        "total_cost_usd": 99.0,
        "model_usage_since_last_result": {
            "one": {"inputTokens": 1, "outputTokens": 2, "costUSD": 0.25},
            "two": {
                "inputTokens": 10,
                "outputTokens": 20,
                "cacheReadInputTokens": 30,
                "cacheCreationInputTokens": 40,
                "costUSD": 0.5,
            },
        },
    }
    expected = transcript_pb2.Usage(
        input_tokens=11,
        output_tokens=22,
        cache_read_tokens=30,
        cache_write_tokens=40,
        cost_usd_micros=750_000,
    )

    assert expected == results.usage(frame, cost_before=0)


def test_usage_of_a_version_that_tells_no_difference() -> None:
    """The cost is then the growth of the total."""
    frame = {"total_cost_usd": 0.003, "usage": {"input_tokens": 5, "output_tokens": 6}}
    expected = transcript_pb2.Usage(input_tokens=5, output_tokens=6, cost_usd_micros=1000)

    assert expected == results.usage(frame, cost_before=0.002)
    assert transcript_pb2.Usage() == results.usage({}, cost_before=1)


def test_usage_stays_within_its_fields() -> None:
    """Absurd figures do not fail a turn."""
    most = transcript_pb2.Usage(input_tokens=2**31 - 1)
    frame = {"model_usage_since_last_result": {"m": {"inputTokens": 2**40}}}
    usage = results.usage(frame, cost_before=0)
    results.add(usage, most)

    assert most == usage
