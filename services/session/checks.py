"""Checks of request fields that several doors share.

Does not know any resource.
"""

from __future__ import annotations

import re

from services.chassis.failures import field_invalid

_BACKEND = re.compile(r"[a-z][a-z0-9_]{0,62}")


def check_length(field: str, text: str, *, most: int, least: int = 0) -> None:
    """Check the number of characters of a text.

    Raises:
        Failure: FIELD_INVALID.
    """
    if not least <= len(text) <= most:
        raise field_invalid(field, f"have {least} to {most} characters")


def check_backend(field: str, text: str) -> None:
    """Check the form of a backend's id; empty means the default.

    Raises:
        Failure: FIELD_INVALID.
    """
    if text and _BACKEND.fullmatch(text) is None:
        raise field_invalid(field, f"be empty or match {_BACKEND.pattern}")


def check_sequence(field: str, value: int) -> None:
    """Check a position in a history.

    Raises:
        Failure: FIELD_INVALID.
    """
    if value < 0:
        raise field_invalid(field, "be at least 0")
