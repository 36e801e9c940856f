"""Tests of `services.session.sessions`: what leaves memory, and how a process ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from services.chassis.failures import Failure
from services.session.forms import MessageEvents
from services.session.limits import Limits
from tests.unit.session.fakes import FakeExecutor, FaultyStore, store_unavailable
from tests.unit.session.service import Service, until

MakeService = Callable[[], Service]


class TestEviction:
    @pytest.fixture
    def limits(self) -> Limits:
        """Limits with a short memory."""
        return Limits(idle=timedelta(seconds=0.02))

    async def test_an_idle_session_leaves_and_comes_back_unnoticed(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """What it knew comes from the store again."""
        executor.script = lambda execution: execution.end()
        await service.create_turn()
        await service.ended()
        agent = await service.get_agent()
        await until(lambda: len(service.sessions) == 0)
        assert 0 == service.metric("moorline_sessions")

        assert agent.head_sequence == (await service.get_agent()).head_sequence
        assert ["user_message", "turn_outcome"] == await service.kinds()

    async def test_work_and_followers_keep_it(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """A running turn, a followed agent and a followed list stay in memory."""
        await service.create_turn()
        execution = await executor.execution()
        await asyncio.sleep(0.06)
        assert 1 == len(service.sessions)
        execution.end()
        await service.ended()
        agent = await service.live()
        source = agent.follow(
            form=MessageEvents(), after_sequence=0, include_deltas=True, mark=lambda: None
        )
        await asyncio.sleep(0.06)
        assert agent is await service.live()
        source.close()

        await until(lambda: len(service.sessions) == 0)

    async def test_an_agent_leaves_while_its_session_stays(self, service: Service) -> None:
        """Only the list is followed."""
        agent = await service.live()
        session = await service.sessions.session("ada")

        class Follower:
            """Follows and does not care."""

            def changed(self, agent_id: str) -> None:
                """Hear of a change."""

            def end(self, failure: Failure) -> None:
                """Hear of the end."""

        follower = Follower()
        session.roster.follow(follower)
        await until(lambda: not session.roster.live())
        assert 1 == len(service.sessions)

        session.roster.leave(follower)
        session.roster.leave(follower)
        assert agent is not await service.live()


class TestStart:
    async def test_it_can_be_repeated_when_the_store_is_away(
        self, make_service: MakeService, store: FaultyStore
    ) -> None:
        """A failed start leaves a service that can start again."""
        async with make_service() as service:
            store.unreadable = [store_unavailable()]
            with pytest.raises(Failure):
                await service.sweeper.start()
            await service.sweeper.start()

    async def test_a_session_that_could_not_be_loaded_is_tried_again(
        self, service: Service, store: FaultyStore
    ) -> None:
        """The second call finds the store back."""
        store.unreadable = [store_unavailable()]
        with pytest.raises(Failure):
            await service.sessions.session("bob")

        await service.sessions.session("bob")

    async def test_loading_happens_once(self, service: Service, store: FaultyStore) -> None:
        """However many calls come at once."""
        sessions = await asyncio.gather(*(service.sessions.session("bob") for _ in range(10)))
        agents = await asyncio.gather(*(service.live() for _ in range(10)))

        assert 1 == len(set(map(id, sessions))) == len(set(map(id, agents)))


class TestDrain:
    async def test_commits_in_flight_finish_and_executions_are_left_alone(
        self, make_service: MakeService, store: FaultyStore, executor: FakeExecutor
    ) -> None:
        """The next process goes on; nothing is cancelled."""
        async with make_service() as service:
            await service.create_agent()
            await service.create_turn()
            execution = await executor.execution()
            store.held.clear()
            execution.call_tool()
            draining = asyncio.ensure_future(service.sessions.drain())
            await asyncio.sleep(0.01)
            assert not draining.done()
            store.held.set()
            await draining
        assert 0 == execution.cancellations
        assert {execution.id: 1} == executor.acknowledged
        execution.end()

        async with make_service() as service:
            await service.ended()
            assert ["user_message", "tool_call", "turn_outcome"] == await service.kinds()

    async def test_an_outcome_in_flight_does_not_start_the_next_turn(
        self, make_service: MakeService, store: FaultyStore, executor: FakeExecutor
    ) -> None:
        """The process that comes next starts it."""
        async with make_service() as service:
            await service.create_agent()
            await service.create_turn("t1")
            await service.create_turn("t2")
            execution = await executor.execution()
            store.held.clear()
            execution.end()
            draining = asyncio.ensure_future(service.sessions.drain())
            await asyncio.sleep(0.01)
            store.held.set()
            await draining
            assert 1 == len(executor.created)
        executor.script = lambda execution: execution.end()

        async with make_service() as service:
            await service.ended("t2")
