"""Reads from an answer of the Messages API what it consumed. Does not change or keep the answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from services.executor.model_proxy.prices import Told

_LINE_LIMIT = 1 << 20
"""Bytes of a line that may tell usage; they have some hundred."""
_WHOLE_LIMIT = 64 << 20
_DELTA_BYTES = 80
"""Bytes of an event with a fragment, without the fragment."""
_BYTES_PER_TOKEN = 3
_MALFORMED = (AttributeError, KeyError, TypeError, ValueError)


class StreamReader:
    """Reads a stream of events while it passes."""

    def __init__(self) -> None:
        self.told = Told()
        """What is known so far."""
        self._fragments = 0
        self._begun: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> bool:
        """Take the next bytes; True when more is known than before."""
        before = self.told
        head, end, rest = data.partition(b"\n")
        self._add(head)
        if not end:
            return False
        lines = rest.split(b"\n")
        lines.insert(0, b"".join(self._begun))
        self._begun, self._size = [], 0
        self._add(lines.pop())
        for line in lines:
            # Text that an answer contains has its quotes escaped.
            if b'"message_delta"' in line or b'"message_start"' in line:
                self.told = _event(self.told, line)
                # How much was written is told at the end only.
                self._fragments = 0
            elif b'"content_block_delta"' in line:
                self._fragments += 1 + max(0, len(line) - _DELTA_BYTES) // _BYTES_PER_TOKEN
        return self.told != before

    def finish(self) -> bool:
        """Hear that nothing follows; True when more is known than before."""
        return self.feed(b"\n")

    @property
    def untold(self) -> Told:
        """About what has been written beyond what is known: of a stream that was broken off."""
        return Told(model=self.told.model, written=self._fragments)

    def _add(self, part: bytes) -> None:
        self._size += len(part)
        if self._size <= _LINE_LIMIT:
            self._begun.append(part)
        else:
            self._begun = []


class WholeReader:
    """Reads an answer that is one object."""

    def __init__(self) -> None:
        self.told = self.untold = Told()
        """What is known so far, and what is not: nothing is shown before all of it is there."""
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> bool:
        """Take the next bytes; nothing is known before the last."""
        self._size += len(data)
        if self._size <= _WHOLE_LIMIT:
            self._parts.append(data)
        return False

    def finish(self) -> bool:
        """Hear that nothing follows; True when more is known than before."""
        try:
            message = orjson.loads(b"".join(self._parts))
            self.told = _merge(replace(self.told, model=str(message["model"])), message["usage"])
        except _MALFORMED:
            return False
        return True


def _event(told: Told, line: bytes) -> Told:
    try:
        event = orjson.loads(line.removeprefix(b"data:"))
        if event["type"] == "message_start":
            message = event["message"]
            return _merge(Told(model=str(message["model"])), message["usage"])
        if event["type"] == "message_delta":
            return _merge(told, event["usage"])
    except _MALFORMED:
        pass
    return told


def _merge(told: Told, usage: dict[str, Any]) -> Told:
    """Return what is known after `usage`, which counts from the beginning and may be partial."""

    def latest(name: str, before: int) -> int:
        # A later event may repeat what was read as nothing.
        return max(0, int(usage.get(name) or 0)) or before

    kinds = usage.get("cache_creation") or {}
    tools = usage.get("server_tool_use") or {}
    written = latest("cache_creation_input_tokens", told.cache_written)
    hour = int(kinds.get("ephemeral_1h_input_tokens") or 0) or told.cache_written_hour
    return Told(
        model=told.model,
        read=latest("input_tokens", told.read),
        written=latest("output_tokens", told.written),
        cache_read=latest("cache_read_input_tokens", told.cache_read),
        cache_written=written,
        cache_written_hour=min(max(0, hour), written),
        searches=max(0, int(tools.get("web_search_requests") or 0)) or told.searches,
        fast=told.fast or usage.get("speed") == "fast",
        region=str(usage.get("inference_geo") or told.region),
    )
