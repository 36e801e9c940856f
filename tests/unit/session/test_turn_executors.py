"""Tests of `services.session.turns`: two executors, of which one dies, leaves or comes back."""

from __future__ import annotations

import pytest

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import turns_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from tests.unit.session.fakes import FakeExecutor, FakeExecutors, FaultyStore, unavailable
from tests.unit.session.service import AGENT, Service, recorded_executor, until

Turn = turns_pb2.Turn

pytestmark = pytest.mark.usefixtures("both_willing")


class TestAnExecutorThatIsGone:
    async def test_another_one_gets_the_next_attempt(
        self,
        service: Service,
        executors: FakeExecutors,
        executor: FakeExecutor,
        other: FakeExecutor,
        store: FaultyStore,
    ) -> None:
        """The history says why, and the address is durable together with that."""
        await service.create_turn()
        execution = await executor.execution()
        execution.say("b1", "half")
        other.stuck = {"create"}

        executors.lose()
        await until(lambda: "create" in other.calls)
        assert "e2:1" == await recorded_executor(store, f"{AGENT}/turns/t1")
        other.stuck = set()
        await service.cancel_turn()
        await service.ended()

        attempt = (await service.list_events())[1].item.turn_attempt
        assert 2 == attempt.attempt
        assert errors_pb2.ERROR_REASON_EXECUTION_LOST == attempt.error.reason
        assert "could not be reached" in attempt.error.message

    async def test_it_is_told_to_stop_what_was_given_up(
        self,
        service: Service,
        executors: FakeExecutors,
        executor: FakeExecutor,
        other: FakeExecutor,
    ) -> None:
        """When it can be reached again; nobody hears of that execution any more."""
        await service.create_turn()
        execution = await executor.execution()
        listener = execution.listeners[0]
        executors.lose()
        second = await other.execution()
        assert [execution.id] == executor.abandoned

        execution.listeners.append(listener)
        execution.call_tool("late")
        execution.say("b1", "late")
        second.end()
        turn = await service.ended()

        assert (Turn.STATE_FINISHED, 2) == (turn.state, turn.attempt)
        assert ["user_message", "turn_attempt", "turn_outcome"] == await service.kinds()

    async def test_a_turn_whose_tool_was_called_is_lost(
        self,
        service: Service,
        executors: FakeExecutors,
        executor: FakeExecutor,
        other: FakeExecutor,
    ) -> None:
        """And the next one runs elsewhere, while the old execution is told to stop."""
        other.script = lambda execution: execution.end()
        await service.create_turn("t1")
        await service.create_turn("t2")
        execution = await executor.execution()
        execution.call_tool()

        executors.lose()

        lost = await service.ended("t1")
        assert (Turn.STATE_LOST, 1) == (lost.state, lost.attempt)
        assert "could not be reached" in lost.error.message
        assert Turn.STATE_FINISHED == (await service.ended("t2")).state
        assert [execution.id] == executor.abandoned
        assert 1 == len(other.created)

    async def test_it_is_preferred_again_once_it_has_restarted(
        self, service: Service, executor: FakeExecutor, other: FakeExecutor
    ) -> None:
        """The agent's files are there."""
        await service.create_turn()
        await executor.execution()

        executor.forget()
        (await executor.execution(2)).end()
        await service.ended()

        attempt = (await service.list_events())[1].item.turn_attempt
        assert "restarted" in attempt.error.message
        assert [] == other.created

    async def test_what_it_has_forgotten_may_have_been_a_tool(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """A position that is not in its book any more says that nobody will hear the rest."""
        await service.create_turn()
        execution = await executor.execution()

        execution.listeners[0].end(Failure(errors_pb2.ERROR_REASON_SEQUENCE_UNKNOWN, "forgotten"))

        turn = await service.ended()
        assert Turn.STATE_LOST == turn.state
        assert "forgotten" in turn.error.message
        assert [execution.id] == executor.abandoned


class TestAcknowledging:
    async def test_each_executor_hears_what_is_its_own(
        self,
        service: Service,
        executors: FakeExecutors,
        executor: FakeExecutor,
        other: FakeExecutor,
    ) -> None:
        """Numbers of one execution mean nothing at another executor."""
        await service.create_agent("a2")
        await service.create_turn()
        first = await executor.execution()
        executors.unwilling = {"e1:1"}
        await service.create_turn(agent="users/ada/agents/a2")
        second = await other.execution()
        first.call_tool("c1")
        first.call_tool("c2")
        second.call_tool("c3")

        await until(lambda: executor.acknowledged == {first.id: 2})
        await until(lambda: other.acknowledged == {second.id: 1})

    async def test_what_becomes_durable_late_is_told_to_the_executor_that_said_it(
        self,
        service: Service,
        executors: FakeExecutors,
        executor: FakeExecutor,
        other: FakeExecutor,
        store: FaultyStore,
    ) -> None:
        """Although the turn has moved on meanwhile."""
        await service.create_turn()
        first = await executor.execution()
        store.held.clear()
        first.add(_thought())
        executors.lose()
        agent = await service.live()
        await until(lambda: agent.unfinished()[0].attempt == 2)
        store.held.set()
        second = await other.execution()
        second.add(_thought())

        await until(lambda: executor.acknowledged == {first.id: 1})
        await until(lambda: other.acknowledged == {second.id: 1})


class TestDrainingAndComingBack:
    async def test_a_turn_goes_on_where_it_runs_and_the_next_one_elsewhere(
        self,
        service: Service,
        executors: FakeExecutors,
        executor: FakeExecutor,
        other: FakeExecutor,
    ) -> None:
        """An executor that shuts down refuses what is new only."""
        await service.create_turn("t1")
        await service.create_turn("t2")
        execution = await executor.execution()

        def refuse() -> Failure:
            executors.unwilling = {"e1:1"}
            return Failure(errors_pb2.ERROR_REASON_DRAINING, "leaving")

        executor.refuse = refuse
        other.script = lambda execution: execution.end()
        execution.call_tool()
        execution.end(conversation="talk")

        first, second = await service.ended("t1"), await service.ended("t2")
        assert (Turn.STATE_FINISHED, 1) == (first.state, first.attempt)
        assert (Turn.STATE_FINISHED, 1) == (second.state, second.attempt)
        assert "talk" == other.last.asked.resume_from
        assert executor.last.asked.workspace == other.last.asked.workspace

    async def test_cancelling_and_answering_reach_the_executor_that_has_the_turn(
        self,
        service: Service,
        executors: FakeExecutors,
        executor: FakeExecutor,
        other: FakeExecutor,
    ) -> None:
        """However often the other one would be chosen."""
        executors.unwilling = {"e1:1"}
        await service.create_turn()
        execution = await other.execution()
        executors.unwilling = {"e2:1"}
        execution.ask("p1")
        await until(lambda: service.metric("moorline_permission_requests_pending") == 1)

        await service.resolve("p1")
        await until(lambda: len(execution.decisions) == 1)
        await service.cancel_turn()
        await service.ended()

        assert 1 == execution.cancellations
        assert [] == executor.calls


class TestDeleting:
    async def test_the_workspace_is_deleted_everywhere(
        self,
        service: Service,
        executors: FakeExecutors,
        executor: FakeExecutor,
        other: FakeExecutor,
    ) -> None:
        """It may have been at each of them; one that is away is waited for."""
        other.failures["delete_workspace"] = [unavailable()]
        live = await service.live()
        workspace = live.record.workspace

        session = await service.sessions.session("ada")
        await session.delete("a1", etag="")

        await until(lambda: other.deleted == [workspace])
        assert {workspace} == set(executor.deleted)


def _thought() -> transcript_pb2.Item:
    thought = transcript_pb2.AgentThought(block_id="b9", text="hm")
    return transcript_pb2.Item(agent_thought=thought)
