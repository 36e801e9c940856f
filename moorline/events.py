"""What an agent says and does, as typed events.

Does not know the socket: `moorline.watching` puts events in order.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Protocol

from moorline.exceptions import MoorlineError
from moorline.resources import NO_USAGE, Usage

_EMPTY: Mapping[str, Any] = MappingProxyType({})


class OutcomeState(StrEnum):
    """How a turn ended."""

    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"
    LOST = "lost"
    UNKNOWN = "unknown"


class Decider(StrEnum):
    """Who decided about a permission."""

    USER = "user"
    TIMEOUT = "timeout"
    TURN_END = "turn-end"
    UNKNOWN = "unknown"


class Answer(Protocol):
    """Sends a decision about a permission request to the platform."""

    def __call__(
        self, *, turn_id: str, permission_id: str, allowed: bool, reason: str
    ) -> Awaitable[None]:
        """Send it; repeating the same decision succeeds."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Anything that arrives about an agent.

    Attributes:
        raw: The `session.v1.EventUpdate` it came from, as the WebSocket's JSON.
    """

    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent(Event):
    """A fact that is recorded for good and never changes.

    Attributes:
        sequence: Its number in the agent's history: 1, 2, 3 …
        turn_id: The turn it belongs to.
        create_time: When it happened.
    """

    sequence: int
    turn_id: str
    create_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class UserMessage(StoredEvent):
    """The prompt that began a turn."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message(StoredEvent):
    """A complete piece of the answer; the text deltas of its block make up its text.

    Attributes:
        block_id: Identifies the piece within its turn.
        text: Markdown.
        partial: True when the turn ended before the agent had finished it.
    """

    block_id: str
    text: str
    partial: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Thought(StoredEvent):
    """A complete piece of the agent's reasoning."""

    block_id: str
    text: str
    partial: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall(StoredEvent):
    """The agent asks for a tool to run.

    Attributes:
        tool_call_id: `ToolResult` repeats it.
        tool_name: The tool's own name, for example `Bash`.
        input_json: The tool's arguments, a JSON object as text.
        parent_tool_call_id: The call whose sub-agent made this one; empty for
            the main agent.
        omitted_bytes: Bytes of the arguments that were cut off.
    """

    tool_call_id: str
    tool_name: str
    input_json: str = "{}"
    parent_tool_call_id: str = ""
    omitted_bytes: int = 0

    @property
    def input(self) -> Mapping[str, Any]:
        """The arguments; empty when they are not a JSON object."""
        return parse_object(self.input_json)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult(StoredEvent):
    """The tool ran, or failed.

    Attributes:
        tool_call_id: The call this answers.
        output: What the tool gave back.
        failed: True when the tool failed or was refused.
        omitted_bytes: Bytes of output that were cut off.
    """

    tool_call_id: str
    output: str = ""
    failed: bool = False
    omitted_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PermissionRequest(StoredEvent):
    """The agent may not go on before someone decides.

    What the clients hand out can be answered: `allow()` and `deny(reason)`,
    awaited with `AsyncClient` and called with `Client`.

    Attributes:
        permission_id: Identifies the request within its turn.
        tool_call_id: The call that waits.
        tool_name: The tool's own name.
        input_json: What the tool would be given, a JSON object as text.
        question: One sentence for the person who decides; may be empty.
        expire_time: When silence becomes a refusal; None for never.
    """

    permission_id: str
    tool_call_id: str
    tool_name: str
    input_json: str = "{}"
    question: str = ""
    expire_time: datetime | None = None

    @property
    def input(self) -> Mapping[str, Any]:
        """What the tool would be given; empty when it is not a JSON object."""
        return parse_object(self.input_json)


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncPermissionRequest(PermissionRequest):
    """A permission request of `AsyncClient`."""

    answer: Answer = field(repr=False, compare=False)

    async def allow(self) -> None:
        """Let the tool run. The first answer wins; repeating it changes nothing.

        Raises:
            ConflictError: Somebody refused before, or the turn is over.
        """
        await self._decide(allowed=True, reason="")

    async def deny(self, reason: str = "") -> None:
        """Refuse; the agent goes on without the tool.

        Args:
            reason: Told to the agent, at most 2000 characters.

        Raises:
            ConflictError: Somebody allowed it before, or the turn is over.
        """
        await self._decide(allowed=False, reason=reason)

    async def _decide(self, *, allowed: bool, reason: str) -> None:
        await self.answer(
            turn_id=self.turn_id,
            permission_id=self.permission_id,
            allowed=allowed,
            reason=reason,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PermissionDecision(StoredEvent):
    """Someone decided, or nobody did in time.

    Attributes:
        permission_id: The request this answers.
        allowed: True to go on.
        reason: What the agent was told; may be empty.
        decider: Who decided.
    """

    permission_id: str
    allowed: bool = False
    reason: str = ""
    decider: Decider = Decider.UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnAttempt(StoredEvent):
    """The turn is tried again; text still being written before it is withdrawn.

    Attributes:
        attempt: 2 for the first repetition.
        error: Why the attempt before was given up.
    """

    attempt: int
    error: MoorlineError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnOutcome(StoredEvent):
    """The turn is over. Always its last event.

    Attributes:
        state: How it ended.
        error: Why, when it failed or was lost.
        usage: What it consumed.
        duration: From its first attempt's start to its end.
    """

    state: OutcomeState
    error: MoorlineError | None = None
    usage: Usage = NO_USAGE
    duration: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownEvent(StoredEvent):
    """A fact of a kind this version of the client does not know.

    Attributes:
        kind: Its name in the protocol; empty when there is none.
    """

    kind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta(Event):
    """Text of a piece still being written.

    The deltas of a block, put together, are exactly the text of the `Message`
    (or `Thought`) that follows, also when the connection broke in between.

    Attributes:
        block_id: The piece this extends.
        text: Append it; when `snapshot`, replace by it what the block had.
        snapshot: True when `text` is everything written so far.
        thought: True when the piece is reasoning and not answer.
    """

    block_id: str
    text: str
    snapshot: bool = False
    thought: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageDiscarded(Event):
    """The agent took a piece back before it was complete: remove it."""

    block_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint(Event):
    """Everything stored up to here has been delivered; what follows is live.

    Comes again after each reconnect.

    Attributes:
        sequence: Greatest number stored so far; 0 for an empty history.
        log_id: Which history the numbers count in; another one when the agent was
            made anew or the platform's database was restored.
    """

    sequence: int
    log_id: str = ""


AnyFact = (
    UserMessage
    | Message
    | Thought
    | ToolCall
    | ToolResult
    | PermissionDecision
    | TurnAttempt
    | TurnOutcome
    | UnknownEvent
)
"""Stored events that are the same for both clients."""

AnyNews = TextDelta | MessageDiscarded | Checkpoint
"""Events that are not stored."""

AsyncStoredEvent = AnyFact | AsyncPermissionRequest
"""What `AsyncAgent.history` returns."""

AsyncEvent = AsyncStoredEvent | AnyNews
"""What the streams of `AsyncClient` yield."""


def parse_object(text: str) -> Mapping[str, Any]:
    """Read a JSON object; anything else is an empty one."""
    try:
        value = json.loads(text)
    except ValueError:
        return _EMPTY
    return value if isinstance(value, dict) else _EMPTY
