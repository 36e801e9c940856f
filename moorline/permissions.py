"""What an agent asks its user, and the answers. Does not know how either travels."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from moorline.stored_event import StoredEvent, parse_object


class Decider(StrEnum):
    """Who decided about a permission."""

    USER = "user"
    TIMEOUT = "timeout"
    TURN_END = "turn-end"
    UNKNOWN = "unknown"


class PermissionKind(StrEnum):
    """What is asked for."""

    TOOL = "tool"
    """To run a tool, exactly as `input_json` says."""
    QUESTION = "question"
    """Answers to `questions`; to allow is to answer."""
    PLAN = "plan"
    """To carry out `plan`."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class PermissionSuggestion:
    """What can be allowed for the time to come, together with one request.

    Attributes:
        suggestion_id: Identifies it within its request.
        rules: Uses of tools that would need no question any more.
        accept_edits: True when the agent would edit files freely from now on.
    """

    suggestion_id: str
    rules: tuple[str, ...] = ()
    accept_edits: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionOption:
    """One answer to choose.

    Attributes:
        label: A few words.
        description: What choosing it means; may be empty.
    """

    label: str
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question of the agent to the user.

    Attributes:
        question: The question; also its key among the answers.
        header: One or two words for a heading; may be empty.
        options: What to choose from; own words are an answer too.
        multiple: True when several may be chosen.
    """

    question: str
    header: str = ""
    options: tuple[QuestionOption, ...] = ()
    multiple: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a user decides about a permission request.

    Attributes:
        allowed: True to go on.
        reason: Told to the agent when refused.
        suggestion_id: The suggestion that is allowed too; empty to allow this once.
        answers: Answers by question.
    """

    allowed: bool
    reason: str = ""
    suggestion_id: str = ""
    answers: Mapping[str, Sequence[str]] = field(default_factory=dict)


class Answer(Protocol):
    """Sends a decision about a permission request to the platform."""

    def __call__(self, *, turn_id: str, permission_id: str, decision: Decision) -> Awaitable[None]:
        """Send it; repeating the same decision succeeds."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PermissionRequest(StoredEvent):
    """The agent may not go on before someone decides.

    What the clients hand out can be answered: `allow()`, `deny(reason)` and
    `reply(answers)`, awaited with `AsyncClient` and called with `Client`.

    Attributes:
        permission_id: Identifies the request within its turn.
        tool_call_id: The call that waits.
        tool_name: The tool's own name.
        input_json: What the tool would be given, a JSON object as text.
        question: One sentence for the person who decides; may be empty.
        expire_time: When silence becomes a refusal; None for never.
        kind: What is asked for.
        diff: What the tool would change in a file, a unified diff; may be empty.
        suggestions: What can be allowed for the time to come together with it.
        questions: What the agent asks, with `PermissionKind.QUESTION`.
        plan: What the agent plans, Markdown, with `PermissionKind.PLAN`.
        omitted_bytes: Bytes of the input that were cut off; what is not whole cannot
            be allowed.
    """

    permission_id: str
    tool_call_id: str
    tool_name: str
    input_json: str = "{}"
    question: str = ""
    expire_time: datetime | None = None
    kind: PermissionKind = PermissionKind.TOOL
    diff: str = ""
    suggestions: tuple[PermissionSuggestion, ...] = ()
    questions: tuple[Question, ...] = ()
    plan: str = ""
    omitted_bytes: int = 0

    @property
    def input(self) -> Mapping[str, Any]:
        """What the tool would be given; empty when it is not a JSON object."""
        return parse_object(self.input_json)


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncPermissionRequest(PermissionRequest):
    """A permission request of `AsyncClient`."""

    answer: Answer = field(repr=False, compare=False)

    async def allow(self, suggestion: PermissionSuggestion | None = None) -> None:
        """Let the agent go on. The first answer wins; repeating it changes nothing.

        Args:
            suggestion: One of `suggestions`, to allow that for the time to come; None to
                allow this once.

        Raises:
            ConflictError: Somebody answered otherwise before, or the turn is over.
        """
        chosen = suggestion.suggestion_id if suggestion is not None else ""
        await self.decide(Decision(allowed=True, suggestion_id=chosen))

    async def deny(self, reason: str = "") -> None:
        """Refuse; the agent goes on without.

        Args:
            reason: Told to the agent, at most 2000 characters.

        Raises:
            ConflictError: Somebody answered otherwise before, or the turn is over.
        """
        await self.decide(Decision(allowed=False, reason=reason))

    async def reply(self, answers: Mapping[str, str | Sequence[str]]) -> None:
        """Answer the agent's questions.

        Args:
            answers: For each question, by its text: the label of an option, several
                labels, or own words.

        Raises:
            ConflictError: Somebody answered otherwise before, or the turn is over.
            InvalidRequestError: A question is not answered.
        """
        listed = {
            question: (answer,) if isinstance(answer, str) else tuple(answer)
            for question, answer in answers.items()
        }
        await self.decide(Decision(allowed=True, answers=listed))

    async def decide(self, decision: Decision) -> None:
        """Send a decision of any kind; the methods above are made of it."""
        await self.answer(turn_id=self.turn_id, permission_id=self.permission_id, decision=decision)


@dataclass(frozen=True, slots=True, kw_only=True)
class PermissionDecision(StoredEvent):
    """Someone decided, or nobody did in time.

    Attributes:
        permission_id: The request this answers.
        allowed: True to go on.
        reason: What the agent was told; may be empty.
        decider: Who decided.
        suggestion_id: The suggestion that was allowed too; empty for none.
        answers: What was answered, by question.
    """

    permission_id: str
    allowed: bool = False
    reason: str = ""
    decider: Decider = Decider.UNKNOWN
    suggestion_id: str = ""
    answers: Mapping[str, Sequence[str]] = field(default_factory=dict)
