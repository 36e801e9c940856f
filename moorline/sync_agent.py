"""Agents, turns and their streams as the synchronous client hands them out.

Each wraps its asynchronous twin; nothing here knows the protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from types import TracebackType
from typing import Self

from moorline.async_agent import AsyncAgent, AsyncTurn
from moorline.bridge import Bridge
from moorline.events import (
    AnyFact,
    AnyNews,
    AsyncEvent,
    AsyncStoredEvent,
)
from moorline.exceptions import ConflictError, NotFoundError
from moorline.permissions import (
    AsyncPermissionRequest,
    Decision,
    PermissionRequest,
    PermissionSuggestion,
)
from moorline.resources import Agent, PermissionMode, Turn
from moorline.sync_files import SyncFiles
from moorline.turn_stream import Choice, TurnResult, TurnStream, as_decision
from moorline.watching import EventStream

SyncDecision = Callable[[PermissionRequest], Choice]
"""Decides about a permission; see `OnPermission`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncPermissionRequest(PermissionRequest):
    """A permission request of `Client`."""

    twin: AsyncPermissionRequest = field(repr=False, compare=False)
    bridge: Bridge = field(repr=False, compare=False)

    def allow(self, suggestion: PermissionSuggestion | None = None) -> None:
        """Let the agent go on; see `AsyncPermissionRequest.allow`."""
        self.bridge.run(self.twin.allow(suggestion))

    def deny(self, reason: str = "") -> None:
        """Refuse; see `AsyncPermissionRequest.deny`."""
        self.bridge.run(self.twin.deny(reason))

    def reply(self, answers: Mapping[str, str | Sequence[str]]) -> None:
        """Answer the agent's questions; see `AsyncPermissionRequest.reply`."""
        self.bridge.run(self.twin.reply(answers))

    def decide(self, decision: Decision) -> None:
        """Send a decision of any kind; see `AsyncPermissionRequest.decide`."""
        self.bridge.run(self.twin.decide(decision))


SyncStoredEvent = AnyFact | SyncPermissionRequest
"""What `SyncAgent.history` returns."""

