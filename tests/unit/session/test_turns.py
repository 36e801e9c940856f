"""Tests of `services.session.turns`: the life of a turn, whatever dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import executions_pb2
from moorline.session.v1 import agents_pb2, turns_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.session.limits import Limits
from tests.unit.session.fakes import FakeExecution, FakeExecutor, FaultyStore, unavailable
from tests.unit.session.service import Service, until

Turn = turns_pb2.Turn
Outcome = transcript_pb2.TurnOutcome
Decision = transcript_pb2.PermissionDecision
MakeService = Callable[[], Service]


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
        assert asked.workspace.startswith("workspaces/")
        assert "ada" not in asked.workspace

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


class TestCancelling:
    async def test_while_streaming(self, service: Service, executor: FakeExecutor) -> None:
        """The request is recorded, then the executor is told, and its outcome counts."""
        await service.create_turn()
        execution = await executor.execution()
        execution.say("b1", "half")

        await service.cancel_turn()

        assert Turn.STATE_CANCELLED == (await service.ended()).state
        assert 1 == execution.cancellations

    async def test_repeating_it_changes_nothing(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """The executor hears it once, also after the end."""
        executor.cancels = False
        await service.create_turn()
        execution = await executor.execution()

        await asyncio.gather(*(service.cancel_turn() for _ in range(5)))
        await until(lambda: execution.cancellations == 1)
        execution.end(Outcome.STATE_CANCELLED)
        await service.ended()
        turn = await service.cancel_turn()

        assert Turn.STATE_CANCELLED == turn.state
        assert 1 == execution.cancellations

    async def test_while_waiting(self, service: Service, executor: FakeExecutor) -> None:
        """A queued turn ends at once; the one that runs and the one after it go on."""
        for number in range(3):
            await service.create_turn(f"t{number}")
        await executor.execution()

        turn = await service.cancel_turn("t1")

        assert Turn.STATE_CANCELLED == turn.state
        assert Turn.STATE_CANCELLED == (await service.ended("t1")).state
        executor.last.end()
        await service.ended("t0")
        (await executor.execution(2)).end()
        assert Turn.STATE_FINISHED == (await service.ended("t2")).state
        assert 2 == len(executor.created)
        assert 1 == service.metric("moorline_turns_total", outcome="cancelled")

    async def test_before_the_execution_exists(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """A turn that cannot reach the executor is cancelled without it."""
        executor.stuck = {"create"}
        await service.create_turn()
        await until(lambda: "create" in executor.calls)

        await service.cancel_turn()

        assert Turn.STATE_CANCELLED == (await service.ended()).state

    async def test_between_recording_and_creating(
        self, service: Service, executor: FakeExecutor, store: FaultyStore
    ) -> None:
        """A turn cancelled before its prompt is durable never runs."""
        store.held.clear()
        creating = asyncio.ensure_future(service.create_turn())
        agent = await service.live()
        await until(lambda: bool(agent.unfinished()))
        cancelling = asyncio.ensure_future(service.cancel_turn())
        await asyncio.sleep(0)
        store.held.set()
        await asyncio.gather(creating, cancelling)

        assert Turn.STATE_CANCELLED == (await service.ended()).state
        assert [] == executor.created

    async def test_a_permission_that_is_open_is_refused_first(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """The log says that the end of the turn decided, then that it ended."""
        await service.create_turn()
        (await executor.execution()).ask()

        await service.cancel_turn()
        await service.ended()

        events = await service.list_events()
        kinds = ["user_message", "permission_request", "permission_decision", "turn_outcome"]
        assert kinds == await service.kinds()
        decision = events[2].item.permission_decision
        assert Decision.DECIDER_TURN_END == decision.decider
        assert not decision.allowed
        assert 0 == service.metric("moorline_permission_requests_pending")

    async def test_a_finish_that_came_first_counts(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """A turn that finished before it could stop is finished."""
        executor.cancels = False
        await service.create_turn()
        execution = await executor.execution()
        await service.cancel_turn()
        execution.end(Outcome.STATE_FINISHED)

        assert Turn.STATE_FINISHED == (await service.ended()).state

    async def test_it_is_repeated_while_the_executor_is_away(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """The executor hears it as soon as it can be reached."""
        executor.failures["cancel"] = [unavailable(), unavailable()]
        await service.create_turn()
        await executor.execution()

        await service.cancel_turn()

        assert Turn.STATE_CANCELLED == (await service.ended()).state

    async def test_a_cancelled_turn_that_is_lost_is_cancelled(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """What the user wanted has happened; it is not tried again."""
        executor.cancels = False
        await service.create_turn()
        execution = await executor.execution()
        execution.call_tool()
        await service.cancel_turn()

        executor.forget()

        assert Turn.STATE_CANCELLED == (await service.ended()).state
        assert 1 == len(executor.created)


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

    async def test_a_gap_in_the_events_counts_as_lost(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """An executor that skips a number has forgotten something."""
        await service.create_turn()
        first = await executor.execution()
        first.send(_event(5))

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
        return Limits(unreachable=timedelta(seconds=0.3), permission=timedelta(seconds=0.05))

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

    async def test_an_answer_in_time_stands(self, service: Service, executor: FakeExecutor) -> None:
        """The end of the wait changes nothing then."""
        await service.create_turn()
        execution = await executor.execution()
        execution.ask()
        await service.resolve()

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
            await asyncio.sleep(0)
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


def _delta(delta: transcript_pb2.MessageDelta) -> executions_pb2.ExecutionUpdate:
    return executions_pb2.ExecutionUpdate(delta=delta)


def _event(sequence: int) -> executions_pb2.ExecutionUpdate:
    event = executions_pb2.ExecutionEvent(sequence=sequence)
    event.item.tool_call.tool_call_id = "c"
    return executions_pb2.ExecutionUpdate(event=event)
