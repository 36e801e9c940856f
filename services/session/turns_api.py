"""The door of `TurnService`: checks requests and owners, then asks the agent."""

from __future__ import annotations

import asyncio
import re
from typing import Any, TypeAlias

import grpc

from moorline.session.v1 import turns_pb2, turns_pb2_grpc
from services.chassis.failures import not_found
from services.chassis.identity import caller
from services.session.agents import LiveAgent
from services.session.checks import check_length
from services.session.limits import Limits
from services.session.names import check_turn_id, parse_agent, parse_turn, require_owner
from services.session.pages import PAGE_SECONDS, Page, page_size, parse_token
from services.session.sessions import Sessions

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

_REASON_CHARACTERS = 2000
_ID_CHARACTERS = 200
_TOKEN = re.compile(r"[1-9][0-9]{0,9}")
"""Number of a page's last turn."""
_READ_AT_ONCE = 16
"""Turns read together, so that a page of large ones does not read all that might fit."""


class TurnApi(turns_pb2_grpc.TurnServiceServicer):
    """Starts, steers and stops turns."""

    def __init__(self, *, sessions: Sessions, limits: Limits) -> None:
        self._sessions = sessions
        self._limits = limits

    async def CreateTurn(
        self, request: turns_pb2.CreateTurnRequest, context: Context
    ) -> turns_pb2.CreateTurnResponse:
        """Record a prompt; see `turns.proto`."""
        name = parse_agent("parent", request.parent)
        check_turn_id("turn_id", request.turn_id)
        prompt = request.turn.prompt.text
        check_length("turn.prompt.text", prompt, least=1, most=self._limits.prompt)
        require_owner(name, caller())
        turn = await self._sessions.with_agent(
            name, lambda agent: agent.create_turn(request.turn_id, prompt)
        )
        return turns_pb2.CreateTurnResponse(turn=turn.message())

    async def GetTurn(
        self, request: turns_pb2.GetTurnRequest, context: Context
    ) -> turns_pb2.GetTurnResponse:
        """Return one turn; see `turns.proto`."""
        name = parse_turn("name", request.name)
        require_owner(name, caller())
        turn = await self._sessions.with_agent(
            name.parent, lambda agent: agent.stored_turn(name.turn)
        )
        if turn is None:
            raise not_found()
        return turns_pb2.GetTurnResponse(turn=turn.message())

    async def ListTurns(
        self, request: turns_pb2.ListTurnsRequest, context: Context
    ) -> turns_pb2.ListTurnsResponse:
        """List turns; see `turns.proto`."""
        name = parse_agent("parent", request.parent)
        size = page_size(request.page_size, default=50, most=200)
        token = request.page_token
        beyond = int(parse_token(_TOKEN, token)[0]) if token else 0
        require_owner(name, caller())

        async def read(agent: LiveAgent) -> turns_pb2.ListTurnsResponse:
            if request.unfinished_only:
                return _unfinished(agent, beyond, size)
            return await _newest(agent, beyond, size)

        return await self._sessions.with_agent(name, read)

    async def CancelTurn(
        self, request: turns_pb2.CancelTurnRequest, context: Context
    ) -> turns_pb2.CancelTurnResponse:
        """End a waiting turn, or ask a running one to stop; see `turns.proto`."""
        name = parse_turn("name", request.name)
        require_owner(name, caller())
        turn = await self._sessions.with_agent(
            name.parent, lambda agent: agent.cancel_turn(name.turn)
        )
        return turns_pb2.CancelTurnResponse(turn=turn.message())

    async def ResolvePermission(
        self, request: turns_pb2.ResolvePermissionRequest, context: Context
    ) -> turns_pb2.ResolvePermissionResponse:
        """Answer a permission request; see `turns.proto`."""
        name = parse_turn("name", request.name)
        answer = request.decision
        check_length("decision.permission_id", answer.permission_id, least=1, most=_ID_CHARACTERS)
        check_length("decision.suggestion_id", answer.suggestion_id, most=_ID_CHARACTERS)
        check_length("decision.reason", answer.reason, most=_REASON_CHARACTERS)
        require_owner(name, caller())
        await self._sessions.with_agent(
            name.parent, lambda agent: agent.resolve_permission(name.turn, answer)
        )
        return turns_pb2.ResolvePermissionResponse()


def _unfinished(agent: LiveAgent, after: int, size: int) -> turns_pb2.ListTurnsResponse:
    turns = [turn for turn in agent.unfinished() if turn.sequence > after]
    page: Page[turns_pb2.Turn] = Page(size=size)
    for turn in turns:
        if page.full:
            break
        page.add(turn.message())
    return _response(page, more=len(page.entries) < len(turns))


async def _newest(agent: LiveAgent, before: int, size: int) -> turns_pb2.ListTurnsResponse:
    ids = await agent.archive.ids(before=before, limit=size + 1)
    page: Page[turns_pb2.Turn] = Page(size=size)
    seen = 0
    time = asyncio.get_running_loop().time
    until = time() + PAGE_SECONDS
    while seen < len(ids) and not page.full and (not page.entries or time() < until):
        some = ids[seen : seen + _READ_AT_ONCE]
        for turn in await asyncio.gather(*(agent.stored_turn(turn_id) for turn_id in some)):
            if page.full:
                break
            seen += 1
            if turn is not None:
                page.add(turn.message())
    return _response(page, more=seen < len(ids))


def _response(page: Page[turns_pb2.Turn], *, more: bool) -> turns_pb2.ListTurnsResponse:
    turns = page.entries
    return turns_pb2.ListTurnsResponse(
        turns=turns, next_page_token=str(turns[-1].sequence) if more and turns else ""
    )
