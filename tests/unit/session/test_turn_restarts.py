"""Tests of `services.session.turns`: a process that dies at any step, and the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from moorline.session.v1 import agents_pb2, turns_pb2
from services.chassis.failures import Failure
from tests.unit.session.fakes import FakeExecution, FakeExecutor, FaultyStore
from tests.unit.session.service import Service, until

Turn = turns_pb2.Turn


MakeService = Callable[[], Service]


class TestRestarting:
    async def test_a_running_turn_is_followed_again(
        self, make_service: MakeService, executor: FakeExecutor
    ) -> None:
        """From where the log is, without a lost or a doubled event."""
        async with make_service() as service:
            await service.create_agent()
            await service.create_turn()
            execution = await executor.execution()
            execution.call_tool("c1")
            await until(lambda: executor.acknowledged == {execution.id: 1})
        execution.listeners.clear()
        execution.call_tool("c2")

        async with make_service() as service:
            await until(lambda: bool(execution.listeners))
            execution.call_tool("c3")
            execution.end()
            await service.ended()

            events = await service.list_events()
        calls = [event.item.tool_call.tool_call_id for event in events[1:-1]]
        assert ["c1", "c2", "c3"] == calls
        assert [1, 2, 3, 4, 5] == [event.sequence for event in events]

    async def test_an_execution_that_was_never_created_is_tried_again(
        self, make_service: MakeService, executor: FakeExecutor
    ) -> None:
        """Death between the turn's document and the call ends in an outcome all the same."""
        executor.stuck = {"create"}
        async with make_service() as service:
            await service.create_agent()
            await service.create_turn()
        executor.stuck = set()
        executor.script = lambda execution: execution.end()

        async with make_service() as service:
            turn = await service.ended()

        assert (Turn.STATE_FINISHED, 2) == (turn.state, turn.attempt)

    async def test_death_after_a_new_attempt_was_recorded(
        self, make_service: MakeService, executor: FakeExecutor
    ) -> None:
        """The next process goes on with the attempt that the log has."""
        async with make_service() as service:
            await service.create_agent()
            await service.create_turn()
            await executor.execution()
            executor.stuck = {"create"}
            executor.forget()
            await until(lambda: executor.calls.count("create") == 2)
        executor.stuck = set()
        executor.script = lambda execution: execution.end()

        async with make_service() as service:
            turn = await service.ended()

        assert (Turn.STATE_FINISHED, 3) == (turn.state, turn.attempt)

    async def test_a_tool_call_before_the_restart_counts(
        self, make_service: MakeService, executor: FakeExecutor
    ) -> None:
        """When the execution is gone too, the turn is lost and not run again."""
        async with make_service() as service:
            await service.create_agent()
            await service.create_turn()
            execution = await executor.execution()
            execution.call_tool()
            await until(lambda: executor.acknowledged == {execution.id: 1})
        executor.executions.clear()

        async with make_service() as service:
            turn = await service.ended()

        assert Turn.STATE_LOST == turn.state

    async def test_a_tool_call_of_an_older_attempt_does_not_count(
        self, make_service: MakeService, executor: FakeExecutor
    ) -> None:
        """What the log says about the current attempt decides."""
        async with make_service() as service:
            await service.create_agent()
            await service.create_turn()
            await executor.execution()
            executor.forget()
            await executor.execution(2)
        executor.executions.clear()

        async with make_service() as service:
            (await executor.execution(3)).end()
            turn = await service.ended()

        assert (Turn.STATE_FINISHED, 3) == (turn.state, turn.attempt)

    async def test_queued_turns_keep_their_order(
        self, make_service: MakeService, executor: FakeExecutor
    ) -> None:
        """Those that wait run after the one that runs, as they were created."""
        async with make_service() as service:
            await service.create_agent()
            for turn_id in ("z", "m", "a"):
                await service.create_turn(turn_id)
            execution = await executor.execution()
        execution.listeners.clear()
        execution.end()
        executor.script = lambda execution: execution.end()

        async with make_service() as service:
            for turn_id in ("z", "m", "a"):
                assert Turn.STATE_FINISHED == (await service.ended(turn_id)).state

            outcomes = [
                event.turn_id
                for event in await service.list_events()
                if event.item.HasField("turn_outcome")
            ]
        assert ["z", "m", "a"] == outcomes

    async def test_a_queue_without_a_running_turn_starts(
        self, make_service: MakeService, executor: FakeExecutor, store: FaultyStore
    ) -> None:
        """Death between an outcome and the next turn's start loses nothing."""
        async with make_service() as service:
            await service.create_agent()
            await service.create_turn("t1")
            await service.create_turn("t2")
            execution = await executor.execution()
            agent = await service.live()
            execution.end()
            await until(lambda: agent.log.head == 3)
            # The commit that starts the second turn never arrives.
            store.held.clear()
        store.held.set()
        executor.script = lambda execution: execution.end()

        async with make_service() as service:
            assert Turn.STATE_FINISHED == (await service.ended("t2")).state

    async def test_a_cancellation_is_remembered(
        self, make_service: MakeService, executor: FakeExecutor
    ) -> None:
        """Recorded before the restart, it is carried out after it."""
        executor.stuck = {"cancel"}
        async with make_service() as service:
            await service.create_agent()
            await service.create_turn()
            execution = await executor.execution()
            await service.cancel_turn()
        execution.listeners.clear()
        executor.stuck = set()

        async with make_service() as service:
            assert Turn.STATE_CANCELLED == (await service.ended()).state

    async def test_an_open_permission_can_be_answered(
        self, make_service: MakeService, executor: FakeExecutor
    ) -> None:
        """The request is in the log; the answer reaches the agent."""
        async with make_service() as service:
            await service.create_agent()
            await service.create_turn()
            execution = await executor.execution()
            execution.ask()
            await until(lambda: executor.acknowledged == {execution.id: 1})
        execution.listeners.clear()

        async with make_service() as service:
            assert agents_pb2.Agent.STATE_NEEDS_YOU == (await service.get_agent()).state
            await service.resolve()
            await until(lambda: len(execution.decisions) == 1)

    async def test_an_answer_that_was_not_handed_over_is(
        self, make_service: MakeService, executor: FakeExecutor
    ) -> None:
        """It was durable before the restart, so it counts after it."""
        executor.stuck = {"resolve"}
        async with make_service() as service:
            await service.create_agent()
            await service.create_turn()
            execution = await executor.execution()
            execution.ask()
            await until(lambda: service.metric("moorline_permission_requests_pending") == 1)
            await service.resolve()
        execution.listeners.clear()
        executor.stuck = set()

        async with make_service() as service:
            await until(lambda: len(execution.decisions) == 1)
            with pytest.raises(Failure):
                await service.resolve(allowed=False)

    async def test_the_duration_spans_attempts_and_restarts(
        self, make_service: MakeService, executor: FakeExecutor
    ) -> None:
        """It begins with the first attempt, not with the process."""
        async with make_service() as service:
            await service.create_agent()
            began = (await service.create_turn()).create_time.ToDatetime()
            await executor.execution()
            await asyncio.sleep(0.02)
        executor.executions.clear()
        executor.script = lambda execution: execution.end()

        async with make_service() as service:
            turn = await service.ended()
            outcome = (await service.list_events())[-1].item.turn_outcome

        duration = outcome.duration.ToTimedelta()
        assert timedelta(seconds=0.02) <= duration
        assert duration <= turn.end_time.ToDatetime() - began


