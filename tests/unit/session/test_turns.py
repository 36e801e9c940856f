"""Tests of `services.session.turns`: the life of a turn, whatever dies."""

from __future__ import annotations

import re

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import agents_pb2, turns_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure, not_found
from services.session.executors.executor import Listener
from tests.unit.session.fakes import FakeExecutor, FakeSubscription, unavailable
from tests.unit.session.service import IMPATIENT, Service, until

Turn = turns_pb2.Turn


Outcome = transcript_pb2.TurnOutcome


def failure(reason: errors_pb2.ErrorReason.ValueType) -> Failure:
    """Return a failure with a reason."""
    return Failure(reason, "because")


class TestRunning:
    async def test_a_turn_runs_to_its_outcome(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """Prompt, items and outcome are events in order, and the turn knows how it ended."""
        await service.create_turn(prompt="hi")
        execution = await executor.execution()
        execution.say("b1", "he")
        execution.say("b1", "llo")
        execution.complete("b1")
        execution.end(usage=transcript_pb2.Usage(input_tokens=3))

        turn = await service.ended()

        assert Turn.STATE_FINISHED == turn.state
        assert 3 == turn.usage.input_tokens
        assert 1 == turn.sequence == turn.attempt
        events = await service.list_events()
        assert [1, 2, 3] == [event.sequence for event in events]
        assert ["user_message", "agent_message", "turn_outcome"] == await service.kinds()
        assert "hello" == events[1].item.agent_message.text
        assert events[2].item.turn_outcome.HasField("duration")
        assert 1 == service.metric("moorline_turns_total", outcome="finished")

    async def test_the_execution_gets_the_agents_settings(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """What the executor is asked is all it needs, and not who the user is."""
        await service.create_agent(
            "a2",
            instructions="be kind",
            backend="docker",
            permission_mode=agents_pb2.Agent.PERMISSION_MODE_ACCEPT_ALL,
        )
        await service.create_turn(prompt="hi", agent="users/ada/agents/a2")

        asked = (await executor.execution()).asked

        assert ("docker", "be kind", "hi") == (asked.backend, asked.instructions, asked.prompt.text)
        assert asked.PERMISSION_MODE_ACCEPT_ALL == asked.permission_mode
        # A digest: it says nothing of who the user is.
        assert re.fullmatch("workspaces/[0-9a-f]{32}", asked.workspace)

    async def test_a_conversation_is_resumed(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """The handle that came with an outcome goes into the next execution."""
        executor.script = lambda execution: execution.end(conversation="c1")
        await service.create_turn("t1")
        await service.ended("t1")

        await service.create_turn("t2")
        await service.ended("t2")

        assert "c1" == executor.last.asked.resume_from

    async def test_a_conversation_that_is_lost_is_not_resumed_again(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """After the handle failed, the next turn begins a new conversation."""
        executor.script = lambda execution: execution.end(conversation="c1")
        await service.create_turn("t1")
        await service.ended("t1")
        gone = errors_pb2.Error(reason=errors_pb2.ERROR_REASON_CONVERSATION_LOST)
        failed = transcript_pb2.TurnOutcome.STATE_FAILED
        executor.script = lambda execution: execution.end(failed, error=gone)
        await service.create_turn("t2")
        await service.ended("t2")

        await service.create_turn("t3")
        await service.ended("t3")

        assert "" == executor.last.asked.resume_from

    async def test_stored_items_are_acknowledged(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """The executor hears how far events are durable, and of the outcome at once."""
        await service.create_turn()
        execution = await executor.execution()
        execution.call_tool()
        await until(lambda: executor.acknowledged.get(execution.id) == 1)
        assert set() == executor.hurried

        execution.end()
        await service.ended()

        assert {execution.id: 2} == executor.acknowledged
        assert {execution.id} == executor.hurried

    async def test_turns_run_one_after_another(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """A queued turn starts when the one before has its outcome, in the order created."""
        for number in range(4):
            await service.create_turn(f"t{number}")
        states = [(await service.get_turn(f"t{number}")).state for number in range(4)]
        assert [Turn.STATE_RUNNING] + [Turn.STATE_QUEUED] * 3 == states
        assert 3 == service.metric("moorline_turns_queued")
        assert 1 == len(executor.created)

        for number in range(4):
            (await executor.execution(number + 1)).end()
            await service.ended(f"t{number}")

        prompts = [event.turn_id for event in await service.list_events()]
        assert ["t0", "t1", "t2", "t3", "t0", "t1", "t2", "t3"] == prompts
        assert 0 == service.metric("moorline_turns_queued")

    async def test_kinds_that_are_ours_are_not_taken_from_an_executor(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """An executor cannot put words in the user's mouth, nor an unknown fact in the log."""
        await service.create_turn()
        execution = await executor.execution()
        item = transcript_pb2.Item(user_message=transcript_pb2.UserMessage(text="no"))
        execution.add(item)
        execution.add(transcript_pb2.Item())
        execution.end()

        await service.ended()

        assert ["user_message", "turn_outcome"] == await service.kinds()

    async def test_an_outcome_without_a_state_is_a_failure(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """A turn never stays open because an executor forgot to say how it ended."""
        executor.script = lambda execution: execution.end(Outcome.STATE_UNSPECIFIED)
        await service.create_turn()

        assert Turn.STATE_FAILED == (await service.ended()).state

    async def test_a_bug_ends_the_turn_and_not_the_agent(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """An exception inside becomes the turn's outcome; the next prompt works."""
        executor.failures["create"] = [ValueError("bug")]  # type: ignore[list-item]
        await service.create_turn("t1")

        turn = await service.ended("t1")

        assert errors_pb2.ERROR_REASON_INTERNAL == turn.error.reason
        executor.script = lambda execution: execution.end()
        await service.create_turn("t2")
        assert Turn.STATE_FINISHED == (await service.ended("t2")).state


class TestCreatingTheExecution:
    async def test_it_is_tried_again_while_the_executor_is_away(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """Calls that may not have arrived are repeated under the same id."""
        executor.failures["create"] = [unavailable(), unavailable()]
        executor.script = lambda execution: execution.end()
        await service.create_turn()

        assert Turn.STATE_FINISHED == (await service.ended()).state
        assert 1 == len(executor.created)
        assert 3 == executor.calls.count("create")

    @IMPATIENT
    async def test_after_a_while_the_turn_fails(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """An executor that stays away ends the turn with a reason to act on."""
        executor.failures["create"] = [unavailable() for _ in range(1000)]
        await service.create_turn()

        turn = await service.ended()

        assert Turn.STATE_FAILED == turn.state
        assert errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE == turn.error.reason

    async def test_a_refusal_ends_the_turn_at_once(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """A backend that is switched off is told, not waited for."""
        refusal = failure(errors_pb2.ERROR_REASON_BACKEND_UNAVAILABLE)
        executor.failures["create"] = [refusal]
        await service.create_turn()

        turn = await service.ended()

        assert Turn.STATE_FAILED == turn.state
        assert errors_pb2.ERROR_REASON_BACKEND_UNAVAILABLE == turn.error.reason
        assert turn.error == (await service.list_events())[-1].item.turn_outcome.error
        assert 1 == executor.calls.count("create")

    async def test_a_call_without_an_answer_is_not_repeated(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """What may exist is followed; it is the first attempt if it does."""
        executor.failures["after create"] = [failure(errors_pb2.ERROR_REASON_EXECUTION_LOST)]
        executor.script = lambda execution: execution.end()
        await service.create_turn()

        turn = await service.ended()

        assert (Turn.STATE_FINISHED, 1) == (turn.state, turn.attempt)
        assert 1 == executor.calls.count("create")

    async def test_an_outcome_that_overtakes_its_subscription_counts(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """Also when the call that subscribed failed in the end."""

        async def subscribe(execution_id: str, listener: Listener) -> FakeSubscription:
            execution = executor.executions[execution_id]
            execution.end()
            execution.replay(listener)
            raise not_found()

        executor.subscribe = subscribe  # type: ignore[method-assign]
        await service.create_turn()

        turn = await service.ended()

        assert (Turn.STATE_FINISHED, 1) == (turn.state, turn.attempt)
        assert 1 == len(executor.created)

    async def test_a_call_without_an_effect_is_another_attempt(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """It may have run and be gone, so the repetition is visible."""
        executor.failures["create"] = [failure(errors_pb2.ERROR_REASON_EXECUTION_LOST)]
        executor.script = lambda execution: execution.end()
        await service.create_turn()

        turn = await service.ended()

        assert (Turn.STATE_FINISHED, 2) == (turn.state, turn.attempt)
        assert ["user_message", "turn_attempt", "turn_outcome"] == await service.kinds()
