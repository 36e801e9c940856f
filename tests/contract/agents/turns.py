"""One turn of an agent, as whoever follows its execution sees it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import executions_pb2
from moorline.transcript.v1 import transcript_pb2

PATIENCE_SECONDS = 40
"""Ample for a cold program on a busy machine; what needs it all has failed."""
AT_ONCE_SECONDS = 10
"""A program beside many others takes to end what would have gone on for much longer."""

State = transcript_pb2.TurnOutcome.State


class Turn:
    """What was heard of one execution so far."""

    def __init__(self, execution_id: str) -> None:
        self.execution_id = execution_id
        self.items: list[transcript_pb2.Item] = []
        """The facts, without parts of the transcript."""
        self.parts: list[executions_pb2.TranscriptPart] = []
        """Parts of the transcript."""
        self.sequences: list[int] = []
        """Numbers of both."""
        self.shown: dict[str, str] = {}
        """Text of each piece, as a client shows it."""
        self.deltas = 0
        self.discarded: list[str] = []
        self.progress: list[executions_pb2.ExecutionProgress] = []
        self.conversation = ""
        self.began = time.monotonic()
        self.ended = 0.0
        self.follower: asyncio.Task[None] | None = None
        """Hears and acknowledges everything; ends after the outcome."""
        self._news = asyncio.Event()

    def hear(self, update: executions_pb2.ExecutionUpdate) -> None:
        """Take in one update."""
        match update.WhichOneof("update"):
            case "event":
                self._hear_event(update.event)
            case "delta":
                self.deltas += 1
                delta = update.delta
                before = "" if delta.snapshot else self.shown[delta.block_id]
                self.shown[delta.block_id] = before + delta.text
            case "message_discarded":
                block_id = update.message_discarded.block_id
                self.discarded.append(self.shown.pop(block_id))
            case "progress":
                self.progress.append(update.progress)
        self._news.set()

    def _hear_event(self, event: executions_pb2.ExecutionEvent) -> None:
        self.sequences.append(event.sequence)
        if event.HasField("transcript"):
            self.parts.append(event.transcript)
            return
        item = event.item
        self.items.append(item)
        said = item.agent_thought if item.HasField("agent_thought") else item.agent_message
        if said.block_id:
            shown = self.shown.get(said.block_id, "")
            assert said.text.startswith(shown), "the text shown is not the text recorded"
            self.shown[said.block_id] = said.text
        if item.HasField("turn_outcome"):
            self.conversation = event.conversation
            self.ended = time.monotonic()

    async def until(self, condition: Callable[[], Any], patience: float = PATIENCE_SECONDS) -> Any:
        """Wait until something holds; return it."""
        async with asyncio.timeout(patience):
            while not (found := condition()):
                self._news.clear()
                await self._news.wait()
        return found

    async def item(self, kind: str, number: int = 1) -> Any:
        """Wait for the n-th item of a kind; return what it holds."""
        found = await self.until(lambda: self.of(kind)[number - 1 :])
        return found[0]

    async def over(self) -> transcript_pb2.TurnOutcome:
        """Wait for the outcome."""
        outcome: transcript_pb2.TurnOutcome = await self.item("turn_outcome")
        return outcome

    def of(self, kind: str) -> list[Any]:
        """Return what the items of a kind hold."""
        return [getattr(item, kind) for item in self.items if item.WhichOneof("kind") == kind]

    @property
    def kinds(self) -> list[str]:
        """Kinds of the items."""
        return [str(item.WhichOneof("kind")) for item in self.items]

    @property
    def texts(self) -> list[str]:
        """What the main agent said, piece by piece; not that it is done, as only some say."""
        said = [one for one in self.of("agent_message") if not one.parent_tool_call_id]
        return [one.text for one in said if one.text != "Done."]

    @property
    def outcome(self) -> transcript_pb2.TurnOutcome:
        """The outcome."""
        outcome: transcript_pb2.TurnOutcome = self.of("turn_outcome")[0]
        return outcome

    @property
    def ending(self) -> str:
        """How it ended, with the reason when it failed."""
        state = State.Name(self.outcome.state).removeprefix("STATE_").lower()
        if not self.outcome.HasField("error"):
            return state
        reason = errors_pb2.ErrorReason.Name(self.outcome.error.reason)
        return f"{state} {reason.removeprefix('ERROR_REASON_')}"

    @property
    def steps(self) -> Iterator[tuple[transcript_pb2.ToolCall, transcript_pb2.ToolResult]]:
        """The tool calls that have a result, each with it."""
        results = {one.tool_call_id: one for one in self.of("tool_result")}
        for call in self.of("tool_call"):
            if call.tool_call_id in results:
                yield call, results[call.tool_call_id]

    def result(self, tool: str, number: int = 1) -> transcript_pb2.ToolResult:
        """Return the result of the n-th call of a tool."""
        return [result for call, result in self.steps if call.tool_name == tool][number - 1]


async def until(condition: Callable[[], Any], patience: float = PATIENCE_SECONDS) -> None:
    """Wait for something that nothing tells of, such as a file or a process."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def look() -> None:
        if condition():
            done.set_result(None)
        else:
            timer[0] = loop.call_later(0.02, look)

    timer = [loop.call_soon(look)]
    try:
        await asyncio.wait_for(done, patience)
    finally:
        timer[0].cancel()


def arguments(call: Any) -> dict[str, Any]:
    """Return the arguments of a tool call, or of a request to allow one."""
    with contextlib.suppress(orjson.JSONDecodeError):
        found: dict[str, Any] = orjson.loads(call.input_json)
        return found
    return {}
