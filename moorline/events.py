"""What an agent says and does, as typed events.

Does not know the socket: `moorline.watching` puts events in order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from moorline.changes import FileChange
from moorline.exceptions import MoorlineError
from moorline.permissions import AsyncPermissionRequest, PermissionDecision
from moorline.resources import NO_USAGE, Usage
from moorline.stored_event import Event, StoredEvent, parse_object


class OutcomeState(StrEnum):
    """How a turn ended."""

    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"
    LOST = "lost"
    UNKNOWN = "unknown"


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
        parent_tool_call_id: The call whose sub-agent said it; empty for the main agent.
    """

    block_id: str
    text: str
    partial: bool = False
    parent_tool_call_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thought(StoredEvent):
    """A complete piece of the agent's reasoning; see `Message`."""

    block_id: str
    text: str
    partial: bool = False
    parent_tool_call_id: str = ""


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
        background_tasks: Things the agent has started that go on in the background.
        model: The model that answered last; empty when not known.
    """

    state: OutcomeState
    error: MoorlineError | None = None
    usage: Usage = NO_USAGE
    duration: timedelta = timedelta(0)
    background_tasks: int = 0
    model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRetry(StoredEvent):
    """The model provider failed and is asked again; text of the message it broke is withdrawn.

    Attributes:
        attempt: 1 for the first repetition.
        attempts: How many there are before the turn fails.
        delay: Until the repetition.
        error: What happened.
    """

    attempt: int
    attempts: int = 0
    delay: timedelta = timedelta(0)
    error: MoorlineError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFallback(StoredEvent):
    """Another model goes on with the turn."""

    from_model: str
    to_model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Compaction(StoredEvent):
    """The agent has shortened its memory of the conversation; the events stay.

    Attributes:
        automatic: False when the user asked for it.
        tokens_before: Tokens of the conversation before.
        tokens_after: Tokens after; 0 when not known.
    """

    automatic: bool = False
    tokens_before: int = 0
    tokens_after: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesChanged(StoredEvent):
    """What the turn changed in the workspace.

    Attributes:
        changes: By path.
        omitted_files: Changed files that are not among them, because there are too many.
    """

    changes: tuple[FileChange, ...] = ()
    omitted_files: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BackgroundWork(StoredEvent):
    """Begins a turn that nobody asked for: the agent goes on with work it had left.

    Attributes:
        description: What it is, as the agent calls it; may be empty.
    """

    description: str = ""


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
    | ProviderRetry
    | ModelFallback
    | Compaction
    | FilesChanged
    | BackgroundWork
    | UnknownEvent
)
"""Stored events that are the same for both clients."""

AnyNews = TextDelta | MessageDiscarded | Checkpoint
"""Events that are not stored."""

AsyncStoredEvent = AnyFact | AsyncPermissionRequest
"""What `AsyncAgent.history` returns."""

AsyncEvent = AsyncStoredEvent | AnyNews
"""What the streams of `AsyncClient` yield."""
