"""Pages of lists: how much one carries, and the token that says where the next begins.

Does not know what is listed.
"""

from __future__ import annotations

import re
from typing import Generic, TypeVar

from google.protobuf.message import Message

from services.chassis.failures import field_invalid

PAGE_BYTES = 512 * 1024
"""About how much a page carries: a client must read it before anything else."""

PAGE_SECONDS = 2.0
"""How long a page is filled: from a slow store it is short, or there would never be one."""

M = TypeVar("M", bound=Message)


def page_size(value: int, *, default: int, most: int) -> int:
    """Return how many results a page has at most.

    Raises:
        Failure: FIELD_INVALID for a negative number.
    """
    if value < 0:
        raise field_invalid("page_size", "be at least 0")
    return min(value or default, most)


def parse_token(pattern: re.Pattern[str], token: str) -> re.Match[str]:
    """Return the parts of a token, which bounds their lengths by its pattern.

    Raises:
        Failure: FIELD_INVALID: no page has given out this token.
    """
    match = pattern.fullmatch(token)
    if match is None:
        raise field_invalid("page_token", "be the next_page_token of a page")
    return match


class Page(Generic[M]):
    """Takes entries until there are enough of them or they are about 512 KiB.

    Args:
        size: Entries at most, at least 1.
    """

    def __init__(self, *, size: int) -> None:
        self.entries: list[M] = []
        self._size = size
        self._room = PAGE_BYTES

    @property
    def full(self) -> bool:
        """True when it takes no more; never while it is empty."""
        return len(self.entries) >= self._size or self._room <= 0

    def add(self, entry: M) -> None:
        """Take an entry, however large."""
        self.entries.append(entry)
        self._room -= entry.ByteSize()
