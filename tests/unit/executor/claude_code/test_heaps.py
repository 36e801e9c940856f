"""Tests of `services.executor.claude_code.heaps`."""

from __future__ import annotations

import orjson
import pytest

from services.executor.claude_code.heaps import parsed


def test_long_texts_are_parsed() -> None:
    """Whatever is in them: what a tool has read may be of any size."""
    value = {"text": "[{" * 300_000 + "x" * 2_000_000}

    assert value == parsed(orjson.dumps(value))


@pytest.mark.parametrize("piece", [b"[]", b"{}"])
def test_heap_of_small_things_is_refused(piece: bytes) -> None:
    """It would take twenty times of what it has."""
    with pytest.raises(ValueError, match="too many"):
        parsed(b"[" + b",".join([piece] * 1_500_000) + b"]")
