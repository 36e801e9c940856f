"""Takes the compression off an answer that came with some, although none was asked for.

Some gateways compress whatever they are asked. Does not know what the answer says.
"""

from __future__ import annotations

import zlib
from typing import Protocol

_PIECE = 256 << 10
"""Bytes that are unpacked at once: a few may hold a thousand times as many."""
_ZLIB_OR_GZIP = zlib.MAX_WBITS | 32
_PLAIN = frozenset({"", "identity"})
_ZIPPED = frozenset({"gzip", "x-gzip", "deflate"})


class CodingError(Exception):
    """An answer that cannot be unpacked."""


class Unpacking(Protocol):
    """Unpacks one answer."""

    def feed(self, data: bytes) -> None:
        """Take what has come."""
        ...

    def take(self) -> bytes:
        """Return some of what is unpacked; empty when more has to come.

        Raises:
            CodingError: It is broken.
        """
        ...

    def check_end(self) -> None:
        """Check that all has come.

        Raises:
            CodingError: It was cut short.
        """
        ...


def unpacking(coding: str) -> Unpacking | None:
    """Return what unpacks an answer; None for one that is not packed.

    Args:
        coding: Its `Content-Encoding`.

    Raises:
        CodingError: Nobody here knows this one.
    """
    small = coding.strip().lower()
    if small in _PLAIN:
        return None
    if small not in _ZIPPED:
        raise CodingError(small)
    return _Zipped()


class _Zipped:
    def __init__(self) -> None:
        self._zipped = zlib.decompressobj(_ZLIB_OR_GZIP)
        self._waiting = b""

    def feed(self, data: bytes) -> None:
        self._waiting += data

    def take(self) -> bytes:
        # What follows the end belongs to nothing.
        if not self._waiting or self._zipped.eof:
            return b""
        try:
            piece = self._zipped.decompress(self._waiting, _PIECE)
        except zlib.error as error:
            raise CodingError(str(error)) from error
        self._waiting = self._zipped.unconsumed_tail
        return piece

    def check_end(self) -> None:
        if not self._zipped.eof:
            raise CodingError("cut short")
