"""Tests of `services.gateway.closing`."""

from __future__ import annotations

from services.gateway.closing import REASON_BYTES, CloseCode, reason_bytes


def test_a_long_reason_is_cut_between_characters() -> None:
    """What arrives is valid UTF-8 that fits into a close frame."""
    cut = reason_bytes("한" * 100)

    assert "한" * 41 == cut.decode()
    assert len(cut) <= REASON_BYTES


def test_codes_say_whether_to_reconnect() -> None:
    """4500 and above are for what reconnecting cannot mend."""
    terminal = {code for code in CloseCode if code >= 4500}

    assert {
        CloseCode.BAD_FRAME,
        CloseCode.UNAUTHENTICATED,
        CloseCode.TOO_MANY_CONNECTIONS,
    } == terminal
