"""Tests of budgets: what executions are told of them, and turns that meet one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from moorline.executor.v1 import executions_pb2
from moorline.session.v1 import agents_pb2, turns_pb2
from services.session.limits import Limits
from tests.unit.session.fakes import FakeExecutor
from tests.unit.session.service import AGENT, CONTEXT, Service, until
from tests.unit.session.shared import Pod, Pods
from tests.unit.session.test_usage import delete, progress, usage

Turn = turns_pb2.Turn
OTHER = "users/ada/agents/a2"


async def change(service: Service, **settings: Any) -> None:
    """Change an agent's settings."""
    request = agents_pb2.UpdateAgentRequest(
        agent=agents_pb2.Agent(name=AGENT, **settings), update_mask=FieldMask(paths=list(settings))
    )
    await service.agents.UpdateAgent(request, CONTEXT)


def budget_of(turn: Turn) -> tuple[str, str]:
    """Return why a turn failed, and which budget it met."""
    return Turn.State.Name(turn.state), turn.error.metadata["budget"]


class TestExecution:
    """What an executor is told when a turn begins."""

    async def test_settings_and_tenant_are_part_of_it(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """As the agent has them at that moment."""
        await service.create_agent(
            "a2",
            model="claude-9[1m]",
            max_steps=7,
            allowed_rules=["Edit", "Bash(npm test:*)"],
            permission_mode=agents_pb2.Agent.PERMISSION_MODE_PLAN,
        )
        await service.create_turn(agent=OTHER)

        asked = (await executor.execution()).asked
        assert ("claude-9[1m]", 7) == (asked.model, asked.max_steps)
        assert ["Edit", "Bash(npm test:*)"] == list(asked.allowed_rules)
        assert executions_pb2.Execution.PERMISSION_MODE_PLAN == asked.permission_mode
        assert hashlib.sha256(b"tenant ada").hexdigest()[:16] == asked.tenant
        assert not asked.HasField("budget")

    async def test_it_tells_what_is_left_of_each_budget(
        self, make_service: Callable[[], Service], executor: FakeExecutor
    ) -> None:
        """What turns before have cost is deducted from the agent's and the month's."""
        async with make_service() as service:
            await service.create_agent()
            await change(service, turn_budget_usd_micros=50, budget_usd_micros=120)
            await service.create_turn("t1")
            (await executor.execution()).end(usage=usage(40))
            await service.ended("t1")

            await service.create_turn("t2")

            left = executions_pb2.Budget(turn_usd_micros=50, agent_usd_micros=80)
            assert left == (await executor.execution(2)).asked.budget

    async def test_another_attempt_has_what_the_first_has_left(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """It is the same turn."""
        await change(service, turn_budget_usd_micros=50, budget_usd_micros=60)
        await service.create_turn()
        (await executor.execution()).send(progress(20))
        executor.forget()

        left = executions_pb2.Budget(turn_usd_micros=30, agent_usd_micros=40)
        assert left == (await executor.execution(2)).asked.budget


class TestAgentBudget:
    """What all turns of an agent may cost."""

    async def test_a_turn_with_nothing_left_fails_and_raising_goes_on(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """Without an execution."""
        await change(service, budget_usd_micros=40)
        await service.create_turn("t1")
        (await executor.execution()).end(usage=usage(41), conversation="c")
        await service.ended("t1")

        await service.create_turn("t2")
        assert ("STATE_FAILED", "agent") == budget_of(await service.ended("t2"))
        assert 1 == len(executor.created)

        await change(service, budget_usd_micros=100)
        await service.create_turn("t3")
        execution = await executor.execution(2)
        assert (59, "c") == (execution.asked.budget.agent_usd_micros, execution.asked.resume_from)

    async def test_an_attempt_with_nothing_left_of_the_turn_fails(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """What earlier attempts cost may be all there was."""
        await change(service, turn_budget_usd_micros=20)
        await service.create_turn()
        (await executor.execution()).send(progress(20))
        executor.forget()

        turn = await service.ended()
        assert ("STATE_FAILED", "turn") == budget_of(turn)
        assert 20 == turn.usage.cost_usd_micros


class TestMonthBudget:
    """What all of a user's agents may cost in a month."""

    @pytest.fixture
    def limits(self, request: pytest.FixtureRequest) -> Limits:
        """A hundred for a month."""
        pace = timedelta(seconds=getattr(request, "param", 0))
        return Limits(month_budget=100, pace=pace)

    async def test_it_is_told(self, service: Service, executor: FakeExecutor) -> None:
        """To executions what is left, to users what it is."""
        await service.create_turn("t1")
        (await executor.execution()).end(usage=usage(40))
        await service.ended("t1")
        await service.create_turn("t2")

        assert 60 == (await executor.execution(2)).asked.budget.month_usd_micros
        assert 100 == (await service.month()).budget_usd_micros

    async def test_turns_together_meet_it(self, service: Service, executor: FakeExecutor) -> None:
        """Each alone had enough left; all that run are stopped."""
        await service.create_agent("a2")
        await service.create_turn("t1")
        first = await executor.execution()
        first.send(progress(40))
        await service.create_turn("t2", agent=OTHER)
        second = await executor.execution(2)
        assert 60 == second.asked.budget.month_usd_micros

        second.send(progress(59))
        assert 0 == first.cancellations + second.cancellations
        second.send(progress(60))
        second.send(progress(70))

        assert ("STATE_FAILED", "month") == budget_of(await service.ended("t1"))
        await until(lambda: not second.listeners)
        assert ("STATE_FAILED", "month") == budget_of(await service.get_turn("t2", OTHER))
        assert (1, 1) == (first.cancellations, second.cancellations)

    async def test_nothing_is_left_for_a_turn_after(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """It fails at once, also for another agent."""
        await service.create_turn("t1")
        (await executor.execution()).end(usage=usage(100))
        await service.ended("t1")
        await service.create_agent("a2")

        await service.create_turn("t2", agent=OTHER)
        await until(lambda: _has_ended(service, "t2", OTHER))

        assert ("STATE_FAILED", "month") == budget_of(await service.get_turn("t2", OTHER))
        assert 1 == len(executor.created)

    async def test_deleted_agents_have_spent_it_too(
        self, make_service: Callable[[], Service], executor: FakeExecutor
    ) -> None:
        """To delete an agent gives nothing back, whoever asks later."""
        async with make_service() as service:
            await service.create_agent()
            await service.create_turn("t1")
            (await executor.execution()).end(usage=usage(100))
            await service.ended("t1")
            await delete(service)
        async with make_service() as service:
            await service.create_agent()
            await service.create_turn("t2")

            assert ("STATE_FAILED", "month") == budget_of(await service.ended("t2"))

    async def test_an_executor_that_comes_back_is_told_again(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """It may have been away when the turn was to stop."""
        executor.cancels = False
        await service.create_turn()
        execution = await executor.execution()
        execution.send(progress(100))
        await until(lambda: execution.cancellations == 1)

        executor.reconnect()

        await until(lambda: execution.cancellations == 2)

    async def test_a_turn_that_is_being_placed_looks_for_itself(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """Once an executor is there nothing is left any more."""
        await service.create_agent("a2")
        await service.create_turn("t1")
        first = await executor.execution()
        executor.stuck.add("create")
        await service.create_turn("t2", agent=OTHER)
        await until(lambda: executor.calls.count("create") == 2)

        first.send(progress(100))
        assert ("STATE_FAILED", "month") == budget_of(await service.ended("t1"))

        agent = await service.get_agent(OTHER)
        assert agents_pb2.Agent.STATE_WORKING == agent.state

    @pytest.mark.parametrize("limits", [3600], indirect=True)
    async def test_the_next_owner_knows_what_was_spent(
        self, pods: Pods, first: Pod, executor: FakeExecutor
    ) -> None:
        """From logs, where agents' documents are written late."""
        await first.create_turn("t0")
        (await executor.execution()).end(usage=usage(1))
        await first.ended("t0")
        await first.create_turn("t1")
        (await executor.execution(2)).end(usage=usage(99))
        await first.ended("t1")
        await first.tasks.__aexit__(None, None, None)
        pods.pass_time(16)
        second = await pods.start("two:2")
        await second.create_agent("a2")

        await second.create_turn("t2", agent=OTHER)
        await until(lambda: _has_ended(second, "t2", OTHER))

        assert ("STATE_FAILED", "month") == budget_of(await second.get_turn("t2", OTHER))


async def _has_ended(service: Service, turn: str, agent: str) -> bool:
    return (await service.get_turn(turn, agent)).HasField("end_time")
