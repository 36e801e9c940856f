"""Tests of `services.session.permissions` in a turn: durable, first answer wins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import agents_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.session.limits import Limits
from tests.unit.session.fakes import FakeExecutor, unavailable
from tests.unit.session.service import Service, until
from tests.unit.session.shared import Pod

Decision = transcript_pb2.PermissionDecision


MakeService = Callable[[], Service]


class TestPermissions:
    async def test_an_answer_is_recorded_and_handed_over(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """While it is open the agent needs its user; the answer is an event."""
        await service.create_turn()
        execution = await executor.execution()
        execution.ask()
        await until(lambda: service.metric("moorline_permission_requests_pending") == 1)
        assert agents_pb2.Agent.STATE_NEEDS_YOU == (await service.get_agent()).state

        await service.resolve(allowed=False)
        await until(lambda: len(execution.decisions) == 1)

        assert Decision.DECIDER_USER == execution.decisions[0].decider
        assert "permission_decision" == (await service.kinds())[-1]
        assert agents_pb2.Agent.STATE_WORKING == (await service.get_agent()).state

    async def test_the_first_answer_wins(self, service: Service, executor: FakeExecutor) -> None:
        """The same again succeeds, another is told who was first."""
        await service.create_turn()
        execution = await executor.execution()
        execution.ask()

        answers = await asyncio.gather(
            service.resolve(allowed=True),
            service.resolve(allowed=True),
            service.resolve(allowed=False),
            return_exceptions=True,
        )

        first, second, refused = answers
        assert first is second is None
        assert isinstance(refused, Failure)
        assert errors_pb2.ERROR_REASON_PERMISSION_RESOLVED == refused.reason
        assert {"decision": "allowed", "decider": "USER"} == refused.metadata
        await until(lambda: len(execution.decisions) == 1)
        assert 1 == (await service.kinds()).count("permission_decision")

    async def test_answers_after_the_end(self, service: Service, executor: FakeExecutor) -> None:
        """A finished turn still knows what was decided and by whom."""
        await service.create_turn()
        execution = await executor.execution()
        execution.ask("p1")
        execution.ask("p2")
        await service.resolve("p1", allowed=False)
        execution.end()
        await service.ended()

        await service.resolve("p1", allowed=False)

        with pytest.raises(Failure) as other:
            await service.resolve("p1", allowed=True)
        assert {"decision": "refused", "decider": "USER"} == other.value.metadata
        with pytest.raises(Failure) as ended:
            await service.resolve("p2", allowed=False)
        assert {"decision": "refused", "decider": "TURN_END"} == ended.value.metadata

    @pytest.mark.parametrize("turn_id", ["t1", "t2", "t9"])
    async def test_an_unknown_request_is_not_found(
        self, service: Service, executor: FakeExecutor, turn_id: str
    ) -> None:
        """Whether the turn runs, waits or does not exist."""
        await service.create_turn("t1")
        await service.create_turn("t2")
        await executor.execution()

        with pytest.raises(Failure) as raised:
            await service.resolve("p9", turn_id=turn_id)

        assert errors_pb2.ERROR_REASON_RESOURCE_NOT_FOUND == raised.value.reason

    async def test_the_answer_is_handed_over_again_after_a_break(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """The connection that carried it may have lost it; repeating it is harmless."""
        await service.create_turn()
        execution = await executor.execution()
        execution.ask()
        executor.failures["resolve"] = [unavailable()]
        await service.resolve()
        await until(lambda: len(execution.decisions) == 1)

        executor.reconnect()

        await until(lambda: len(execution.decisions) == 2)

    async def test_without_a_limit_a_request_waits(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """Nothing about it says when it would expire."""
        await service.create_turn()
        (await executor.execution()).ask()
        await until(lambda: service.metric("moorline_permission_requests_pending") == 1)

        request = (await service.list_events())[-1].item.permission_request
        assert not request.HasField("expire_time")


class TestPermissionTimeout:
    @pytest.fixture
    def limits(self) -> Limits:
        """Limits with a short wait for answers."""
        return Limits(permission=timedelta(seconds=0.05))

    async def test_silence_becomes_a_refusal(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """It is recorded as a timeout, and the agent is told."""
        await service.create_turn()
        execution = await executor.execution()
        execution.ask()
        await until(lambda: len(execution.decisions) == 1)

        assert Decision.DECIDER_TIMEOUT == execution.decisions[0].decider
        assert not execution.decisions[0].allowed
        events = await service.list_events()
        assert events[1].item.permission_request.HasField("expire_time")

    async def test_an_answer_in_time_stands(self, first: Pod, executor: FakeExecutor) -> None:
        """The end of the wait changes nothing then."""
        await first.create_turn()
        execution = await executor.execution()
        execution.ask()
        await first.resolve()

        await asyncio.sleep(0.08)

        assert [True] == [decision.allowed for decision in execution.decisions]

    async def test_the_wait_goes_on_after_a_restart(
        self, make_service: MakeService, executor: FakeExecutor
    ) -> None:
        """The time limit is the request's, not the process's."""
        async with make_service() as service:
            await service.create_agent()
            await service.create_turn()
            execution = await executor.execution()
            execution.ask()
            await until(lambda: executor.acknowledged == {execution.id: 1})

        async with make_service() as service:
            await until(lambda: len(execution.decisions) == 1)

        assert Decision.DECIDER_TIMEOUT == execution.decisions[0].decider
