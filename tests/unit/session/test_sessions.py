"""Tests of `services.session.sessions`, `session` and `deletion`: who is in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from moorline.session.v1 import agents_pb2
from services.chassis.failures import Failure
from services.chassis.identity import act_as
from services.session.agent_settings import AgentSettings
from services.session.limits import Limits
from tests.unit.session.fakes import FakeExecutor, FaultyStore, store_unavailable
from tests.unit.session.service import ADA, AGENT, BOB, CONTEXT, Service

Agent = agents_pb2.Agent


MakeService = Callable[[], Service]


async def delete(service: Service, name: str = AGENT, etag: str = "") -> None:
    """Delete an agent."""
    await service.agents.DeleteAgent(agents_pb2.DeleteAgentRequest(name=name, etag=etag), CONTEXT)


async def update(service: Service, *paths: str, **agent: object) -> Agent:
    """Update the agent."""
    request = agents_pb2.UpdateAgentRequest(agent=Agent(name=AGENT, **agent))  # type: ignore[arg-type]
    request.update_mask.paths.extend(paths)
    return (await service.agents.UpdateAgent(request, CONTEXT)).agent


def reason(raised: pytest.ExceptionInfo[Failure]) -> str:
    """Return a failure's reason."""
    return raised.value.reason_name


class TestCreateAgent:
    async def test_it_is_as_it_was_asked(self, service: Service) -> None:
        """What the server sets is set, what is not given has its default."""
        agent = await service.create_agent("a2", display_name="Two", instructions="be kind")

        assert "users/ada/agents/a2" == agent.name
        assert ("Two", "be kind", "") == (agent.display_name, agent.instructions, agent.backend)
        assert Agent.PERMISSION_MODE_ASK == agent.permission_mode
        assert Agent.STATE_IDLE == agent.state
        assert agent.create_time == agent.update_time == agent.activity_time
        assert agent.etag
        assert agent == await service.get_agent(agent.name)

    async def test_an_agent_without_an_id_gets_one(self, service: Service) -> None:
        """Each call makes another."""
        first, second = await service.create_agent(""), await service.create_agent("")

        assert first.name != second.name

    async def test_the_same_again_returns_the_first(self, service: Service) -> None:
        """Also after it was changed; other content is refused."""
        await service.create_agent("a2", display_name="Two")
        await service.create_agent("a2", display_name="Two")

        with pytest.raises(Failure) as raised:
            await service.create_agent("a2", display_name="Other")

        assert "RESOURCE_EXISTS" == reason(raised)
        assert {"resource": "users/ada/agents/a2"} == raised.value.metadata

    async def test_a_lost_answer_is_recognised(self, service: Service, store: FaultyStore) -> None:
        """The call again finds what the first one wrote, and only that."""
        store.after = [store_unavailable()]
        with pytest.raises(Failure):
            await service.create_agent("a2", display_name="Two")
        with pytest.raises(Failure) as raised:
            await service.create_agent("a2", display_name="Other")
        assert "RESOURCE_EXISTS" == reason(raised)

        assert "Two" == (await service.create_agent("a2", display_name="Two")).display_name

    async def test_agents_survive_a_restart(self, make_service: MakeService) -> None:
        """Settings are the same for the next process."""
        async with make_service() as service:
            agent = await service.create_agent("a2", display_name="Two", backend="docker")

        async with make_service() as service:
            assert agent == await service.get_agent(agent.name)
            assert agent == await service.create_agent("a2", display_name="Two", backend="docker")


class TestLimits:
    @pytest.fixture
    def limits(self) -> Limits:
        """Limits small enough to reach."""
        return Limits(agents=2, sessions=1)

    async def test_a_user_has_so_many_agents(self, service: Service) -> None:
        """One more is refused, until another is gone."""
        await service.create_agent("a2")

        with pytest.raises(Failure) as raised:
            await service.create_agent("a3")

        assert "QUOTA_EXCEEDED" == reason(raised)
        assert {"limit": "2", "limitName": "agents"} == raised.value.metadata
        await delete(service)
        await service.create_agent("a3")

    async def test_a_full_service_refuses_another_session(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """While every session is busy; an idle one makes room."""
        await service.create_turn()
        await executor.execution()
        with pytest.raises(Failure) as raised:
            await service.sessions.session("bob")
        assert "SESSION_CAPACITY" == reason(raised)
        assert raised.value.retry_delay
        executor.last.end()
        await service.ended()

        await service.sessions.session("bob")

        assert 1 == len(service.sessions)
        assert 1 == service.metric("moorline_sessions")

    async def test_work_is_taken_up_although_there_is_no_room(
        self, make_service: MakeService, executor: FakeExecutor
    ) -> None:
        """Turns of more users than fit are not forgotten at a restart."""
        async with make_service() as service:
            for user in (ADA, BOB):
                act_as(user)
                session = await service.sessions.session(user.user[6:], admit=True)
                await session.create("a1", AgentSettings())
                agent = await session.agent("a1")
                await agent.create_turn("t1", "hello")
        executor.executions.clear()

        async with make_service() as service:
            assert 2 == len(service.sessions)


class TestUpdateAgent:
    async def test_only_what_the_mask_names_changes(self, service: Service) -> None:
        """And the etag with it."""
        before = await service.get_agent()

        after = await update(service, "display_name", display_name="New", instructions="no")

        assert ("New", "") == (after.display_name, after.instructions)
        assert before.etag != after.etag
        assert before.update_time.ToDatetime() < after.update_time.ToDatetime()
        assert after == await service.get_agent()

    async def test_everything_can_be_changed_and_lasts(self, make_service: MakeService) -> None:
        """The next process knows."""
        async with make_service() as service:
            await service.create_agent()
            changed = await update(
                service,
                *("display_name", "instructions", "backend", "permission_mode"),
                display_name="New",
                instructions="be kind",
                backend="docker",
                permission_mode=Agent.PERMISSION_MODE_ACCEPT_EDITS,
            )

        async with make_service() as service:
            assert changed == await service.get_agent()
        assert Agent.PERMISSION_MODE_ACCEPT_EDITS == changed.permission_mode

    async def test_a_stale_etag_is_refused(self, service: Service) -> None:
        """Of two that read the same, the second must read again."""
        etag = (await service.get_agent()).etag
        await update(service, "display_name", display_name="1", etag=etag)

        with pytest.raises(Failure) as raised:
            await update(service, "display_name", display_name="2", etag=etag)

        assert "ETAG_MISMATCH" == reason(raised)

    async def test_a_running_turn_and_an_update_do_not_fence_each_other(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """Both write the agent's document, through the same log."""
        await service.create_turn()
        execution = await executor.execution()
        changed = asyncio.ensure_future(update(service, "display_name", display_name="New"))
        execution.end(conversation="c1")
        await changed
        await service.ended()

        agent = await service.get_agent()
        assert ("New", 2) == (agent.display_name, agent.head_sequence)
