"""One turn as it happens, and what came of it.

Picks a turn's events out of its agent's. Does not know how the turn was made.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Protocol, Self

from moorline.events import (
    AsyncEvent,
    Checkpoint,
    Message,
    MessageDiscarded,
    OutcomeState,
    TextDelta,
    TurnAttempt,
    TurnOutcome,
)
from moorline.exceptions import ConflictError, NotFoundError, TurnFailedError
from moorline.permissions import AsyncPermissionRequest, Decision, PermissionRequest
from moorline.resources import Turn, Usage
from moorline.watching import EventStream

# A longer answer than 64 KiB comes in several pieces, cut between characters.
_FULL_PIECE_BYTES = 64 * 1024 - 3

Choice = Decision | bool | None
"""True to allow, False to refuse, None to leave it open; a `Decision` says all there is to say."""

OnPermission = Callable[[PermissionRequest], Awaitable[Choice] | Choice]
"""Decides about a permission."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnResult:
    """What came of a turn.

    Attributes:
        turn: Its name.
        text: The answer: every message of the attempt that counts, a blank line
            between them.
        outcome: How it ended.
    """

    turn: str
    text: str
    outcome: TurnOutcome

    @property
    def usage(self) -> Usage:
        """What it consumed."""
        return self.outcome.usage

    @property
    def duration(self) -> timedelta:
        """How long it took."""
        return self.outcome.duration

    @property
    def finished(self) -> bool:
        """True when the agent finished by itself."""
        return self.outcome.state is OutcomeState.FINISHED


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """A turn that exists, and what is needed to follow it.

    Attributes:
        turn: The turn.
        after: Every event of it has a greater number.
        ahead: Ids of the turns that must end before it begins.
        events: Opens the agent's events from a position on.
    """

    turn: Turn
    after: int
    ahead: frozenset[str]
    events: EventStream


class Follow(Protocol):
    """Makes the turn, or finds it, and opens the events it is in."""

    async def __call__(self) -> Followed:
        """Do it; safe to repeat."""
        ...


class TurnStream(AsyncIterator[AsyncEvent]):
    """The events of one turn, as they happen, up to its outcome.

    Use it as a context manager. Leaving it never cancels the turn. When the
    connection breaks it goes on by itself; nothing is missed or repeated.
    """

    def __init__(self, *, follow: Follow, on_permission: OnPermission | None) -> None:
        self._follow = follow
        self._on_permission = on_permission
        self._followed: Followed | None = None
        self._waiting: set[str] = set()
        self._messages: list[Message] = []
        self._outcome: TurnOutcome | None = None

    async def __aenter__(self) -> Self:
        self._followed = await self._follow()
        self._waiting = set(self._followed.ahead)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._followed is not None:
            await self._followed.events.aclose()

    @property
    def turn(self) -> Any:
        """The turn, as it was when the stream began; an `AsyncTurn`."""
        return self._entered().turn

    @property
    def ahead(self) -> int:
        """How many turns of the agent must end before this one begins."""
        return len(self._waiting)

    @property
    def result(self) -> TurnResult:
        """What came of it, whatever it is. Only after the last event.

        Raises:
            RuntimeError: The turn is not over.
        """
        if self._outcome is None:
            message = "The turn is not over. Read the stream to its end, or call wait()."
            raise RuntimeError(message)
        return TurnResult(
            turn=self._entered().turn.name,
            text=join_messages(self._messages),
            outcome=self._outcome,
        )

    def result_or_raise(self) -> TurnResult:
        """What came of it when it finished.

        Raises:
            TurnFailedError: It ended in another way.
            RuntimeError: The turn is not over.
        """
        result = self.result
        if not result.finished:
            raise TurnFailedError(result.outcome)
        return result

    async def wait(self) -> TurnResult:
        """Read to the end and return what came of it, whatever it is."""
        async for _ in self:
            pass
        return self.result

    async def cancel(self) -> None:
        """Ask the turn to stop; its outcome tells when it has."""
        await self.turn.cancel()

    async def __anext__(self) -> AsyncEvent:
        followed = self._entered()
        while self._outcome is None:
            event = await anext(followed.events)
            if self._belongs(event, followed.turn.id):
                await self._take(event)
                return event
        raise StopAsyncIteration

    def _entered(self) -> Followed:
        if self._followed is None:
            message = "Use it as a context manager: async with agent.run(…) as stream"
            raise RuntimeError(message)
        return self._followed

    def _belongs(self, event: AsyncEvent, turn_id: str) -> bool:
        if isinstance(event, Checkpoint):
            return False
        if isinstance(event, TextDelta | MessageDiscarded):
            # Deltas do not say whose they are: an agent's turns run one at a
            # time, so they are ours once every turn ahead has ended.
            return not self._waiting
        if isinstance(event, TurnOutcome):
            self._waiting.discard(event.turn_id)
        return event.turn_id == turn_id

    async def _take(self, event: AsyncEvent) -> None:
        if isinstance(event, Message):
            if not event.parent_tool_call_id:
                self._messages.append(event)
        elif isinstance(event, TurnAttempt):
            self._messages.clear()
        elif isinstance(event, TurnOutcome):
            self._outcome = event
        elif isinstance(event, AsyncPermissionRequest) and self._on_permission is not None:
            await answer_by(self._on_permission, event)


async def answer_by(decide: OnPermission, request: AsyncPermissionRequest) -> None:
    """Ask a callback and send what it says; somebody else's earlier answer stands."""
    choice = decide(request)
    if inspect.isawaitable(choice):
        choice = await choice
    if choice is None:
        return
    try:
        await request.decide(as_decision(choice))
    except (ConflictError, NotFoundError):
        return


def as_decision(choice: Decision | bool) -> Decision:
    """Return a choice as a decision."""
    return choice if isinstance(choice, Decision) else Decision(allowed=choice)


def join_messages(messages: list[Message]) -> str:
    """Put the messages of a turn together to one text."""
    parts: list[str] = []
    whole = True
    for message in messages:
        if parts and whole:
            parts.append("\n\n")
        parts.append(message.text)
        whole = len(message.text.encode()) < _FULL_PIECE_BYTES
    return "".join(parts)
