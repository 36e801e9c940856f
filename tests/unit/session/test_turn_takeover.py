"""Tests of `services.session.turns`: whoever takes a turn over, and whoever had it before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from moorline.session.v1 import turns_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from tests.unit.session.fakes import FakeExecutor, FakeExecutors, unavailable
from tests.unit.session.service import IMPATIENT, Service, until

Turn = turns_pb2.Turn
MakeService = Callable[[], Service]

pytestmark = pytest.mark.usefixtures("both_willing")


class TestTakingOver:
    async def test_it_follows_at_the_executor_that_has_it_from_where_the_log_is(
        self,
        make_service: MakeService,
        executors: FakeExecutors,
        executor: FakeExecutor,
        other: FakeExecutor,
    ) -> None:
        """Nothing is missed and nothing doubled, whoever would be chosen now."""
        async with make_service() as service:
            await service.create_agent()
            executors.unwilling = {"e1:1"}
            await service.create_turn()
            execution = await other.execution()
            execution.call_tool("c1")
            await until(lambda: other.acknowledged == {execution.id: 1})
        execution.listeners.clear()
        execution.call_tool("c2")
        executors.unwilling = {"e2:1"}

        async with make_service() as service:
            await until(lambda: bool(execution.listeners))
            assert 1 == execution.positions[-1]
            execution.call_tool("c3")
            execution.end()
            await service.ended()

            calls = [
                event.item.tool_call.tool_call_id for event in (await service.list_events())[1:-1]
            ]
        assert ["c1", "c2", "c3"] == calls
        assert [] == executor.calls

    async def test_two_at_once_write_it_once(
        self,
        make_service: MakeService,
        executors: FakeExecutors,
        other: FakeExecutor,
    ) -> None:
        """The one that was taken over follows on for a while, and cannot add a word."""
        executors.unwilling = {"e1:1"}
        async with make_service() as old:
            await old.create_agent()
            await old.create_turn()
            execution = await other.execution()
            async with make_service() as new:
                await until(lambda: len(execution.listeners) == 2)
                # The new one hears it first.
                execution.listeners.reverse()
                execution.call_tool("c1")
                execution.say("b1", "word")
                execution.complete("b1")
                execution.end()

                assert Turn.STATE_FINISHED == (await new.ended()).state
                kinds = await new.kinds()
        assert ["user_message", "tool_call", "agent_message", "turn_outcome"] == kinds

    async def test_the_one_before_cannot_stop_what_the_new_one_follows(
        self,
        make_service: MakeService,
        executor: FakeExecutor,
    ) -> None:
        """What it thinks lost is given up once that is durable, which it never will be."""
        async with make_service() as old:
            await old.create_agent()
            await old.create_turn()
            execution = await executor.execution()
            listener = execution.listeners.pop()
            async with make_service() as new:
                await until(lambda: bool(execution.listeners))
                execution.call_tool("c1")
                await until(lambda: executor.acknowledged == {execution.id: 1})
                listener.end(unavailable())
                # It has tried to record that, was fenced, and follows like the new one.
                await until(lambda: len(execution.listeners) == 2)

                assert [] == executor.abandoned
                execution.end()
                turn = await new.ended()
        assert (Turn.STATE_FINISHED, 1) == (turn.state, turn.attempt)

    async def test_the_one_before_hands_over_no_answer_that_is_not_recorded(
        self,
        make_service: MakeService,
        executor: FakeExecutor,
    ) -> None:
        """The new owner's history would not say why the tool ran."""
        async with make_service() as old:
            await old.create_agent()
            await old.create_turn()
            execution = await executor.execution()
            execution.ask("p1")
            await until(lambda: executor.acknowledged == {execution.id: 1})
            old_agent = await old.live()
            async with make_service() as new:
                await until(lambda: len(execution.listeners) == 2)
                await new.create_turn("t2")
                run = old_agent._turns.run
                assert run is not None
                old_agent.log.fence()
                with pytest.raises(Failure):
                    await run.resolve(
                        transcript_pb2.PermissionDecision(permission_id="p1", allowed=True)
                    )
                executor.reconnect()
                await asyncio.sleep(0.05)

                assert [] == execution.decisions

    @IMPATIENT
    async def test_an_executor_that_is_gone_by_then_is_given_up(
        self,
        make_service: MakeService,
        executors: FakeExecutors,
        executor: FakeExecutor,
        other: FakeExecutor,
    ) -> None:
        """After as long as it may be away; another one gets the next attempt."""
        async with make_service() as service:
            await service.create_agent()
            await service.create_turn()
            execution = await executor.execution()
        executors.lose()
        other.script = lambda execution: execution.end()

        async with make_service() as service:
            turn = await service.ended()

        assert (Turn.STATE_FINISHED, 2) == (turn.state, turn.attempt)
        assert [execution.id] == executor.abandoned

    async def test_a_creation_of_the_one_before_that_never_arrived_is_given_up(
        self,
        make_service: MakeService,
        executors: FakeExecutors,
        executor: FakeExecutor,
        other: FakeExecutor,
    ) -> None:
        """It is told to the executor, so that it does not begin when it arrives late."""
        executor.stuck = {"create"}
        async with make_service() as service:
            await service.create_agent()
            await service.create_turn()
            await until(lambda: "create" in executor.calls)
        executor.stuck = set()
        executor.script = lambda execution: execution.end()

        async with make_service() as service:
            turn = await service.ended()

        assert (Turn.STATE_FINISHED, 2) == (turn.state, turn.attempt)
        assert 1 == len(executor.abandoned)
        assert executor.abandoned[0] not in executor.created
