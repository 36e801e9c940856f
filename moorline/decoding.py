"""Reads the few value types of proto3 JSON that JSON itself lacks.

Knows no message of the API.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TypeVar

S = TypeVar("S", bound=StrEnum)

EPOCH = datetime.fromtimestamp(0, UTC)


def parse_time(text: str | None) -> datetime | None:
    """Read a timestamp; what is finer than a microsecond is cut off.

    Args:
        text: For example `2026-11-26T10:00:00.5Z`; None when the field is absent.
    """
    return None if text is None else datetime.fromisoformat(text)


def parse_duration(text: str | None) -> timedelta | None:
    """Read a duration.

    Args:
        text: Seconds with an `s`, for example `1.5s`; None when the field is absent.
    """
    return None if text is None else timedelta(seconds=float(text.removesuffix("s")))


def format_duration(duration: timedelta) -> str:
    """Write a duration as proto3 JSON does."""
    return f"{duration.total_seconds():.6f}s"


def strip_prefix(value: str | int, prefix: str) -> str:
    """Name of an enum value without the prefix all of them share.

    Args:
        value: The name; a number when the server knows a value that its own
            JSON encoder does not; 0 when the field is absent.
        prefix: For example `STATE_`.
    """
    if isinstance(value, int):
        return "UNSPECIFIED" if value == 0 else str(value)
    return value.removeprefix(prefix)


def parse_enum(kind: type[S], value: str | int, prefix: str) -> S:
    """Read an enum; a value this client does not know becomes `kind("unknown")`."""
    name = strip_prefix(value, prefix)
    return kind.__members__.get(name, kind("unknown"))


def last_part(name: str) -> str:
    """Id at the end of a resource name."""
    return name.rpartition("/")[2]
