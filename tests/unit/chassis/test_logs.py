"""Tests of `services.chassis.logs`."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from services.chassis import logs

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
API_KEY = "moorline_abcd1234_c2VjcmV0LXNlY3JldC1zZWNyZXQ"


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """Put the root logger back as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return the lines written."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def fail_and_log(error: Exception, message: str, **extra: Any) -> None:
    """Log an exception from a frame that has a secret in a variable."""
    secret = "-".join(["do", "not", "tell"])
    try:
        raise error
    except type(error):
        logging.getLogger("a").exception(message, extra=extra)
    assert secret


def test_a_line_is_a_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    """It has time, severity, message, service and the facts."""
    logs.configure(service="gateway", format="json", level="INFO")

    logging.getLogger("a.b").warning("turn %s", "ended", extra={"turn": "t1", "ms": 1.5, "x": {1}})

    (line,) = lines(capsys)
    assert line.pop("time").endswith("Z")
    assert line == {
        "severity": "WARNING",
        "message": "turn ended",
        "turn": "t1",
        "ms": 1.5,
        "x": "{1}",
        "service": "gateway",
    }


def test_lower_levels_are_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    """The level is the least that is written."""
    logs.configure(service="gateway", format="json", level="WARNING")

    logging.getLogger("a").info("quiet")

    assert lines(capsys) == []


@pytest.mark.parametrize("style", ["json", "text"])
def test_tracebacks_do_not_show_variables(style: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A traceback has code and message, and no values of locals."""
    logs.configure(service="gateway", format=style, level="INFO")

    fail_and_log(KeyError("missing"), "failed")

    text = capsys.readouterr().out
    assert "KeyError" in text
    assert "test_logs.py" in text
    assert "do-not-tell" not in text


@pytest.mark.parametrize("style", ["json", "text"])
def test_long_tracebacks_lose_their_middle(style: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A line stays short; where it began and what went wrong stay readable."""
    logs.configure(service="gateway", format=style, level="INFO")

    fail_and_log(ValueError("begin" + "x" * 100_000 + "end"), "failed")

    text = capsys.readouterr().out
    assert "Traceback" in text
    assert "end" in text
    assert len(text) < 20_000


@pytest.mark.parametrize("tty", [True, False])
def test_text_is_for_people(tty: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text has colours on a terminal and none elsewhere."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return tty

    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    logs.configure(service="gateway", format="text", level="INFO")

    logging.getLogger("a").info("serving", extra={"port": 1})

    text = terminal.getvalue()
    assert tty == ("\x1b[" in text)
    assert "serving" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"key {API_KEY} used", "key [redacted] used"),
        (f"jwt {JWT}.", "jwt [redacted]"),
        ("/login?token=abc.def&x=1", "/login?token=[redacted]&x=1"),
        ("/v1/ws?ticket=abc", "/v1/ws?ticket=[redacted]"),
        ("Authorization: Bearer abc def", "Authorization: Bearer [redacted] def"),
        ("users/ada moorline_sessions", "users/ada moorline_sessions"),
    ],
)
def test_what_looks_like_a_secret_is_cut_out(text: str, expected: str) -> None:
    """Keys, tokens and tickets become a fixed word; the rest stays."""
    assert expected == logs.redact(text)


def test_no_part_of_a_line_carries_a_secret(capsys: pytest.CaptureFixture[str]) -> None:
    """Message, facts and tracebacks are all redacted, and stay JSON."""
    logs.configure(service="gateway", format="json", level="INFO")

    fail_and_log(ValueError(f"token={JWT}"), f"got {API_KEY}", nested={"key": [API_KEY]})

    (line,) = lines(capsys)
    assert (line["message"], line["nested"]) == ("got [redacted]", {"key": ["[redacted]"]})
    assert "token=[redacted]" in line["exception"]
    assert JWT not in json.dumps(line)
