"""Tests of `services.session.placement`: which executor gets an execution, and what lasts of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import turns_pb2
from services.chassis.failures import Failure
from services.session.budgets import Left
from services.session.executors.placement import Placement
from services.session.limits import Limits
from services.session.records import TurnRecord
from tests.unit.session.fakes import FakeExecutor, FakeExecutors, FaultyStore, unavailable
from tests.unit.session.service import AGENT, IMPATIENT, Service, recorded_executor, until
from tests.unit.session.shared import Pod

Turn = turns_pb2.Turn
MakeService = Callable[[], Service]

TURN = f"{AGENT}/turns/t1"


def refusal(reason: errors_pb2.ErrorReason.ValueType) -> Failure:
    """Return an answer that says for sure that nothing was started."""
    return Failure(reason, "no")


CAPACITY = errors_pb2.ERROR_REASON_EXECUTOR_CAPACITY
DRAINING = errors_pb2.ERROR_REASON_DRAINING
BACKEND = errors_pb2.ERROR_REASON_BACKEND_UNAVAILABLE


pytestmark = pytest.mark.usefixtures("both_willing")


class TestWhereItIsCreated:
    async def test_the_address_is_durable_before_the_call(
        self, service: Service, executor: FakeExecutor, store: FaultyStore
    ) -> None:
        """And written with the prompt: a turn that runs at once costs no other commit."""
        commits = len(store.commits)
        executor.stuck = {"create"}
        await service.create_turn()
        await until(lambda: "create" in executor.calls)

        assert "e1:1" == await recorded_executor(store, TURN)
        assert 1 == len(store.commits) - commits

    async def test_a_finished_turn_costs_two_commits(
        self, service: Service, executor: FakeExecutor, store: FaultyStore
    ) -> None:
        """The agent's document learns where its files are together with the outcome."""
        commits = len(store.commits)
        executor.script = lambda execution: execution.end()
        await service.create_turn()
        await service.ended()

        assert 2 == len(store.commits) - commits
        assert "e1:1" == await recorded_executor(store, AGENT)

    async def test_an_agent_stays_where_its_files_are(
        self,
        service: Service,
        executors: FakeExecutors,
        executor: FakeExecutor,
        other: FakeExecutor,
    ) -> None:
        """Also when another one would be chosen for a new agent."""
        executors.unwilling = {"e1:1"}
        executor.script = other.script = lambda execution: execution.end()
        await service.create_turn("t1")
        await service.ended("t1")
        executors.unwilling = set()

        await service.create_turn("t2")
        await service.ended("t2")

        assert ([], 2) == (executor.created, len(other.created))

    async def test_a_turn_that_waited_is_placed_when_it_begins(
        self,
        service: Service,
        executors: FakeExecutors,
        executor: FakeExecutor,
        other: FakeExecutor,
        store: FaultyStore,
    ) -> None:
        """Not when it was asked for."""
        await service.create_turn("t0")
        await service.create_turn("t1")
        assert "" == await recorded_executor(store, TURN)
        execution = await executor.execution()
        executors.unwilling = {"e1:1"}
        other.script = lambda other: other.end()

        execution.end()
        await service.ended("t1")

        assert "e2:1" == await recorded_executor(store, TURN)
        assert 1 == len(other.created)


class TestAfterARefusal:
    @pytest.mark.parametrize("reason", [CAPACITY, DRAINING, BACKEND])
    async def test_it_is_created_elsewhere(
        self,
        service: Service,
        executors: FakeExecutors,
        executor: FakeExecutor,
        other: FakeExecutor,
        store: FaultyStore,
        reason: errors_pb2.ErrorReason.ValueType,
    ) -> None:
        """As the same attempt, once the other address is durable; the first one forgets it."""

        def refuse() -> Failure:
            executors.unwilling = {"e1:1"}
            return refusal(reason)

        executor.refuse = refuse
        other.stuck = {"create"}
        await service.create_turn()
        await until(lambda: "create" in other.calls)
        assert "e2:1" == await recorded_executor(store, TURN)
        other.stuck = set()
        await service.cancel_turn()

        assert Turn.STATE_CANCELLED == (await service.ended()).state
        assert [] == executor.created

    async def test_a_backend_that_nobody_has_ends_the_turn(
        self, service: Service, executor: FakeExecutor, other: FakeExecutor
    ) -> None:
        """At once, after each was asked."""
        executor.failures["create"] = [refusal(BACKEND)]
        other.failures["create"] = [refusal(BACKEND)]
        await service.create_turn()

        turn = await service.ended()

        assert errors_pb2.ERROR_REASON_BACKEND_UNAVAILABLE == turn.error.reason
        assert (1, 1) == (executor.calls.count("create"), other.calls.count("create"))

    async def test_executors_that_are_all_full_are_waited_for(
        self, service: Service, executors: FakeExecutors, executor: FakeExecutor
    ) -> None:
        """Somebody else's turn may end."""
        executors.unwilling = {"e2:1"}
        executor.failures["create"] = [refusal(CAPACITY)] * 2
        executor.script = lambda execution: execution.end()
        await service.create_turn()

        assert Turn.STATE_FINISHED == (await service.ended()).state

    @IMPATIENT
    async def test_executors_that_stay_full_are_given_up(
        self, service: Service, executors: FakeExecutors, executor: FakeExecutor
    ) -> None:
        """After as long as an executor may be away, and the turn says that they are full."""
        executors.unwilling = {"e2:1"}
        executor.refuse = lambda: refusal(CAPACITY)
        await service.create_turn()

        turn = await service.ended()

        assert errors_pb2.ERROR_REASON_EXECUTOR_CAPACITY == turn.error.reason

    async def test_what_may_have_started_is_created_nowhere_else(
        self, service: Service, executor: FakeExecutor, other: FakeExecutor
    ) -> None:
        """Following it tells; here it was never started, which is another attempt."""
        executor.failures["create"] = [refusal(errors_pb2.ERROR_REASON_EXECUTION_LOST)]
        executor.script = lambda execution: execution.end()
        await service.create_turn()

        turn = await service.ended()

        assert (Turn.STATE_FINISHED, 2) == (turn.state, turn.attempt)
        assert [] == other.created
        assert 1 == len(executor.abandoned)


