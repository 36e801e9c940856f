"""Tests of `services.executor.model_proxy.coding`."""

from __future__ import annotations

import gzip
import zlib

import pytest

from services.executor.model_proxy.coding import CodingError, unpacking

TEXT = b"some text" * 1000


def unpacked(coding: str, packed: bytes, size: int) -> list[bytes]:
    """Return the pieces of a text that comes in pieces of a size."""
    unpack = unpacking(coding)
    assert unpack is not None
    pieces = []
    for start in range(0, len(packed), size):
        unpack.feed(packed[start : start + size])
        while piece := unpack.take():
            pieces.append(piece)
    unpack.check_end()
    return pieces


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("coding", ["gzip", "X-GZIP ", "deflate"])
def test_text_comes_out_whole(coding: str, size: int) -> None:
    """However it comes; what follows its end is dropped."""
    packed = zlib.compress(TEXT) if coding == "deflate" else gzip.compress(TEXT)

    assert TEXT == b"".join(unpacked(coding, packed + b"more", size))


@pytest.mark.parametrize("coding", ["", "identity", "Identity"])
def test_plain_text_needs_nothing(coding: str) -> None:
    """It passes as it is."""
    assert unpacking(coding) is None


def test_unknown_coding_is_told() -> None:
    """By its name."""
    with pytest.raises(CodingError, match="br"):
        unpacking("br")


def test_pieces_are_bounded() -> None:
    """A few bytes may become a thousand times as many."""
    pieces = unpacked("gzip", gzip.compress(bytes(10 << 20)), 1 << 20)

    assert 10 << 20 == sum(map(len, pieces))
    assert max(map(len, pieces)) <= 1 << 20


@pytest.mark.parametrize("packed", [b"no gzip at all", gzip.compress(TEXT)[:-9]])
def test_broken_text_is_told(packed: bytes) -> None:
    """Garbage, and what was cut short."""
    with pytest.raises(CodingError, match=r"."):
        unpacked("gzip", packed, 100)