SyncEvent = SyncStoredEvent | AnyNews
"""What the streams of `Client` yield."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncTurn(Turn):
    """A turn of `Client`."""

    twin: AsyncTurn = field(repr=False, compare=False)
    bridge: Bridge = field(repr=False, compare=False)

    @classmethod
    def of(cls, twin: AsyncTurn, bridge: Bridge) -> Self:
        """Wrap a turn."""
        facts = {fact.name: getattr(twin, fact.name) for fact in fields(Turn)}
        return cls(**facts, twin=twin, bridge=bridge)

    def refresh(self) -> SyncTurn:
        """Read it again."""
        return SyncTurn.of(self.bridge.run(self.twin.refresh()), self.bridge)

    def cancel(self) -> SyncTurn:
        """Ask it to stop; cancelling a turn that is over changes nothing."""
        return SyncTurn.of(self.bridge.run(self.twin.cancel()), self.bridge)

    def stream(self, *, on_permission: SyncDecision | None = None) -> SyncTurnStream:
        """Follow it from its beginning, whether it waits, runs or is over."""
        return SyncTurnStream(self.twin.stream(), self.bridge, on_permission)

    def wait(self) -> TurnResult:
        """Wait for its end and return what came of it, whatever it is."""
        return self.bridge.run(self.twin.wait())


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncAgent(Agent):
    """An agent of `Client`."""

    twin: AsyncAgent = field(repr=False, compare=False)
    bridge: Bridge = field(repr=False, compare=False)

    @classmethod
    def of(cls, twin: AsyncAgent, bridge: Bridge) -> Self:
        """Wrap an agent."""
        facts = {fact.name: getattr(twin, fact.name) for fact in fields(Agent)}
        return cls(**facts, twin=twin, bridge=bridge)

    def run(
        self,
        prompt: str,
        *,
        turn_id: str | None = None,
        on_permission: SyncDecision | None = None,
    ) -> SyncTurnStream:
        """Start a turn and follow it; see `AsyncAgent.run`."""
        return SyncTurnStream(self.twin.run(prompt, turn_id=turn_id), self.bridge, on_permission)

    def send(self, prompt: str, *, turn_id: str | None = None) -> SyncTurn:
        """Start a turn and leave it alone; see `AsyncAgent.send`."""
        turn = self.bridge.run(self.twin.send(prompt, turn_id=turn_id))
        return SyncTurn.of(turn, self.bridge)

    def events(self, *, after: int = 0, log_id: str = "", deltas: bool = True) -> SyncEventStream:
        """Follow everything the agent says and does, for ever; see `AsyncAgent.events`."""
        twin = self.twin.events(after=after, log_id=log_id, deltas=deltas)
        return SyncEventStream(twin, self.bridge)

    def history(self, *, after: int = 0, limit: int | None = None) -> tuple[SyncStoredEvent, ...]:
        """Read what is stored, oldest first."""
        found = self.bridge.run(self.twin.history(after=after, limit=limit))
        return tuple(_stored(event, self.bridge) for event in found)

    def turn(self, turn_id: str) -> SyncTurn:
        """A turn by its id, unread: call `refresh()` for its facts."""
        return SyncTurn.of(self.twin.turn(turn_id), self.bridge)

    def turns(
        self, *, unfinished_only: bool = False, limit: int | None = None
    ) -> tuple[SyncTurn, ...]:
        """List turns, newest first; see `AsyncAgent.turns`."""
        found = self.bridge.run(self.twin.turns(unfinished_only=unfinished_only, limit=limit))
        return tuple(SyncTurn.of(turn, self.bridge) for turn in found)

    @property
    def files(self) -> SyncFiles:
        """The files of its workspace."""
        return SyncFiles(self.twin.files, self.bridge)

    def refresh(self) -> SyncAgent:
        """Read it again."""
        return SyncAgent.of(self.bridge.run(self.twin.refresh()), self.bridge)

    def update(
        self,
        *,
        display_name: str | None = None,
        instructions: str | None = None,
        backend: str | None = None,
        permission_mode: PermissionMode | str | None = None,
        model: str | None = None,
        turn_budget_usd_micros: int | None = None,
        budget_usd_micros: int | None = None,
        max_steps: int | None = None,
        allowed_rules: Sequence[str] | None = None,
    ) -> SyncAgent:
        """Change settings; None leaves one as it is."""
        changed = self.twin.update(
            display_name=display_name,
            instructions=instructions,
            backend=backend,
            permission_mode=permission_mode,
            model=model,
            turn_budget_usd_micros=turn_budget_usd_micros,
            budget_usd_micros=budget_usd_micros,
            max_steps=max_steps,
            allowed_rules=allowed_rules,
        )
        return SyncAgent.of(self.bridge.run(changed), self.bridge)

    def delete(self) -> None:
        """Delete it with its history and files, and cancel what runs."""
        self.bridge.run(self.twin.delete())


class SyncEventStream(Iterator[SyncEvent]):
    """An agent's events from a position on, then live; see `EventStream`."""

    def __init__(self, twin: EventStream, bridge: Bridge) -> None:
        self._twin = twin
        self._bridge = bridge

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop; doing it again changes nothing."""
        self._bridge.run(self._twin.aclose())

    @property
    def sequence(self) -> int:
        """Number of the last event taken from it."""
        return self._twin.sequence

    @property
    def log_id(self) -> str:
        """Which history `sequence` counts in; see `EventStream`."""
        return self._twin.log_id

    def __next__(self) -> SyncEvent:
        return _event(_next(self._twin, self._bridge), self._bridge)


class SyncTurnStream(Iterator[SyncEvent]):
    """The events of one turn, up to its outcome; see `TurnStream`."""

    def __init__(
        self, twin: TurnStream, bridge: Bridge, on_permission: SyncDecision | None
    ) -> None:
        self._twin = twin
        self._bridge = bridge
        self._on_permission = on_permission

    def __enter__(self) -> Self:
        self._bridge.run(self._twin.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bridge.run(self._twin.__aexit__(None, None, None))

    @property
    def turn(self) -> SyncTurn:
        """The turn, as it was when the stream began."""
        return SyncTurn.of(self._twin.turn, self._bridge)

    @property
    def ahead(self) -> int:
        """How many turns of the agent must end before this one begins."""
        return self._twin.ahead

    @property
    def result(self) -> TurnResult:
        """What came of it, whatever it is. Only after the last event."""
        return self._twin.result

    def result_or_raise(self) -> TurnResult:
        """What came of it when it finished; see `TurnStream.result_or_raise`."""
        return self._twin.result_or_raise()

    def wait(self) -> TurnResult:
        """Read to the end and return what came of it, whatever it is."""
        for _ in self:
            pass
        return self.result

    def cancel(self) -> None:
        """Ask the turn to stop; its outcome tells when it has."""
        self._bridge.run(self._twin.cancel())

    def __next__(self) -> SyncEvent:
        event = _event(_next(self._twin, self._bridge), self._bridge)
        if isinstance(event, SyncPermissionRequest) and self._on_permission is not None:
            # Here and not on the loop's thread: it may well ask a person.
            decision = self._on_permission(event)
            # Somebody else's earlier answer stands.
            with suppress(ConflictError, NotFoundError):
                if decision is not None:
                    event.decide(as_decision(decision))
        return event


def _next(stream: EventStream | TurnStream, bridge: Bridge) -> AsyncEvent:
    async def step() -> AsyncEvent | None:
        # A StopAsyncIteration cannot leave a coroutine of another thread.
        return await anext(stream, None)

    event = bridge.run(step())
    if event is None:
        raise StopIteration
    return event


def _event(event: AsyncEvent, bridge: Bridge) -> SyncEvent:
    if isinstance(event, AsyncPermissionRequest):
        return _request(event, bridge)
    return event


def _stored(event: AsyncStoredEvent, bridge: Bridge) -> SyncStoredEvent:
    if isinstance(event, AsyncPermissionRequest):
        return _request(event, bridge)
    return event


def _request(event: AsyncPermissionRequest, bridge: Bridge) -> SyncPermissionRequest:
    facts = {fact.name: getattr(event, fact.name) for fact in fields(PermissionRequest)}
    return SyncPermissionRequest(**facts, twin=event, bridge=bridge)
