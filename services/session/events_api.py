"""The door of `EventService`: checks requests and owners, then reads the history."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

import grpc

from moorline.session.v1 import events_pb2, events_pb2_grpc
from services.chassis.identity import caller
from services.session.agents import LiveAgent
from services.session.checks import check_sequence
from services.session.encoding import LoggedEvent
from services.session.event_source import EventSource
from services.session.forms import MessageEvents
from services.session.names import parse_agent, require_owner
from services.session.pages import PAGE_BYTES, PAGE_SECONDS, page_size
from services.session.sessions import Sessions
from services.session.watches import Watches

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class EventApi(events_pb2_grpc.EventServiceServicer):
    """Reads an agent's history, once or live."""

    def __init__(self, *, sessions: Sessions, watches: Watches) -> None:
        self._sessions = sessions
        self._watches = watches

    async def ListEvents(
        self, request: events_pb2.ListEventsRequest, context: Context
    ) -> events_pb2.ListEventsResponse:
        """List stored events; see `events.proto`."""
        name = parse_agent("parent", request.parent)
        size = page_size(request.page_size, default=200, most=1000)
        check_sequence("after_sequence", request.after_sequence)
        require_owner(name, caller())

        async def read(agent: LiveAgent) -> events_pb2.ListEventsResponse:
            events: list[LoggedEvent] = []
            after = request.after_sequence
            room = PAGE_BYTES
            time = asyncio.get_running_loop().time
            until = time() + PAGE_SECONDS
            while len(events) < size and room > 0 and (not events or time() < until):
                more = await agent.history.events(after)
                if not more:
                    break
                for event in more:
                    if room <= 0:
                        break
                    events.append(event)
                    room -= len(event.json)
                after = events[-1].sequence
            return events_pb2.ListEventsResponse(
                events=[event.message for event in events[:size]],
                head_sequence=agent.log.head,
            )

        return await self._sessions.with_agent(name, read)

    async def WatchEvents(
        self, request: events_pb2.WatchEventsRequest, context: Context
    ) -> AsyncIterator[events_pb2.WatchEventsResponse]:
        """Follow an agent; see `events.proto`."""
        name = parse_agent("parent", request.parent)
        check_sequence("after_sequence", request.after_sequence)
        require_owner(name, caller())
        agent = await self._sessions.agent(
            name, known=request.after_sequence, log_id=request.log_id
        )

        def subscribe(mark: Callable[[], None]) -> EventSource[events_pb2.WatchEventsResponse]:
            return agent.follow(
                form=MessageEvents(),
                after_sequence=request.after_sequence,
                log_id=request.log_id,
                include_deltas=request.include_deltas,
                mark=mark,
            )

        async for response in self._watches.follow(events_pb2.WatchEventsResponse, subscribe):
            yield response
