"""Tests of `services.session.account`: sums, months, and what older releases have left out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from moorline.transcript.v1 import transcript_pb2
from services.session.account import (
    NOTHING,
    UsageSum,
    month_of,
    read_account,
    together,
)

NOVEMBER = datetime(2026, 11, 30, 23, 59, tzinfo=UTC)
USAGE = transcript_pb2.Usage(input_tokens=1, output_tokens=2, cost_usd_micros=3)


def test_a_month_is_one_of_utc() -> None:
    """Wherever the clock is."""
    seoul = timezone(timedelta(hours=9))

    assert "2026-11" == month_of(NOVEMBER) == month_of(NOVEMBER.astimezone(seoul))
    assert "2026-12" == month_of(NOVEMBER + timedelta(minutes=1))


def test_turns_are_counted_in_the_month_they_end_in() -> None:
    """And in the total."""
    account = NOTHING.with_turn(USAGE, NOVEMBER).with_turn(None, NOVEMBER + timedelta(minutes=1))

    assert UsageSum(input=1, output=2, cost=3, turns=2) == account.total
    assert {
        "2026-11": UsageSum(input=1, output=2, cost=3, turns=1),
        "2026-12": UsageSum(turns=1),
    } == account.months


def test_what_is_stored_is_read() -> None:
    """Whole from a document; nothing from one of an older release."""
    account = NOTHING.with_turn(USAGE, NOVEMBER)

    assert account == read_account(account.fields())
    assert NOTHING == read_account({})
    newer = {"total": {"turns": 1, "minutes": 5}, "months": {}}
    assert 1 == read_account(newer).total.turns


def test_a_summary_tells_what_a_document_lacks() -> None:
    """The newest months; older ones are in the document."""
    account = NOTHING
    for month in range(1, 5):
        account = account.with_turn(USAGE, NOVEMBER.replace(month=month, day=1))
    before = account
    after = account.with_turn(USAGE, NOVEMBER.replace(month=4, day=2))

    summary = after.summary()

    assert ["2026-03", "2026-04"] == list(summary["months"])
    assert after == before.recalled(summary)
    assert before == before.recalled(None)


def test_what_executions_consumed_is_added_within_bounds() -> None:
    """A number of a usage has 32 bits."""
    great = transcript_pb2.Usage(input_tokens=2**31 - 1, cost_usd_micros=1)

    both = together([great, USAGE])

    assert (2**31 - 1, 2, 4) == (both.input_tokens, both.output_tokens, both.cost_usd_micros)
