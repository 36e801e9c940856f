"""What was found about the platform's surroundings, as values. Does not know how it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from moorline.decoding import parse_enum


class Subject(StrEnum):
    """What can be looked at."""

    STORE = "store"
    SESSION = "session"
    EXECUTOR = "executor"
    ENGINE = "engine"
    IMAGE = "image"
    PROGRAM = "program"
    KEY = "key"
    UPSTREAM = "upstream"
    DISK = "disk"
    UNKNOWN = "unknown"


class Finding(StrEnum):
    """What can be found."""

    GOOD = "good"
    WARNING = "warning"
    FAILED = "failed"
    UNUSED = "unused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Attributes:
        subject: What it is.
        finding: What was found.
        detail: One English sentence: what was found.
        remedy: One English sentence: what to do; empty when there is nothing to do.
        address: Which of several processes it is about; may be empty.
    """

    subject: Subject
    finding: Finding
    detail: str = ""
    remedy: str = ""
    address: str = ""


def check_from(check: Mapping[str, Any]) -> Check:
    """Read a `diagnosis.v1.Check`."""
    return Check(
        subject=parse_enum(Subject, check.get("subject", 0), "SUBJECT_"),
        finding=parse_enum(Finding, check.get("state", 0), "STATE_"),
        detail=check.get("detail", ""),
        remedy=check.get("remedy", ""),
        address=check.get("address", ""),
    )
