"""One turn of Claude Code: turns the frames of a turn into items and deltas in a book.

Does no I/O. Does not know processes, channels or how a turn is started.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from moorline.errors.v1 import errors_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.executor.agent_process import Ending, Result
from services.executor.book import Block, Book

PIECE_BYTES = 64 << 10
"""UTF-8 bytes of one piece of text, of a tool's input and of its output."""
_PIECES = 256
"""Pieces of one message that may be open; a message beyond 16 MiB ends the turn."""


class Turn:
    """What was said in a turn so far.

    Text goes into the book while it streams, and becomes items when the CLI confirms it with an
    `assistant` frame. Text of a message that was never confirmed is taken back: the CLI writes
    it anew after a broken stream. When the turn ends early, the text so far is kept as partial.
    """

    __slots__ = (
        "_message", "_pieces", "_tools_failed", "_tools_running", "_tools_succeeded",
        "_unstreamed", "asked", "asks", "book", "failure", "message_id",
    )  # fmt: skip

    def __init__(self, *, message_id: str, book: Book) -> None:
        self.message_id = message_id
        self.book = book
        self.asks: dict[str, Any] = {}
        """Tool input of each permission request that is open, by its id."""
        self.asked: set[str] = set()
        """Ids of all permission requests so far."""
        self.failure: Failure | None = None
        """Set when the agent does what cannot be carried, so that it must be ended."""
        self._message = ""
        self._pieces: dict[int, list[Block]] = {}
        self._unstreamed = 0
        self._tools_running: set[str] = set()
        self._tools_succeeded = 0
        self._tools_failed = 0

    def stream_event(self, frame: dict[str, Any]) -> None:
        """Take in a frame of type `stream_event`. By far the most frequent one."""
        event = frame["event"]
        kind = event["type"]
        if frame.get("parent_tool_use_id"):
            # A sub-agent's text is its own; only its tool calls are shown.
            return
        if kind == "content_block_delta":
            delta = event["delta"]
            text = delta.get("text") or delta.get("thinking")
            if text:
                self._fragment(event["index"], text, thought=delta["type"] == "thinking_delta")
        elif kind == "message_start":
            self.withdraw()
            self._message = event["message"]["id"]

    def assistant(self, frame: dict[str, Any]) -> None:
        """Take in a frame of type `assistant`: what it holds is confirmed."""
        message = frame["message"]
        parent = frame.get("parent_tool_use_id") or ""
        if message.get("model") == "<synthetic>":
            # Prose about an error of the provider; the result frame carries the facts.
            return
        for content in message["content"]:
            kind = content["type"]
            if kind == "tool_use":
                self._tool_call(content, parent)
            elif kind in {"text", "thinking"} and not parent:
                self._confirm(message["id"], content[kind], thought=kind == "thinking")

    def user(self, frame: dict[str, Any]) -> None:
        """Take in a frame of type `user`: results of tools."""
        contents = frame["message"]["content"]
        if isinstance(contents, str):
            return
        for content in contents:
            if content["type"] == "tool_result":
                self._tool_result(content)

    def ask(self, request_id: str, request: dict[str, Any]) -> None:
        """Take in a control request of subtype `can_use_tool`."""
        self.asks[request_id] = request["input"]
        self.asked.add(request_id)
        input_json, _ = _bounded_json(request["input"])
        self.book.append(
            transcript_pb2.Item(
                permission_request=transcript_pb2.PermissionRequest(
                    permission_id=request_id,
                    tool_call_id=request.get("tool_use_id") or "",
                    tool_name=request["tool_name"],
                    input_json=input_json,
                    question=request.get("decision_reason") or "",
                )
            )
        )

    def withdraw(self) -> None:
        """Take back the text that was not confirmed; the CLI gave up that message."""
        for blocks in self._pieces.values():
            for block in blocks:
                self.book.discard(block.block_id)
        self._pieces = {}

    def end(self, result: Result, failure: Failure | None, usage: transcript_pb2.Usage) -> Ending:
        """Close what is open and tell how the turn ended."""
        if result is Result.FINISHED:
            self.withdraw()
        for block in list(self.book.blocks.values()):
            self._record(block.block_id, block.text, thought=block.thought, partial=True)
        self.asks.clear()
        return Ending(
            result=result,
            failure=failure,
            usage=usage,
            tools_running=len(self._tools_running),
            tools_succeeded=self._tools_succeeded,
            tools_failed=self._tools_failed,
        )

    def _fragment(self, index: int, text: str, *, thought: bool) -> None:
        blocks = self._pieces.get(index)
        if blocks is None:
            block_id = f"{self._message}-{index}"
            blocks = self._pieces[index] = [self.book.open(block_id, thought=thought)]
        size = len(text) if text.isascii() else len(text.encode())
        block = blocks[-1]
        if block.size + size <= PIECE_BYTES:
            block.write(text, size)
            return
        for part in _split(text, PIECE_BYTES - block.size):
            if blocks[-1].size:
                block_id = f"{self._message}-{index}-{len(blocks) + 1}"
                blocks.append(self.book.open(block_id, thought=thought))
            blocks[-1].write(part, len(part.encode()))
        if len(blocks) > _PIECES:
            self.failure = Failure(
                errors_pb2.ERROR_REASON_AGENT_FAILED,
                "The agent wrote a message longer than 16 MiB; ask for less at once.",
            )

    def _confirm(self, message_id: str, text: str, *, thought: bool) -> None:
        blocks = self._streamed(message_id, thought=thought)
        parts = [block.text for block in blocks]
        if "".join(parts) != text:
            parts = list(_split(text, PIECE_BYTES))
        for number, part in enumerate(parts):
            if number < len(blocks):
                block_id = blocks[number].block_id
            else:
                self._unstreamed += 1
                block_id = f"{message_id}-w{self._unstreamed}"
            self._record(block_id, part, thought=thought, partial=False)
        for block in blocks[len(parts) :]:
            self.book.discard(block.block_id)

    def _streamed(self, message_id: str, *, thought: bool) -> list[Block]:
        """Take the oldest streamed text of a kind that waits for its confirmation."""
        if message_id == self._message:
            for index, blocks in self._pieces.items():
                if blocks[0].thought is thought:
                    return self._pieces.pop(index)
        return []

    def _record(self, block_id: str, text: str, *, thought: bool, partial: bool) -> None:
        if thought:
            fact = transcript_pb2.AgentThought(block_id=block_id, text=text, partial=partial)
            self.book.append(transcript_pb2.Item(agent_thought=fact))
        else:
            said = transcript_pb2.AgentMessage(block_id=block_id, text=text, partial=partial)
            self.book.append(transcript_pb2.Item(agent_message=said))

    def _tool_call(self, content: dict[str, Any], parent: str) -> None:
        input_json, omitted = _bounded_json(content["input"])
        self._tools_running.add(content["id"])
        self.book.append(
            transcript_pb2.Item(
                tool_call=transcript_pb2.ToolCall(
                    tool_call_id=content["id"],
                    tool_name=content["name"],
                    input_json=input_json,
                    parent_tool_call_id=parent,
                    omitted_bytes=omitted,
                )
            )
        )

    def _tool_result(self, content: dict[str, Any]) -> None:
        output = content.get("content") or ""
        if not isinstance(output, str):
            output = "".join(part.get("text", "") for part in output)
        failed = bool(content.get("is_error"))
        output, omitted = _bounded(output, PIECE_BYTES)
        self._tools_running.discard(content["tool_use_id"])
        self._tools_failed += failed
        self._tools_succeeded += not failed
        self.book.append(
            transcript_pb2.Item(
                tool_result=transcript_pb2.ToolResult(
                    tool_call_id=content["tool_use_id"],
                    output=output,
                    failed=failed,
                    omitted_bytes=omitted,
                )
            )
        )


def _split(text: str, first: int) -> Iterator[str]:
    """Cut a text into parts of at most `PIECE_BYTES`, the first of at most `first` bytes."""
    encoded = text.encode()
    start, room = 0, first
    while start < len(encoded):
        end = _boundary(encoded, start + room)
        if end > start:
            yield encoded[start:end].decode()
        start, room = end, PIECE_BYTES


def _boundary(encoded: bytes, end: int) -> int:
    """Return the greatest position up to `end` where no character is cut."""
    if end >= len(encoded):
        return len(encoded)
    while encoded[end] & 0xC0 == 0x80:
        end -= 1
    return end


def _bounded(text: str, limit: int) -> tuple[str, int]:
    encoded = text.encode()
    end = _boundary(encoded, limit)
    return encoded[:end].decode(), len(encoded) - end


def _bounded_json(value: Any) -> tuple[str, int]:
    whole = orjson.dumps(value).decode()
    if len(whole) <= PIECE_BYTES and len(whole.encode()) <= PIECE_BYTES:
        return whole, 0
    # Quotes and backslashes of the part that is kept take two bytes each in the new object.
    kept, omitted = _bounded(whole, PIECE_BYTES // 2 - 64)
    return orjson.dumps({"truncated": kept}).decode(), omitted
