"""Tests of `services.session.turns`: executions that are lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import executions_pb2
from moorline.session.v1 import turns_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from tests.unit.session.fakes import FakeExecutor, FaultyStore, unavailable
from tests.unit.session.service import IMPATIENT, Service, until

Turn = turns_pb2.Turn


class TestLosingTheExecution:
    async def test_without_a_tool_call_it_is_tried_again(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """A visible attempt follows, under another execution id."""
        await service.create_turn()
        first = await executor.execution()
        first.say("b1", "half")

        executor.forget()
        second = await executor.execution(2)
        second.end()

        turn = await service.ended()
        assert Turn.STATE_FINISHED == turn.state
        assert 2 == turn.attempt
        assert first.id != second.id
        attempt = (await service.list_events())[1].item.turn_attempt
        assert 2 == attempt.attempt
        assert errors_pb2.ERROR_REASON_EXECUTION_LOST == attempt.error.reason

    async def test_with_a_tool_call_the_turn_is_lost(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """A tool call whose completion is unknown is never silently run again."""
        await service.create_turn()
        (await executor.execution()).call_tool()

        executor.forget()

        turn = await service.ended()
        assert Turn.STATE_LOST == turn.state
        assert errors_pb2.ERROR_REASON_EXECUTION_LOST == turn.error.reason
        assert 1 == len(executor.created)

    async def test_a_tool_call_of_an_attempt_before_does_not_count(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """Only the attempt that was lost decides."""
        await service.create_turn()
        await executor.execution()
        executor.forget()
        await executor.execution(2)

        executor.forget()
        (await executor.execution(3)).end()

        assert 3 == (await service.ended()).attempt

    async def test_after_three_attempts_the_turn_fails(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """A turn that loses every execution is not tried for ever."""
        await service.create_turn()
        for number in (1, 2, 3):
            await executor.execution(number)
            executor.forget()

        turn = await service.ended()

        assert Turn.STATE_FAILED == turn.state
        assert errors_pb2.ERROR_REASON_EXECUTION_LOST == turn.error.reason
        assert 3 == turn.attempt == len(executor.created)

    async def test_text_being_written_becomes_partial_items(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """Nothing shown is thrown away when the turn ends without its executor."""
        await service.create_turn()
        execution = await executor.execution()
        execution.call_tool()
        execution.say("b1", "half a message")
        thought = transcript_pb2.MessageDelta(block_id="b2", thought=True, text="half a thought")
        execution.send(_delta(thought))

        executor.forget()
        await service.ended()

        items = [event.item for event in await service.list_events()]
        assert ("half a message", True) == (
            items[2].agent_message.text,
            items[2].agent_message.partial,
        )
        assert ("half a thought", True) == (
            items[3].agent_thought.text,
            items[3].agent_thought.partial,
        )

    async def test_an_open_permission_is_closed_before_the_next_attempt(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """The new attempt asks anew, perhaps under the same id."""
        await service.create_turn()
        (await executor.execution()).ask("p1")
        executor.forget()
        second = await executor.execution(2)
        second.ask("p1")
        await until(lambda: service.metric("moorline_permission_requests_pending") == 1)

        await service.resolve("p1")
        await until(lambda: len(second.decisions) == 1)
        second.end()
        await service.ended()

        assert [
            "user_message",
            "permission_request",
            "permission_decision",
            "turn_attempt",
            "permission_request",
            "permission_decision",
            "turn_outcome",
        ] == await service.kinds()

    async def test_a_gap_in_the_events_loses_the_turn(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """An executor that skips a number has forgotten something: perhaps a tool call."""
        await service.create_turn()
        first = await executor.execution()
        first.send(_event(5))

        assert Turn.STATE_LOST == (await service.ended()).state
        assert 1 == len(executor.created)

    async def test_an_ended_execution_that_was_forgotten_loses_the_turn(
        self, service: Service, executor: FakeExecutor, make_service: Callable[[], Service]
    ) -> None:
        """It ended while nobody listened: what its tools did is not known."""
        await service.create_turn()
        await executor.execution()
        await service.tasks.__aexit__(None, None, None)
        executor.failures["subscribe"] = [_forgotten()]

        async with make_service() as restarted:
            turn = await restarted.ended()

        assert Turn.STATE_LOST == turn.state
        assert errors_pb2.ERROR_REASON_EXECUTION_LOST == turn.error.reason
        assert 1 == len(executor.created)

    async def test_an_executor_that_was_away_for_too_long_is_another_attempt(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """As is one that has restarted, when no tool call was heard of."""
        await service.create_turn()
        first = await executor.execution()
        first.listeners[0].end(unavailable())

        (await executor.execution(2)).end()

        assert 2 == (await service.ended()).attempt

    async def test_a_subscription_is_tried_again_while_the_executor_is_away(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """A break between creating and following is not a loss."""
        executor.failures["subscribe"] = [unavailable()]
        executor.script = lambda execution: execution.end()
        await service.create_turn()

        turn = await service.ended()

        assert (Turn.STATE_FINISHED, 1) == (turn.state, turn.attempt)

    @IMPATIENT
    async def test_an_executor_that_cannot_be_followed_is_given_up(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """After a while it is a loss all the same."""
        executor.failures["subscribe"] = [unavailable() for _ in range(1000)]
        await service.create_turn()
        await until(lambda: len(executor.created) == 2)
        executor.failures.clear()
        (await executor.execution(2)).end()

        assert Turn.STATE_FINISHED == (await service.ended()).state


class TestLosingAToolThatWaitsForPermission:
    """It cannot have run before somebody allowed it, so another attempt repeats nothing."""

    async def test_an_open_request_is_asked_again(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """By the next attempt, which may come to another one."""
        await service.create_turn()
        first = await executor.execution()
        first.call_tool("c1")
        first.ask("p1", tool_call_id="c1")
        await until(lambda: service.metric("moorline_permission_requests_pending") == 1)

        executor.forget()
        second = await executor.execution(2)
        second.call_tool("c1")
        second.ask("p2", tool_call_id="c1")
        await until(lambda: service.metric("moorline_permission_requests_pending") == 1)
        await service.resolve("p2")
        await until(lambda: len(second.decisions) == 1)
        second.end()

        turn = await service.ended()
        assert (Turn.STATE_FINISHED, 2) == (turn.state, turn.attempt)
        assert [
            "user_message",
            "tool_call",
            "permission_request",
            "permission_decision",
            "turn_attempt",
            "tool_call",
            "permission_request",
            "permission_decision",
            "turn_outcome",
        ] == await service.kinds()

    async def test_a_refused_one_has_not_run(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """Nor will it."""
        await service.create_turn()
        first = await executor.execution()
        first.call_tool("c1")
        first.ask("p1", tool_call_id="c1")
        await service.resolve("p1", allowed=False)
        await until(lambda: len(first.decisions) == 1)

        executor.forget()
        (await executor.execution(2)).end()

        assert 2 == (await service.ended()).attempt

    async def test_an_allowed_one_may_have_run(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """Whether the answer has arrived is not known."""
        await service.create_turn()
        first = await executor.execution()
        first.call_tool("c1")
        first.ask("p1", tool_call_id="c1")
        await service.resolve("p1")

        executor.forget()

        assert Turn.STATE_LOST == (await service.ended()).state
        assert 1 == len(executor.created)

    async def test_an_answer_that_is_not_durable_yet_counts(
        self, service: Service, executor: FakeExecutor, store: FaultyStore
    ) -> None:
        """It is given, and will be shown as given."""
        await service.create_turn()
        first = await executor.execution()
        first.call_tool("c1")
        first.ask("p1", tool_call_id="c1")
        store.held.clear()
        answering = asyncio.ensure_future(service.resolve("p1"))
        await asyncio.sleep(0.01)

        executor.forget()
        store.held.set()
        await answering

        assert Turn.STATE_LOST == (await service.ended()).state

    async def test_a_tool_beside_it_that_was_not_asked_about_may_have_run(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """One is enough."""
        await service.create_turn()
        first = await executor.execution()
        first.call_tool("c0")
        first.call_tool("c1")
        first.ask("p1", tool_call_id="c1")

        executor.forget()

        assert Turn.STATE_LOST == (await service.ended()).state

    @pytest.mark.parametrize(("allowed", "attempts"), [(None, 2), (False, 2), (True, 1)])
    async def test_the_next_process_knows_it_from_the_log(
        self,
        make_service: Callable[[], Service],
        executor: FakeExecutor,
        allowed: bool | None,
        attempts: int,
    ) -> None:
        """With the answers that the one before has recorded."""
        async with make_service() as service:
            await service.create_agent()
            await service.create_turn()
            execution = await executor.execution()
            execution.call_tool("c1")
            execution.ask("p1", tool_call_id="c1")
            if allowed is not None:
                await service.resolve("p1", allowed=allowed)
            await until(lambda: executor.acknowledged == {execution.id: 2})
        executor.executions.clear()
        executor.script = lambda execution: execution.end()

        async with make_service() as service:
            turn = await service.ended()

        assert (attempts == 1) == (turn.state == Turn.STATE_LOST)
        assert attempts == turn.attempt


def _forgotten() -> Failure:
    return Failure(errors_pb2.ERROR_REASON_EXECUTION_LOST, "ended and forgotten")


def _delta(delta: transcript_pb2.MessageDelta) -> executions_pb2.ExecutionUpdate:
    return executions_pb2.ExecutionUpdate(delta=delta)


def _event(sequence: int) -> executions_pb2.ExecutionUpdate:
    event = executions_pb2.ExecutionEvent(sequence=sequence)
    event.item.tool_call.tool_call_id = "c"
    return executions_pb2.ExecutionUpdate(event=event)
