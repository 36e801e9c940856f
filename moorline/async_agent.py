"""An agent and its turns as the asynchronous client hands them out.

Knows the calls of the protocol by name, and nothing of sockets.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from moorline.async_files import AsyncFiles
from moorline.connection import Connection
from moorline.events import AsyncStoredEvent
from moorline.exceptions import InvalidRequestError, NotFoundError
from moorline.paging import read_pages
from moorline.permissions import Answer, Decision
from moorline.resources import Agent, PermissionMode, Turn, TurnState, agent_fields, turn_fields
from moorline.turn_stream import Followed, OnPermission, TurnResult, TurnStream
from moorline.updates import decode_event
from moorline.watching import EventStream

_EVENT_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncTurn(Turn):
    """A turn of `AsyncClient`."""

    connection: Connection = field(repr=False, compare=False)

    async def refresh(self) -> AsyncTurn:
        """Read it again."""
        reply = await self.connection.call("getTurn", {"name": self.name})
        return make_turn(reply["turn"], self.connection)

    async def cancel(self) -> AsyncTurn:
        """Ask it to stop; cancelling a turn that is over changes nothing.

        Returns:
            The turn when the request was recorded, most often still running.
        """
        reply = await self.connection.call("cancelTurn", {"name": self.name})
        return make_turn(reply["turn"], self.connection)

    def stream(self, *, on_permission: OnPermission | None = None) -> TurnStream:
        """Follow it from its beginning, whether it waits, runs or is over.

        Args:
            on_permission: Decides about permissions; None to leave them open.
        """

        async def follow() -> Followed:
            return await _follow(await self.refresh())

        return TurnStream(follow=follow, on_permission=on_permission)

    async def wait(self) -> TurnResult:
        """Wait for its end and return what came of it, whatever it is."""
        async with self.stream() as stream:
            return await stream.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncAgent(Agent):
    """An agent of `AsyncClient`."""

    connection: Connection = field(repr=False, compare=False)

    def run(
        self,
        prompt: str,
        *,
        turn_id: str | None = None,
        on_permission: OnPermission | None = None,
    ) -> TurnStream:
        """Start a turn and follow it; a busy agent takes it after the others.

        Args:
            prompt: What to do, 1 to 100 000 characters.
            turn_id: Your own id, `[A-Za-z0-9][A-Za-z0-9_-]{0,62}`: the same one
                again joins the turn it made. None for a random one.
            on_permission: Decides about permissions; None to leave them open.

        Returns:
            The stream. The turn is made when it is entered.
        """
        turn_id = turn_id or new_turn_id()

        async def follow() -> Followed:
            return await _follow(await self.send(prompt, turn_id=turn_id))

        return TurnStream(follow=follow, on_permission=on_permission)

    async def send(self, prompt: str, *, turn_id: str | None = None) -> AsyncTurn:
        """Start a turn and leave it alone.

        Safe to repeat with the same `turn_id`; a broken connection does that.

        Raises:
            ConflictError: The id was used before with another prompt.
            InvalidRequestError: The prompt is empty, or longer than the server takes.
            RateLimitedError: Too many turns wait already.
        """
        limit = self.connection.welcome.get("limits", {}).get("promptCharacters", 0)
        if 0 < limit < len(prompt):
            raise InvalidRequestError(
                f"The prompt has {len(prompt)} characters, and {limit} characters are allowed.",
                reason="FIELD_INVALID",
                code=3,
                metadata={"field": "turn.prompt.text", "limit": str(limit)},
            )
        request = {
            "parent": self.name,
            "turnId": turn_id or new_turn_id(),
            "turn": {"prompt": {"text": prompt}},
        }
        reply = await self.connection.call("createTurn", request)
        return make_turn(reply["turn"], self.connection)

    def events(self, *, after: int = 0, log_id: str = "", deltas: bool = True) -> EventStream:
        """Follow everything the agent says and does, for ever.

        Args:
            after: Only events with a greater number; 0 for all.
            log_id: The `EventStream.log_id` that `after` was read with, so that two
                histories are never taken for one; empty when it is not known.
            deltas: True for text while it is written, too.

        Returns:
            The stream; without gap or repeat, whatever the connection does. It
            raises `SequenceUnknownError` when `after`, or a position reached
            before, is not in the history any more: read from 0 then.
        """
        return EventStream(
            connection=self.connection,
            agent=self.name,
            after=after,
            log_id=log_id,
            deltas=deltas,
            answer=make_answer(self.connection, self.name),
        )

    async def history(
        self, *, after: int = 0, limit: int | None = None
    ) -> tuple[AsyncStoredEvent, ...]:
        """Read what is stored, oldest first.

        Args:
            after: Only events with a greater number; 0 for all.
            limit: At most this many; None for all.
        """
        answer = make_answer(self.connection, self.name)
        found: list[AsyncStoredEvent] = []
        while limit is None or len(found) < limit:
            size = _EVENT_PAGE if limit is None else min(_EVENT_PAGE, limit - len(found))
            position = found[-1].sequence if found else after
            reply = await self.connection.call(
                "listEvents",
                {"parent": self.name, "pageSize": size, "afterSequence": position},
            )
            page = [decode_event(event, answer) for event in reply.get("events", ())]
            found += page
            if not page or page[-1].sequence >= reply.get("headSequence", 0):
                break
        return tuple(found)

    def turn(self, turn_id: str) -> AsyncTurn:
        """A turn by its id, unread: call `refresh()` for its facts."""
        return AsyncTurn(name=f"{self.name}/turns/{turn_id}", connection=self.connection)

    async def turns(
        self, *, unfinished_only: bool = False, limit: int | None = None
    ) -> tuple[AsyncTurn, ...]:
        """List turns, newest first.

        Args:
            unfinished_only: Only those that wait or run, in the order they run.
            limit: At most this many; None for all.
        """
        request = {"parent": self.name, "unfinishedOnly": unfinished_only}
        found = await read_pages(self.connection, "listTurns", request, "turns", limit)
        return tuple(make_turn(turn, self.connection) for turn in found)

    @property
    def files(self) -> AsyncFiles:
        """The files of its workspace."""
        return AsyncFiles(self.connection, self.name)

    async def refresh(self) -> AsyncAgent:
        """Read it again."""
        reply = await self.connection.call("getAgent", {"name": self.name})
        return make_agent(reply["agent"], self.connection)

    async def update(
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
    ) -> AsyncAgent:
        """Change settings; None leaves one as it is. See `Agent` for what they are.

        Returns:
            The agent as stored.
        """
        settings = {
            "displayName": display_name,
            "instructions": instructions,
            "backend": backend,
            "permissionMode": permission_mode and PermissionMode(permission_mode).wire,
            "model": model,
            "turnBudgetUsdMicros": turn_budget_usd_micros,
            "budgetUsdMicros": budget_usd_micros,
            "maxSteps": max_steps,
            "allowedRules": None if allowed_rules is None else list(allowed_rules),
        }
        changed = {key: value for key, value in settings.items() if value is not None}
        request = {
            "agent": {"name": self.name, **changed},
            "updateMask": ",".join(changed),
        }
        reply = await self.connection.call("updateAgent", request)
        return make_agent(reply["agent"], self.connection)

    async def delete(self) -> None:
        """Delete it with its history and files, and cancel what runs."""
        try:
            await self.connection.call("deleteAgent", {"name": self.name})
        except NotFoundError as error:
            # Gone since our first attempt, whose answer was lost.
            if not error.repeated:
                raise


def new_turn_id() -> str:
    """Make a turn id nobody else makes."""
    return uuid.uuid4().hex


def make_agent(agent: Mapping[str, Any], connection: Connection) -> AsyncAgent:
    """Read a `session.v1.Agent`."""
    return AsyncAgent(**agent_fields(agent), connection=connection)


def make_turn(turn: Mapping[str, Any], connection: Connection) -> AsyncTurn:
    """Read a `session.v1.Turn`."""
    return AsyncTurn(**turn_fields(turn), connection=connection)


def make_answer(connection: Connection, agent: str) -> Answer:
    """How permission requests of an agent are answered."""

    async def answer(*, turn_id: str, permission_id: str, decision: Decision) -> None:
        fields: dict[str, Any] = {
            "permissionId": permission_id,
            "allowed": decision.allowed,
            "reason": decision.reason,
        }
        if decision.suggestion_id:
            fields["suggestionId"] = decision.suggestion_id
        if decision.answers:
            fields["answers"] = [
                {"question": question, "answers": list(answers)}
                for question, answers in decision.answers.items()
            ]
        request = {"name": f"{agent}/turns/{turn_id}", "decision": fields}
        await connection.call("resolvePermission", request)

    return answer


async def _follow(turn: AsyncTurn) -> Followed:
    """Find where a turn's events begin and which turns end before it."""
    connection = turn.connection
    agent = AsyncAgent(name=turn.agent, connection=connection)
    after = turn.sequence - 1
    if turn.sequence == 0:
        # It has no event yet: whatever it gets comes after the newest one,
        # unless it got one while we looked.
        after = (await agent.refresh()).head_sequence
        turn = await turn.refresh()
        after = turn.sequence - 1 if turn.sequence else after
    ahead: frozenset[str] = frozenset()
    if turn.state is TurnState.QUEUED:
        unfinished = [other.id for other in await agent.turns(unfinished_only=True)]
        if turn.id in unfinished:
            ahead = frozenset(unfinished[: unfinished.index(turn.id)])
    return Followed(turn=turn, after=after, ahead=ahead, events=agent.events(after=after))
