"""Writes the log: one JSON object a line for machines, or text for people.

Secrets of ours that reach a line by mistake are cut out of it. Does not know
what is logged.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TextIO, TypeAlias

import orjson
import structlog
from structlog.typing import ExcInfo

TRACEBACK_CHARACTERS = 16 << 10
"""A longer traceback loses its middle."""
_SECRETS = re.compile(
    r"""(?x)
    moorline_[a-z0-9]{8,16}_[A-Za-z0-9_-]{8,}     # API keys
    | eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*   # JSON web tokens
    | (?<=[Tt]oken=)[^&\s"'\\]+                   # values in a URL's query
    | (?<=[Tt]icket=)[^&\s"'\\]+
    | (?<=Bearer\ )[^\s"'\\]+
    """
)
REDACTED = "[redacted]"
"""Stands in the log where a secret was."""


def redact(text: str) -> str:
    """Return `text` with everything that looks like a secret of ours replaced."""
    return _SECRETS.sub(REDACTED, text)


def configure(*, service: str, format: str, level: str) -> None:  # noqa: A002
    """Send everything logged to standard output.

    Args:
        service: The service's name; stands in every line.
        format: `json`: an object with `time`, `severity`, `message`, `service`
            and the facts given as `extra`; `text`: the same for people.
        level: Least level logged, for example `INFO`.
    """
    stream = sys.stdout
    write: _Write = _to_json
    if format != "json":
        write = _Text(colors=stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Lines(service=service, write=write))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


_Write: TypeAlias = Callable[[dict[str, Any], logging.LogRecord], str]

_NO_FACTS = frozenset(vars(logging.makeLogRecord({}))) | {"time", "severity", "message", "service"}
"""Attributes of every record, and names that a line has anyway."""


class _Lines(logging.Formatter):
    """Writes a record as one line.

    Straight from the record: every call writes a line, and structlog's own way, through a
    chain of changes to copies of it, took three times as long.
    """

    def __init__(self, *, service: str, write: _Write) -> None:
        super().__init__()
        self._service = service
        self._write = write

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
        line = {
            "time": when.replace("+00:00", "Z"),
            "severity": record.levelname,
            "message": record.getMessage(),
            **{key: value for key, value in vars(record).items() if key not in _NO_FACTS},
            "service": self._service,
        }
        # The finished line, so that no message, fact or traceback escapes it.
        return redact(self._write(line, record))


def _to_json(line: dict[str, Any], record: logging.LogRecord) -> str:
    if record.exc_info and record.exc_info[0] is not None:
        # A plain traceback: a structured one would show local variables.
        line["exception"] = _traceback(record.exc_info)
    return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class _Text:
    """Writes lines for people."""

    def __init__(self, *, colors: bool) -> None:
        self._render = structlog.dev.ConsoleRenderer(
            colors=colors, timestamp_key="time", exception_formatter=_write_traceback
        )

    def __call__(self, line: dict[str, Any], record: logging.LogRecord) -> str:
        line["event"] = line.pop("message")
        line["level"] = line.pop("severity").lower()
        if record.exc_info:
            line["exc_info"] = record.exc_info
        return str(self._render(None, "", line))


def _traceback(exc_info: ExcInfo) -> str:
    # Redacted first: of a secret cut in two, the half would not be known as one.
    text = redact("".join(traceback.format_exception(*exc_info)).rstrip("\n"))
    left_out = len(text) - TRACEBACK_CHARACTERS
    if left_out <= 0:
        return text
    half = TRACEBACK_CHARACTERS // 2
    return f"{text[:half]}\n[{left_out} characters left out]\n{text[-half:]}"


def _write_traceback(to: TextIO, exc_info: ExcInfo) -> None:
    to.write(f"\n{_traceback(exc_info)}")