class TestDeath:
    @pytest.mark.parametrize("commits", range(1, 12))
    async def test_a_turn_ends_once_whichever_commit_was_the_last(
        self, make_service: MakeService, executor: FakeExecutor, store: FaultyStore, commits: int
    ) -> None:
        """The process stops after its n-th commit; the next one brings every turn to an end."""

        def script(execution: FakeExecution) -> None:
            if not execution.events:
                execution.say("b1", "text")
                execution.complete("b1")
                execution.end()

        executor.script = script
        async with make_service() as service:
            await service.create_agent()
            done = len(store.commits)
            calls = [
                asyncio.ensure_future(service.create_turn("t1")),
                asyncio.ensure_future(service.create_turn("t2")),
            ]
            await until(
                lambda: len(store.commits) >= done + commits or all(map(_ended_all, [service]))
            )
            store.held.clear()
            # A process that is dead writes nothing later than its last commit.
            await until(lambda: store.writing == 0)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        for execution in executor.executions.values():
            execution.listeners.clear()
        store.held.set()

        async with make_service() as service:
            for turn_id in ("t1", "t2"):
                await service.create_turn(turn_id)
                assert Turn.STATE_FINISHED == (await service.ended(turn_id)).state

            events = await service.list_events()
        assert list(range(1, len(events) + 1)) == [event.sequence for event in events]
        for kind in ("user_message", "turn_outcome"):
            turns = [event.turn_id for event in events if event.item.HasField(kind)]
            assert ["t1", "t2"] == sorted(turns)


def _ended_all(service: Service) -> bool:
    return service.metric("moorline_turns_total", outcome="finished") == 2
