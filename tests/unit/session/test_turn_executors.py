"""Tests of `services.session.turns`: two executors, of which one dies, leaves or comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import turns_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from tests.unit.session.fakes import FakeExecutor, FakeExecutors, FaultyStore, unavailable
from tests.unit.session.service import AGENT, Service, until

Turn = turns_pb2.Turn
MakeService = Callable[[], Service]


@pytest.fixture(autouse=True)
def both(executors: FakeExecutors) -> None:
    """Both executors take what they are given."""
    executors.unwilling.clear()


def die(executors: FakeExecutors, address: str = "e1:1") -> None:
    """Let an executor be away for too long; what it runs goes on without us."""
    dead = executors.members[address]
    executors.unwilling.add(address)
    dead.away = True
    for execution in dead.executions.values():
        for listener in list(execution.listeners):
            execution.listeners.remove(listener)
            listener.end(unavailable())


async def recorded(store: FaultyStore, path: str) -> str:
    """Return the address that a document has."""
    document = await store.inner.get(path)
    assert document is not None
    return str(document.fields["executor"])


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

        die(executors)
        await until(lambda: "create" in other.calls)
        assert "e2:1" == await recorded(store, f"{AGENT}/turns/t1")
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
        die(executors)
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

        die(executors)

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
        die(executors)
        agent = await service.live()
        await until(lambda: agent.unfinished()[0].attempt == 2)
        store.held.set()
        second = await other.execution()
        second.add(_thought())

        await until(lambda: executor.acknowledged == {first.id: 1})
        await until(lambda: other.acknowledged == {second.id: 1})


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
                run = old_agent._run
                assert run is not None
                old_agent.log.fence()
                with pytest.raises(Failure):
                    await run.resolve(
                        transcript_pb2.PermissionDecision(permission_id="p1", allowed=True)
                    )
                executor.reconnect()
                await asyncio.sleep(0.05)

                assert [] == execution.decisions

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
        die(executors)
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
