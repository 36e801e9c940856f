"""What an agent's turns have consumed, in all and month by month.

Does not know turns, nor where it is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

from moorline.session.v1 import agents_pb2
from moorline.transcript.v1 import transcript_pb2

_CARRIED_MONTHS = 2
"""A segment tells what its agent's document lacks, which is what happened a moment ago: in
this month, or right before it began."""

_MOST = 2**31 - 1
"""Greatest number in a `Usage`."""


def month_of(instant: datetime) -> str:
    """Return the month an instant is in, of UTC, for example `2026-11`."""
    return instant.astimezone(UTC).strftime("%Y-%m")


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSum:
    """What many turns consumed together.

    Attributes:
        cost: In millionths of a US dollar.
        turns: How many turns.
    """

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cost: int = 0
    turns: int = 0

    def plus(self, other: UsageSum) -> UsageSum:
        """Return both together."""
        names = [field.name for field in fields(self)]
        return UsageSum(**{name: getattr(self, name) + getattr(other, name) for name in names})

    def stored(self) -> dict[str, int]:
        """Return the fields for a document, without zeros."""
        numbers = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: number for name, number in numbers.items() if number}

    def message(self) -> agents_pb2.UsageTotal:
        """Return it as a message."""
        return agents_pb2.UsageTotal(
            input_tokens=self.input,
            output_tokens=self.output,
            cache_read_tokens=self.cache_read,
            cache_write_tokens=self.cache_write,
            cost_usd_micros=self.cost,
            turns=self.turns,
        )


def read_sum(stored: Mapping[str, int]) -> UsageSum:
    """Return what `UsageSum.stored` wrote; what a newer release adds is passed over."""
    return UsageSum(**{field.name: stored.get(field.name, 0) for field in fields(UsageSum)})


def read_months(stored: Mapping[str, Mapping[str, int]]) -> dict[str, UsageSum]:
    """Return months that `stored_months` wrote."""
    return {month: read_sum(numbers) for month, numbers in stored.items()}


def stored_months(months: Mapping[str, UsageSum]) -> dict[str, dict[str, int]]:
    """Return months as fields for a document."""
    return {month: numbers.stored() for month, numbers in months.items()}


def consumed(usage: transcript_pb2.Usage | None) -> UsageSum:
    """Return what one turn consumed; None when that is not known."""
    if usage is None:
        return UsageSum(turns=1)
    return UsageSum(
        input=usage.input_tokens,
        output=usage.output_tokens,
        cache_read=usage.cache_read_tokens,
        cache_write=usage.cache_write_tokens,
        cost=usage.cost_usd_micros,
        turns=1,
    )


def together(usages: Iterable[transcript_pb2.Usage]) -> transcript_pb2.Usage:
    """Return what several executions consumed."""
    names = [field.name for field in transcript_pb2.Usage.DESCRIPTOR.fields]
    usages = list(usages)
    sums = {name: sum(getattr(usage, name) for usage in usages) for name in names}
    return transcript_pb2.Usage(**{name: min(number, _MOST) for name, number in sums.items()})


@dataclass(frozen=True, slots=True)
class Account:
    """What one agent's turns have consumed.

    Attributes:
        total: All of them.
        months: By the month in which they ended.
    """

    total: UsageSum
    months: Mapping[str, UsageSum]

    def with_turn(self, usage: transcript_pb2.Usage | None, ended: datetime) -> Account:
        """Return the account after another turn."""
        turn, month = consumed(usage), month_of(ended)
        months = {**self.months, month: self.months.get(month, UsageSum()).plus(turn)}
        return Account(self.total.plus(turn), months)

    def fields(self) -> dict[str, Any]:
        """Return the fields for a document."""
        return {"total": self.total.stored(), "months": stored_months(self.months)}

    def summary(self) -> dict[str, Any]:
        """Return what a document that was written a moment ago may lack."""
        newest = sorted(self.months)[-_CARRIED_MONTHS:]
        months = {month: self.months[month] for month in newest}
        return {"total": self.total.stored(), "months": stored_months(months)}

    def recalled(self, summary: Mapping[str, Any] | None) -> Account:
        """Return the account with what a summary tells in addition; None of an older release."""
        if summary is None:
            return self
        there = read_account(summary)
        return replace(there, months={**self.months, **there.months})


def read_account(stored: Mapping[str, Any]) -> Account:
    """Return the account that a document or a summary holds; empty for an older one."""
    return Account(read_sum(stored.get("total", {})), read_months(stored.get("months", {})))


NOTHING = Account(UsageSum(), {})
"""The account of an agent without turns."""
