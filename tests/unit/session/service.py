"""The session service without its server: its logic and doors on a store.

Leaving `Service` drops it as a crash does: nothing is drained or finished.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import pytest

from moorline.session.v1 import agents_pb2, events_pb2, turns_pb2, usage_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.identity import Identity, act_as
from services.chassis.metrics import Metrics
from services.chassis.tasks import Tasks
from services.session import feed_api
from services.session.agents import LiveAgent
from services.session.agents_api import AgentApi
from services.session.clock import DatabaseClock
from services.session.environment import Environment, Measures
from services.session.events_api import EventApi
from services.session.executors.executor import Executors
from services.session.keys import Keys
from services.session.keys_api import KeyApi
from services.session.limits import Limits
from services.session.ownership.ownership import Ownership, SoleOwnership
from services.session.ownership.sweeper import Sweeper
from services.session.revocations import Revocations
from services.session.sessions import Sessions
from services.session.sessions_api import SessionApi
from services.session.store import Store
from services.session.tickets import Tickets
from services.session.turns_api import TurnApi
from services.session.usage_api import UsageApi
from services.session.watches import Watches
from tests.unit.session.fakes import FaultyStore

ADA = Identity(user="users/ada")
BOB = Identity(user="users/bob")
GATEWAY = Identity(user="services/gateway")
AGENT = "users/ada/agents/a1"
CONTEXT: Any = None

IMPATIENT = pytest.mark.parametrize(
    "limits", [Limits(unreachable=timedelta(seconds=0.3))], ids=["impatient"]
)
"""For tests of executors that are given up, which shall not take as long as the product waits."""


async def recorded_executor(store: FaultyStore, path: str) -> str:
    """Return the address of the executor that a document names."""
    document = await store.inner.get(path)
    assert document is not None
    return str(document.fields["executor"])


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait until something holds that no event tells, for at most 15 s."""
    async with asyncio.timeout(15):
        while True:
            holds = condition()
            if await holds if isinstance(holds, Awaitable) else holds:
                return
            await asyncio.sleep(0.001)


