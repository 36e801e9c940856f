"""Tests of ownership as users meet it: owners that die, sleep, are cut off or leave."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from services.chassis.failures import Failure
from services.session.agent_source import AgentSource
from services.session.forms import MessageAgents
from services.session.limits import Limits
from tests.unit.session.fakes import FakeExecutor
from tests.unit.session.service import AGENT, until
from tests.unit.session.shared import Pod, Pods, follow, reasons

LEASE = "users/ada"


class TestSleep:
    async def test_a_sleeper_adds_nothing_and_answers_nothing(
        self, pods: Pods, first: Pod, second: Pod, executor: FakeExecutor
    ) -> None:
        """What it was about to do when its lease ended fails, whatever it was."""
        await first.create_agent("a2")
        await first.create_turn()
        execution = await executor.execution()
        execution.ask()
        agent = await first.live()
        await until(lambda: agent.log.head == 2)
        client = await follow(first)
        client.take_all()
        # Under way when it falls asleep.
        first.store.gate.clear()
        calls = [
            asyncio.ensure_future(call)
            for call in (
                first.create_turn("t2"),
                first.create_turn("t3", agent="users/ada/agents/a2"),
                first.resolve(),
                first.cancel_turn(),
                first.create_agent("a3"),
            )
        ]
        await until(lambda: first.store.waiting >= 3)
        pods.pass_time(16, first)

        await second.sweeper.sweep()
        execution.call_tool()
        await second.resolve(allowed=False)
        await until(lambda: execution.decisions != [])
        events = await second.list_events()
        # It wakes up: what was under way goes on, and so does what it hears.
        client.take_all()
        assert 2 == len(client.sequences)
        first.store.gate.set()
        assert ["NOT_OWNER"] * 5 == await reasons(*calls)
        assert ["NOT_OWNER"] == await reasons(first.get_agent())

        assert client.source.failure is not None
        assert "SERVICE_UNAVAILABLE" == client.source.failure.reason_name
        execution.end()
        await second.ended()
        assert events == (await second.list_events())[: len(events)]
        assert [
            "user_message",
            "permission_request",
            "tool_call",
            "permission_decision",
            "turn_outcome",
        ] == await second.kinds()
        assert [False] == [decision.allowed for decision in execution.decisions]
        assert [] == await second.kinds("users/ada/agents/a2")
        assert 1 == first.metric("moorline_leases_lost_total")
        assert 1 == len(executor.created)

    async def test_nothing_is_shown_until_it_is_known_who_owns(
        self, pods: Pods, first: Pod, executor: FakeExecutor
    ) -> None:
        """A sleeper that still is the owner goes on where it was."""
        await first.create_turn()
        execution = await executor.execution()
        client = await follow(first)
        marks: list[None] = []
        client.source.mark = lambda: marks.append(None)
        client.take_all()
        first.store.gate.clear()
        pods.pass_time(16, first)
        execution.say("b1", "Hello")
        client.take_all()
        assert {} == client.blocks
        call = asyncio.ensure_future(first.get_agent())
        await until(lambda: first.store.waiting >= 1)
        before = len(marks)

        first.store.gate.set()

        assert AGENT == (await call).name
        await until(lambda: len(marks) > before)
        client.take_all()
        assert {"b1": "Hello"} == client.blocks


class TestOutage:
    @pytest.fixture
    def limits(self) -> Limits:
        """Leases short enough to end in a test."""
        return Limits(lease=timedelta(seconds=0.5))

    async def test_text_flows_and_calls_are_refused_until_the_store_is_back(
        self, first: Pod, executor: FakeExecutor
    ) -> None:
        """Then everything heard meanwhile is durable, once."""
        await first.create_turn()
        execution = await executor.execution()
        client = await follow(first)
        first.store.away = True
        await until(lambda: first.metric("moorline_leases_suspended") == 1)
        execution.say("b1", "Hello")
        client.take_all()
        assert {"b1": "Hello"} == client.blocks
        await asyncio.sleep(0.6)
        execution.say("b1", " world")
        client.take_all()
        assert {"b1": "Hello world"} == client.blocks
        execution.complete("b1")
        execution.call_tool()
        assert ["STORE_UNAVAILABLE"] * 2 == await reasons(
            first.create_turn("t2"), first.get_agent()
        )

        first.store.away = False

        await until(lambda: first.metric("moorline_leases_suspended") == 0)
        execution.end()
        await first.ended()
        client.take_all()
        assert [
            "user_message",
            "agent_message",
            "tool_call",
            "turn_outcome",
        ] == await first.kinds()
        assert [1, 2, 3, 4] == client.sequences
        assert client.source.failure is None
        assert 1 == len(executor.created)

    async def test_who_alone_is_cut_off_is_followed(
        self, first: Pod, second: Pod, executor: FakeExecutor
    ) -> None:
        """And learns of it when it can ask again."""
        await first.create_turn()
        execution = await executor.execution()
        client = await follow(first)
        first.store.away = True
        execution.call_tool()

        async def taken() -> bool:
            try:
                return bool(await second.kinds())
            except Failure:
                return False

        await until(taken)
        first.store.away = False
        await until(lambda: client.source.failure is not None)
        execution.end()
        await second.ended()

        assert ["user_message", "tool_call", "turn_outcome"] == await second.kinds()
        assert 0 == len(first.sessions)

    async def test_an_emptied_database_is_a_new_beginning(
        self, pods: Pods, first: Pod, executor: FakeExecutor
    ) -> None:
        """Followers end, the agents are gone, and nothing old comes back with a new one."""
        await first.create_turn()
        execution = await executor.execution()
        client = await follow(first)
        session = await first.sessions.session("ada")
        listing: AgentSource[Any] = AgentSource(
            agents=session.roster, form=MessageAgents(), mark=lambda: None
        )
        pods.database.documents.clear()
        execution.call_tool()
        await until(lambda: session.closed)

        assert client.source.failure is not None
        assert listing.failure is not None
        assert ["RESOURCE_NOT_FOUND"] == await reasons(first.get_agent())
        await first.create_agent()
        assert [] == await first.kinds()
        assert [] == (await first.live()).unfinished()
        execution.call_tool("t2")
        execution.end()
        await asyncio.sleep(0.1)
        assert [] == await first.kinds()

    async def test_what_was_written_into_an_emptied_database_is_none_of_a_new_agents(
        self, pods: Pods, first: Pod, executor: FakeExecutor
    ) -> None:
        """An owner that does not know yet may still write a turn or two."""
        for turn_id in ("t1", "t2"):
            await first.create_turn(turn_id)
        session = await first.sessions.session("ada")
        pods.database.documents.clear()
        await first.create_turn("t3")
        assert pods.database.documents
        await until(lambda: session.closed)
        await first.create_agent()
        assert [] == (await first.live()).unfinished()
        executor.executions.clear()
        created = len(executor.created)

        for turn_id in ("t3", "t2", "t1"):
            await first.create_turn(turn_id)
            (await executor.execution(created + 1)).end()
            await first.ended(turn_id)
            created += 1

        assert ["user_message", "turn_outcome"] * 3 == await first.kinds()
        ids = await (await first.live()).archive.ids(before=0, limit=10)
        assert ["t1", "t2", "t3"] == ids