class TestWithoutAnExecutor:
    async def test_a_turn_waits_for_one(
        self,
        service: Service,
        executors: FakeExecutors,
        other: FakeExecutor,
        store: FaultyStore,
    ) -> None:
        """It is recorded without an address, and with one before it is created."""
        executors.unwilling = {"e1:1", "e2:1"}
        await service.create_turn()
        assert "" == await recorded_executor(store, TURN)
        other.script = lambda execution: execution.end()

        executors.unwilling = {"e1:1"}
        turn = await service.ended()

        assert (Turn.STATE_FINISHED, 1) == (turn.state, turn.attempt)
        assert "e2:1" == await recorded_executor(store, TURN)

    @IMPATIENT
    async def test_after_a_while_it_fails(self, service: Service, executors: FakeExecutors) -> None:
        """With a reason to act on."""
        executors.unwilling = {"e1:1", "e2:1"}
        await service.create_turn()

        turn = await service.ended()

        assert Turn.STATE_FAILED == turn.state
        assert errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE == turn.error.reason

    async def test_a_take_over_creates_it_as_the_same_attempt(
        self, make_service: MakeService, executors: FakeExecutors, other: FakeExecutor
    ) -> None:
        """Nobody was asked, so nothing can run twice."""
        executors.unwilling = {"e1:1", "e2:1"}
        async with make_service() as service:
            await service.create_agent()
            await service.create_turn()
        executors.unwilling = {"e1:1"}
        other.script = lambda execution: execution.end()

        async with make_service() as service:
            turn = await service.ended()

        assert (Turn.STATE_FINISHED, 1) == (turn.state, turn.attempt)

    async def test_a_cancelled_one_is_asked_for_nowhere(
        self, service: Service, executors: FakeExecutors, executor: FakeExecutor
    ) -> None:
        """It ends at once."""
        executors.unwilling = {"e1:1", "e2:1"}
        await service.create_turn()
        await service.cancel_turn()

        assert Turn.STATE_CANCELLED == (await service.ended()).state
        assert [] == executor.calls == executor.abandoned


@pytest.mark.parametrize("limits", [Limits(unreachable=timedelta(seconds=5))])
async def test_the_store_may_take_longer_than_executors_may_be_away(
    first: Pod, executors: FakeExecutors, executor: FakeExecutor, other: FakeExecutor
) -> None:
    """Waiting until the next address is durable is not held against the executors."""

    def hold(_: str) -> None:
        executors.unwilling = {"e1:1"}
        first.store.gate.clear()

    executor.called = hold
    executor.failures["create"] = [refusal(DRAINING)]
    # So that it is asked whether there is time for another look.
    other.failures["create"] = [refusal(CAPACITY)]
    other.script = lambda execution: execution.end()
    await first.create_turn()
    await until(lambda: "create" in executor.calls)
    # Within the lease, which nothing can renew.
    await asyncio.sleep(8)
    assert [] == other.calls
    first.store.gate.set()

    assert Turn.STATE_FINISHED == (await first.ended()).state


async def test_a_cancelled_creation_is_abandoned(service: Service, executor: FakeExecutor) -> None:
    """The call that was broken off may have had its effect."""
    executor.stuck = {"create"}
    await service.create_turn()
    await until(lambda: "create" in executor.calls)

    await service.cancel_turn()
    await service.ended()

    assert 1 == len(executor.abandoned)


async def test_an_executor_that_is_away_for_a_moment_is_asked_again(
    service: Service, executor: FakeExecutor, other: FakeExecutor
) -> None:
    """Its address stays the same, so nothing is written."""
    executor.failures["create"] = [unavailable(), unavailable()]
    executor.script = lambda execution: execution.end()
    await service.create_turn()

    assert Turn.STATE_FINISHED == (await service.ended()).state
    assert [] == other.calls


async def test_nothing_is_created_while_the_agent_may_be_somebody_elses(
    first: Pod, executor: FakeExecutor, limits: Limits
) -> None:
    """However long it takes to know that; the executors are not blamed for it."""
    agent = (await first.live()).record
    turn = TurnRecord(
        name=agent.name.turn("t1"),
        prompt="hi",
        state=Turn.STATE_RUNNING,
        sequence=1,
        create_time=agent.create_time,
        attempt=1,
        executor="e1:1",
    )
    log: Any = SimpleNamespace(owned=False, mirror=(await first.live()).mirror)
    placement = Placement(
        environment=first.environment,
        agent=agent,
        turn=turn,
        agent_log=log,
        left=lambda: Left(turn=None, agent=None, month=None),
    )
    running = asyncio.ensure_future(placement.run())
    await asyncio.sleep(2 * limits.unreachable.total_seconds())
    assert [] == executor.calls

    log.owned = True

    assert await running is None
    assert [turn.execution] == executor.created
