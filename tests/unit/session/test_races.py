"""Tests of calls that meet at an awkward moment: nothing is lost, nothing is stuck."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from moorline.session.v1 import agents_pb2, turns_pb2
from tests.unit.session.fakes import FakeExecutor, FaultyStore
from tests.unit.session.service import AGENT, CONTEXT, Service, until
from tests.unit.session.shared import Pod, Pods

MakeService = Callable[[], Service]
LEASE = "users/ada"


async def rename(service: Service, name: str) -> None:
    """Change a setting."""
    agent = agents_pb2.Agent(name=AGENT, display_name=name)
    request = agents_pb2.UpdateAgentRequest(agent=agent)
    request.update_mask.paths.append("display_name")
    await service.agents.UpdateAgent(request, CONTEXT)


class TestSettings:
    async def test_a_setting_changed_at_a_turns_end_takes_nothing_from_it(
        self, make_service: MakeService, store: FaultyStore, executor: FakeExecutor
    ) -> None:
        """The conversation goes on where the turn has left it, whoever dies then."""
        async with make_service() as service:
            await service.create_agent()
            await service.create_turn("t1")
            execution = await executor.execution()
            commits = len(store.commits)
            store.held.clear()
            execution.call_tool()
            await until(lambda: len(store.commits) > commits)
            renamed = asyncio.create_task(rename(service, "new"))
            await asyncio.sleep(0.01)
            execution.end(conversation="handle")
            store.held.set()
            await renamed
            await service.ended("t1")

        async with make_service() as service:
            assert "new" == (await service.get_agent()).display_name
            await service.create_turn("t2")
            assert "handle" == (await executor.execution(2)).asked.resume_from


class TestDeletion:
    async def test_a_deletion_nobody_waits_for_any_more_leaves_the_turn_running(
        self, service: Service, store: FaultyStore, executor: FakeExecutor
    ) -> None:
        """It was cancelled before it deleted anything."""
        await service.create_turn("t1")
        execution = await executor.execution()
        commits = len(store.commits)
        store.held.clear()
        execution.call_tool()
        await until(lambda: len(store.commits) > commits)
        request = agents_pb2.DeleteAgentRequest(name=AGENT)
        deletion = asyncio.create_task(service.agents.DeleteAgent(request, CONTEXT))
        await asyncio.sleep(0.01)

        deletion.cancel()
        await asyncio.wait([deletion])
        store.held.set()

        await until(lambda: len(execution.positions) == 2 and bool(execution.listeners))
        execution.end()
        assert turns_pb2.Turn.STATE_FINISHED == (await service.ended("t1")).state


class TestDeliveries:
    async def test_a_turn_that_moved_on_is_not_cancelled_from_here(
        self, first: Pod, second: Pod, executor: FakeExecutor
    ) -> None:
        """Whoever has it now does that; an executor that is gone is not asked for ever."""
        await first.create_turn("t1")
        await executor.execution()
        executor.away = True
        await first.cancel_turn("t1")
        await until(lambda: "cancel" in executor.calls)

        await first.sessions.drain()

        asked = executor.calls.count("cancel")
        await asyncio.sleep(0.3)
        assert asked == executor.calls.count("cancel")


class TestDrain:
    async def test_a_user_who_was_being_opened_is_given_back(self, pods: Pods) -> None:
        """The process ends right after."""
        pod = await pods.start("one:1")
        pod.store.answers.clear()
        opening = asyncio.create_task(pod.sessions.session("ada"))
        await until(lambda: LEASE in pods.database.documents)
        drain = asyncio.create_task(pod.sessions.drain())
        await asyncio.sleep(0.01)
        pod.store.gate.clear()
        pod.store.answers.set()
        await until(lambda: pod.store.waiting > 0)
        await asyncio.sleep(0.01)
        pod.store.gate.set()

        await drain

        assert pods.database.documents[LEASE][0]["released"]
        await asyncio.wait([opening])
        assert opening.exception() is not None
