"""Cuts texts into pieces that fit into items, never within a character. Does not know frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

PIECE_BYTES = 64 << 10
"""UTF-8 bytes of one piece of text, of a tool's input and of its output."""


def split(text: str, first: int) -> Iterator[str]:
    """Cut a text into parts of at most `PIECE_BYTES`, the first of at most `first` bytes."""
    encoded = text.encode()
    start, room = 0, first
    while start < len(encoded):
        end = _boundary(encoded, start + room)
        if end > start:
            yield encoded[start:end].decode()
        start, room = end, PIECE_BYTES


def bounded(text: str, limit: int) -> tuple[str, int]:
    """Return the first part of a text, of at most `limit` bytes, and how many bytes are cut off."""
    encoded = text.encode()
    end = _boundary(encoded, limit)
    return encoded[:end].decode(), len(encoded) - end


def bounded_json(value: Any) -> tuple[str, int]:
    """Return a value as JSON of at most `PIECE_BYTES`, and how many bytes are cut off.

    One that is longer becomes an object with the one key `truncated`.
    """
    whole = orjson.dumps(value).decode()
    if len(whole) <= PIECE_BYTES and len(whole.encode()) <= PIECE_BYTES:
        return whole, 0
    # Quotes and backslashes of the part that is kept take two bytes each in the new object.
    kept, omitted = bounded(whole, PIECE_BYTES // 2 - 64)
    return orjson.dumps({"truncated": kept}).decode(), omitted


def _boundary(encoded: bytes, end: int) -> int:
    """Return the greatest position up to `end` where no character is cut."""
    if end >= len(encoded):
        return len(encoded)
    while encoded[end] & 0xC0 == 0x80:
        end -= 1
    return end
