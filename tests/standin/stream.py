"""Sends one answer as the provider streams it. Does not know which answer is due, nor why."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from typing import Any

from aiohttp import web

from services.executor.channels.simulation import script
from services.executor.channels.simulation.script import Step
from tests.standin.answers import Answer, Call
from tests.standin.ledger import Entry

_WORD = re.compile(r"\s*\S+|\s+$")
_PIECE = 65_536
"""Characters of a tool's arguments that are sent at once."""
_CALL_TOKENS = 5
"""Charged for a tool call."""


class Stream:
    """The response to one request.

    Args:
        request: What is answered.
        entry: Its line in the ledger.
        message_id: Id of the message.
        usage: What is charged before anything is written.
        new_id: Makes ids of tool calls.
    """

    def __init__(
        self,
        *,
        request: web.Request,
        entry: Entry,
        message_id: str,
        usage: dict[str, int],
        new_id: Callable[[str], str],
    ) -> None:
        self._request = request
        self._entry = entry
        self._message_id = message_id
        self._usage = usage
        self._new_id = new_id
        self._index = 0
        self._response = web.StreamResponse(
            headers={"content-type": "text/event-stream; charset=utf-8"}
        )

    @property
    def response(self) -> web.StreamResponse:
        """The response, to be returned when nothing follows."""
        return self._response

    async def begin(self) -> None:
        """Begin a message."""
        await self._response.prepare(self._request)
        self._entry.status = 200
        self._entry.tell(self._usage)
        message: dict[str, Any] = {
            "id": self._message_id,
            "type": "message",
            "role": "assistant",
            "model": self._entry.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": self._usage,
        }
        await self._event("message_start", message=message)

    async def part(self, step: Step, recalled: str) -> None:
        """Say one part of a message."""
        match step:
            case script.Say(text) | script.Error(text) | script.Refuse(text) if text:
                await self._text("text", _WORD.findall(text))
            case script.Retract(text):
                # What is not ended is not believed by whoever reads it.
                await self._text("text", _WORD.findall(text), ended=False)
            case script.Think(text):
                await self._text("thinking", _WORD.findall(text))
            case script.Recall():
                await self._text("text", _WORD.findall(recalled))
            case script.Stream(count, pause_ms, clock):
                await self._paced(count, pause_ms / 1000, clock=clock)
            case script.Sleep(pause_ms):
                await asyncio.sleep(pause_ms / 1000)
            case script.Silence() | script.Hang():
                # Until whoever asked hangs up, which cancels this.
                await asyncio.get_running_loop().create_future()

    async def call(self, call: Call) -> None:
        """Call a tool."""
        block = {"type": "tool_use", "id": self._new_id("toolu"), "name": call.tool, "input": {}}
        await self._event("content_block_start", index=self._index, content_block=block)
        whole = json.dumps(call.tool_input, ensure_ascii=False)
        for start in range(0, len(whole), _PIECE):
            piece = whole[start : start + _PIECE]
            await self._delta("input_json_delta", "partial_json", piece)
        self._usage["output_tokens"] += _CALL_TOKENS
        await self._end_block()

    async def break_off(self) -> None:
        """Send the provider's word for an error in the middle of a message."""
        error = {"type": "overloaded_error", "message": "overloaded"}
        await self._event("error", error=error)

    async def end(self, answer: Answer) -> None:
        """End the message."""
        self._entry.tell(self._usage)
        delta = {"stop_reason": answer.stop_reason, "stop_sequence": None}
        await self._event("message_delta", delta=delta, usage=self._usage)
        await self._event("message_stop")
        await self._response.write_eof()

    async def _text(self, kind: str, words: list[str], *, ended: bool = True) -> None:
        await self._begin_text(kind)
        for word in words:
            await self._delta(f"{kind}_delta", kind, word)
            self._usage["output_tokens"] += 1
        if kind == "thinking":
            await self._delta("signature_delta", "signature", "c2lnbmVk")
        if ended:
            await self._end_block()

    async def _paced(self, count: int, pause: float, *, clock: bool) -> None:
        await self._begin_text("text")
        start = time.monotonic()
        for number in range(count):
            late = start + number * pause - time.monotonic()
            if late > 0:
                await asyncio.sleep(late)
            word = str(time.time_ns() // 1000) if clock else f"w{number + 1}"
            await self._delta("text_delta", "text", f" {word}" if number else word)
            self._usage["output_tokens"] += 1
        await self._end_block()

    async def _begin_text(self, kind: str) -> None:
        block = {"type": kind, kind: ""}
        if kind == "thinking":
            block["signature"] = ""
        await self._event("content_block_start", index=self._index, content_block=block)

    async def _delta(self, kind: str, key: str, text: str) -> None:
        delta = {"type": kind, key: text}
        await self._event("content_block_delta", index=self._index, delta=delta)

    async def _end_block(self) -> None:
        await self._event("content_block_stop", index=self._index)
        self._index += 1

    async def _event(self, kind: str, **members: Any) -> None:
        data = json.dumps({"type": kind, **members}, ensure_ascii=False)
        await self._response.write(f"event: {kind}\ndata: {data}\n\n".encode())