class Service:
    """One process's worth of session service.

    Args:
        store: An open store.
        executors: The executors.
        limits: The limits.
        ownership: Makes what says which users are this process's; the only process, else.
        sweep: Seconds between looks at the list of work.
        monotonic: Seconds of a clock that does not go back.
    """

    def __init__(
        self,
        *,
        store: Store,
        executors: Executors,
        limits: Limits,
        ownership: Callable[[Environment, Metrics], Ownership] | None = None,
        sweep: float = 10,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tasks = Tasks()
        self.metrics = Metrics(service="session")
        self.environment = Environment(
            store=store,
            executors=executors,
            tasks=self.tasks,
            clock=DatabaseClock(monotonic=monotonic),
            limits=limits,
            measures=Measures(metrics=self.metrics),
        )
        owned = ownership(self.environment, self.metrics) if ownership else SoleOwnership()
        self.ownership = owned
        self.sessions = Sessions(environment=self.environment, ownership=owned)
        self.sweeper = Sweeper(
            environment=self.environment,
            ownership=owned,
            sessions=self.sessions,
            period=timedelta(seconds=sweep),
        )
        self.watches = Watches()
        self.feeds = feed_api.open_feeds(self.environment.clock)
        self.agents = AgentApi(sessions=self.sessions, watches=self.watches, limits=limits)
        self.turns = TurnApi(sessions=self.sessions, limits=limits)
        self.events = EventApi(sessions=self.sessions, watches=self.watches)
        self.feed = feed_api.FeedApi(sessions=self.sessions, feeds=self.feeds)
        self.usage = UsageApi(sessions=self.sessions, clock=self.environment.clock, limits=limits)
        self.session = SessionApi(sessions=self.sessions)
        revocations = Revocations(store=store)
        self.keys = KeyApi(
            keys=Keys(store=store, revocations=revocations, limit=limits.keys),
            revocations=revocations,
            tickets=Tickets(store=store),
            limits=limits,
        )

    async def __aenter__(self) -> Self:
        act_as(ADA)
        await self.tasks.__aenter__()
        await self.sessions.start()
        await self.sweeper.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.tasks.__aexit__(kind, error, traceback)

    def metric(self, name: str, **labels: str) -> float:
        """Return a metric's value, 0 when it was never touched."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    async def live(self, name: str = AGENT) -> LiveAgent:
        """Return an agent, loaded."""
        _, user, _, agent = name.split("/")
        session = await self.sessions.session(user)
        return await session.agent(agent)

    async def month(
        self, month: str = "current", user: str = "users/ada"
    ) -> usage_pb2.MonthlyUsage:
        """Return what a user consumed in a month."""
        request = usage_pb2.GetUsageRequest(name=f"{user}/usage/{month}")
        return (await self.usage.GetUsage(request, CONTEXT)).usage

    async def create_agent(
        self, agent_id: str = "a1", *, user: str = "users/ada", **agent: Any
    ) -> agents_pb2.Agent:
        """Create an agent, of Ada's if nobody else is named."""
        request = agents_pb2.CreateAgentRequest(
            parent=user, agent_id=agent_id, agent=agents_pb2.Agent(**agent)
        )
        return (await self.agents.CreateAgent(request, CONTEXT)).agent

    async def create_turn(
        self, turn_id: str = "t1", prompt: str = "hello", agent: str = AGENT
    ) -> turns_pb2.Turn:
        """Create a turn."""
        request = turns_pb2.CreateTurnRequest(
            parent=agent,
            turn_id=turn_id,
            turn=turns_pb2.Turn(prompt=transcript_pb2.UserMessage(text=prompt)),
        )
        return (await self.turns.CreateTurn(request, CONTEXT)).turn

    async def get_turn(self, turn_id: str = "t1", agent: str = AGENT) -> turns_pb2.Turn:
        """Return a turn."""
        request = turns_pb2.GetTurnRequest(name=f"{agent}/turns/{turn_id}")
        return (await self.turns.GetTurn(request, CONTEXT)).turn

    async def cancel_turn(self, turn_id: str = "t1") -> turns_pb2.Turn:
        """Cancel a turn."""
        request = turns_pb2.CancelTurnRequest(name=f"{AGENT}/turns/{turn_id}")
        return (await self.turns.CancelTurn(request, CONTEXT)).turn

    async def resolve(
        self,
        permission_id: str = "p1",
        *,
        allowed: bool = True,
        turn_id: str = "t1",
        **decision_fields: Any,
    ) -> None:
        """Answer a permission request."""
        decision = transcript_pb2.PermissionDecision(
            permission_id=permission_id, allowed=allowed, **decision_fields
        )
        request = turns_pb2.ResolvePermissionRequest(
            name=f"{AGENT}/turns/{turn_id}", decision=decision
        )
        await self.turns.ResolvePermission(request, CONTEXT)

    async def get_agent(self, name: str = AGENT) -> agents_pb2.Agent:
        """Return an agent."""
        request = agents_pb2.GetAgentRequest(name=name)
        return (await self.agents.GetAgent(request, CONTEXT)).agent

    async def list_events(self, name: str = AGENT) -> list[events_pb2.Event]:
        """Return all events of an agent."""
        request = events_pb2.ListEventsRequest(parent=name, page_size=1000)
        return list((await self.events.ListEvents(request, CONTEXT)).events)

    async def kinds(self, name: str = AGENT) -> list[str]:
        """Return what kinds of items an agent's history has, in order."""
        return [event.item.WhichOneof("kind") or "" for event in await self.list_events(name)]

    async def ended(self, turn_id: str = "t1") -> turns_pb2.Turn:
        """Wait until a turn has its outcome and return it."""
        turn = turns_pb2.Turn()

        async def over() -> bool:
            nonlocal turn
            # Asked for anew, as it may be fenced and loaded again meanwhile.
            agent = await self.live()
            left = [turn.name.turn for turn in agent.unfinished()]
            if turn_id in left or not agent.log.idle:
                return False
            turn = await self.get_turn(turn_id)
            # An agent that has just been let go of runs nothing.
            return turn.HasField("end_time")

        await until(over)
        return turn
