"""Writes the log: one JSON object a line for machines, or text for people.

Secrets of ours that reach a line by mistake are cut out of it. Does not know
what is logged.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from typing import Any, TextIO

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

    def add_service(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
        event["service"] = service
        return event

    shared: list[Any] = [
        structlog.stdlib.ExtraAdder(),
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        add_service,
    ]
    stream = sys.stdout
    output: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if format == "json":
        # Plain tracebacks: structured ones would show local variables.
        output += [structlog.processors.ExceptionRenderer(_traceback), _rename, _to_json]
    else:
        output.append(
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(),
                timestamp_key="time",
                exception_formatter=_write_traceback,
            )
        )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Redacting(foreign_pre_chain=shared, processors=output))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


class _Redacting(structlog.stdlib.ProcessorFormatter):
    # On the finished line, so that no message, fact or traceback escapes it.
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


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


def _rename(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    head = {
        "time": event.pop("time"),
        "severity": event.pop("level").upper(),
        "message": event.pop("event"),
    }
    return head | event


def _to_json(_: Any, __: str, event: dict[str, Any]) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
