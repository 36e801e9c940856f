"""Parses JSON that an agent has written, unless it would take far more memory than it has bytes.

Does not know what it means.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

LONG_BYTES = 1 << 20
"""Up to here anything may be parsed."""
_BRACKETS = 1_000_000
"""Opening brackets of a longer one. Each may become an object of sixty bytes and more out of two
or three; what is long for a reason consists of long texts."""


def check(text: bytes) -> None:
    """Check that a text can be parsed; needed only for more than `LONG_BYTES`.

    Raises:
        ValueError: It would become too much.
    """
    if text.count(b"[") + text.count(b"{") > _BRACKETS:
        raise ValueError("too many values")


def parsed(text: bytes) -> Any:
    """Return what a text holds.

    Raises:
        ValueError: It is no JSON, or would become too much.
    """
    if len(text) > LONG_BYTES:
        check(text)
    return orjson.loads(text)


def mended(text: bytes) -> Any:
    """Return what a text holds that has halves of characters, as JavaScript may print them.

    Raises:
        ValueError: It is no JSON all the same, or would become too much.
    """
    check(text)
    return orjson.loads(json.dumps(json.loads(text), ensure_ascii=False).encode(errors="replace"))
