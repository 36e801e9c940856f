"""Tests of background turns: who hears of what an agent has left in the background."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import agents_pb2, turns_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from tests.unit.session.fakes import FakeExecution, FakeExecutor, FakeExecutors, FaultyStore
from tests.unit.session.service import AGENT, CONTEXT, IMPATIENT, Service, until
from tests.unit.session.shared import Pod, Pods

Turn = turns_pb2.Turn
Outcome = transcript_pb2.TurnOutcome
MakeService = Callable[[], Service]


async def leave_something(service: Service, executor: FakeExecutor) -> None:
    """Let Ada's first turn end with something in the background."""
    await service.create_turn()
    (await executor.execution(1)).end(background_tasks=1)
    await service.ended()


async def turns(service: Service) -> list[turns_pb2.Turn]:
    """Return the turns of Ada's agent, oldest first."""
    response = await service.turns.ListTurns(turns_pb2.ListTurnsRequest(parent=AGENT), CONTEXT)
    return list(response.turns)[::-1]


async def the_background_turn(service: Service) -> turns_pb2.Turn:
    """Return the only turn that nobody asked for."""
    [turn] = [turn for turn in await turns(service) if turn.background]
    return turn


async def over(service: Service, turn: turns_pb2.Turn) -> turns_pb2.Turn:
    """Return a turn once it has ended."""
    return await service.ended(turn.name.rpartition("/")[2])


@pytest.fixture
async def attended(service: Service, executor: FakeExecutor) -> FakeExecution:
    """The execution of the turn that follows one which has left something."""
    await leave_something(service, executor)
    return await executor.execution(2)


class TestBeginning:
    async def test_what_is_left_in_the_background_is_attended(
        self, service: Service, executor: FakeExecutor, attended: FakeExecution
    ) -> None:
        """By a turn without a prompt, shown as what it is, at the executor that has it."""
        turn = await the_background_turn(service)

        assert Turn.STATE_RUNNING == turn.state
        assert not turn.HasField("prompt")
        assert turn.name.startswith(f"{AGENT}/turns/background-")
        assert ["user_message", "turn_outcome", "background_work"] == await service.kinds()
        assert attended.asked.background
        assert not attended.asked.HasField("prompt")
        assert (await service.get_agent()).state == agents_pb2.Agent.STATE_WORKING

    async def test_it_is_recorded_with_the_outcome(
        self, service: Service, executor: FakeExecutor, store: FaultyStore
    ) -> None:
        """In one commit: no crash comes between."""
        await service.create_turn()
        execution = await executor.execution()
        store.held.clear()
        commits = len(store.commits)
        execution.end(background_tasks=2)
        await until(lambda: len(store.commits) > commits)

        paths = [write.path for write in store.commits[commits]]
        store.held.set()

        assert [True] == ["/turns/background-" in path for path in paths if "/turns/b" in path]
        assert 1 == sum(path.startswith("work/ada~a1~background-") for path in paths)

    async def test_nothing_left_is_nothing_to_attend(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """Most turns."""
        executor.script = lambda execution: execution.end()
        await service.create_turn()
        await service.ended()

        assert 1 == len(await turns(service))
        assert (await service.get_agent()).state == agents_pb2.Agent.STATE_IDLE

    async def test_who_waits_comes_first(self, service: Service, executor: FakeExecutor) -> None:
        """The turn after it tells again what is in the background."""
        await service.create_turn("t1")
        first = await executor.execution(1)
        await service.create_turn("t2")
        first.end(background_tasks=1)
        second = await executor.execution(2)

        assert "hello" == second.asked.prompt.text
        assert 2 == len(await turns(service))

        second.end(background_tasks=1)
        assert (await executor.execution(3)).asked.background

    async def test_the_next_owner_takes_it_up(
        self, make_service: MakeService, executor: FakeExecutor, store: FaultyStore
    ) -> None:
        """It is in the list of work like every turn, from the outcome on."""
        async with make_service() as service:
            await service.create_agent()
            await leave_something(service, executor)
            await executor.execution(2)

        async with make_service() as service:
            await until(lambda: len(executor.last.positions) == 2)
            executor.last.call_tool()
            executor.last.end()
            turn = await the_background_turn(service)
            assert Turn.STATE_FINISHED == (await over(service, turn)).state
            assert "tool_call" in await service.kinds()


class TestEnding:
    async def test_nothing_follows_it(
        self, service: Service, executor: FakeExecutor, attended: FakeExecution
    ) -> None:
        """Even if something is left: a server that runs for days is attended once."""
        attended.end(background_tasks=1)
        turn = await over(service, await the_background_turn(service))

        assert Turn.STATE_FINISHED == turn.state
        assert 2 == len(await turns(service))
        assert (await service.get_agent()).state == agents_pb2.Agent.STATE_IDLE

    async def test_it_can_fail(self, service: Service, attended: FakeExecution) -> None:
        """The time limit ends what is in the background, for example, which is to be told."""
        late = errors_pb2.Error(reason=errors_pb2.ERROR_REASON_TURN_TIMEOUT)
        attended.end(Outcome.STATE_FAILED, error=late)

        turn = await over(service, await the_background_turn(service))

        assert Turn.STATE_FAILED == turn.state

    async def test_a_user_can_cancel_it(
        self, service: Service, executor: FakeExecutor, attended: FakeExecution
    ) -> None:
        """Whatever the executor calls that end."""
        executor.cancels = False
        turn = await the_background_turn(service)
        await service.cancel_turn(turn.name.rpartition("/")[2])
        await until(lambda: attended.cancellations == 1)
        attended.end(background_tasks=1)

        assert Turn.STATE_CANCELLED == (await over(service, turn)).state
        assert 2 == len(await turns(service))

    async def test_it_is_not_tried_again(
        self, service: Service, executor: FakeExecutor, attended: FakeExecution
    ) -> None:
        """What an executor had in the background is gone with it."""
        executor.forget()
        turn = await over(service, await the_background_turn(service))

        assert (Turn.STATE_FAILED, 1) == (turn.state, turn.attempt)
        assert errors_pb2.ERROR_REASON_EXECUTION_LOST == turn.error.reason


class TestMakingWay:
    async def test_a_prompt_ends_it(
        self, service: Service, executor: FakeExecutor, attended: FakeExecution
    ) -> None:
        """As finished: nobody has cancelled anything. The prompt runs at once after it."""
        await service.create_turn("t2", "news?")
        turn = await over(service, await the_background_turn(service))

        assert Turn.STATE_FINISHED == turn.state
        assert 1 == attended.cancellations
        assert "news?" == (await executor.execution(3)).asked.prompt.text

    async def test_it_counts_for_no_limit(
        self, service: Service, executor: FakeExecutor, attended: FakeExecution
    ) -> None:
        """As many prompts may wait as else."""
        executor.cancels = False
        limit = service.environment.limits.queued_turns
        for number in range(limit):
            await service.create_turn(f"q{number}")
        with pytest.raises(Failure) as caught:
            await service.create_turn("more")

        assert errors_pb2.ERROR_REASON_QUEUE_FULL == caught.value.reason
        assert limit == len((await service.get_agent()).queued_turns)
        assert 1 == attended.cancellations

    async def test_one_that_has_not_begun_ends_too(
        self, service: Service, executor: FakeExecutor, store: FaultyStore
    ) -> None:
        """The prompt came while the outcome before was on its way to the store."""
        await service.create_turn("t1")
        execution = await executor.execution(1)
        store.held.clear()
        execution.end(background_tasks=1)
        agent = await service.live()
        await until(lambda: len(agent.unfinished()) == 2)
        assert [] == list(agent.message().queued_turns)
        creating = service.tasks.spawn(service.create_turn("t2"), name="create")
        await until(lambda: agent.knows("t2"))
        store.held.set()
        await creating

        second = await executor.execution(2)
        turn = await over(service, await the_background_turn(service))

        assert "hello" == second.asked.prompt.text
        assert Turn.STATE_FINISHED == turn.state

    async def test_one_whose_execution_is_being_created_ends_too(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """The call is broken off."""
        await service.create_turn("t1")
        execution = await executor.execution(1)
        executor.stuck = {"create"}
        execution.end(background_tasks=1)
        await until(lambda: executor.calls.count("create") == 2)
        await service.create_turn("t2")
        executor.stuck = set()

        turn = await over(service, await the_background_turn(service))

        assert Turn.STATE_FINISHED == turn.state
        assert "hello" == (await executor.execution(2)).asked.prompt.text

    async def test_one_that_was_recorded_only_ends_too(
        self, service: Service, executor: FakeExecutor, store: FaultyStore
    ) -> None:
        """It runs, as far as the store knows, and was asked for nowhere."""
        await service.create_turn("t1")
        execution = await executor.execution(1)
        agent = await service.live()
        execution.end(background_tasks=1)
        await until(lambda: agent.running is False and agent.unfinished() != [])
        store.held.clear()
        await until(lambda: bool(agent.unfinished()) and agent.unfinished()[0].attempt == 1)
        creating = service.tasks.spawn(service.create_turn("t2"), name="create")
        await until(lambda: agent.knows("t2"))
        store.held.set()
        await creating

        turn = await over(service, await the_background_turn(service))

        assert Turn.STATE_FINISHED == turn.state

    async def test_one_that_is_lost_while_it_gives_way_has_finished(
        self, service: Service, executor: FakeExecutor, attended: FakeExecution
    ) -> None:
        """Nothing is owed to anybody."""
        executor.cancels = False
        await service.create_turn("t2")
        await until(lambda: attended.cancellations == 1)
        executor.forget()

        turn = await over(service, await the_background_turn(service))

        assert Turn.STATE_FINISHED == turn.state

    async def test_the_next_owner_lets_it_give_way(
        self, make_service: MakeService, executor: FakeExecutor
    ) -> None:
        """The prompt that waits tells."""
        executor.cancels = False
        async with make_service() as service:
            await service.create_agent()
            await leave_something(service, executor)
            attended = await executor.execution(2)
            await service.create_turn("t2")
        cancelled = attended.cancellations
        executor.cancels = True

        async with make_service() as service:
            await until(lambda: attended.cancellations > cancelled)
            turn = await over(service, await the_background_turn(service))
            assert Turn.STATE_FINISHED == turn.state
            await executor.execution(3)

    async def test_giving_way_twice_is_once(
        self, service: Service, executor: FakeExecutor, attended: FakeExecution
    ) -> None:
        """Two prompts come before it has ended."""
        executor.cancels = False
        await service.create_turn("t2")
        await service.create_turn("t3")
        await until(lambda: attended.cancellations > 0)

        executor.reconnect()
        await until(lambda: attended.cancellations == 2)
        attended.end()
        turn = await over(service, await the_background_turn(service))

        assert Turn.STATE_FINISHED == turn.state

    async def test_it_keeps_nobody_from_being_served_elsewhere(
        self, pods: Pods, first: Pod, second: Pod, executor: FakeExecutor
    ) -> None:
        """The next owner goes on with it at once."""
        await leave_something(first, executor)
        attended = await executor.execution(2)
        first.sessions.release("ada")
        await until(lambda: bool(pods.database.documents["users/ada"][0]["released"]))
        await second.sweeper.sweep()
        await until(lambda: len(attended.positions) == 2)
        assert 0 == attended.cancellations

        attended.end()
        turn = await over(second, await the_background_turn(second))

        assert Turn.STATE_FINISHED == turn.state


class TestPlace:
    @IMPATIENT
    async def test_it_runs_nowhere_but_where_the_work_is(
        self,
        service: Service,
        executors: FakeExecutors,
        executor: FakeExecutor,
        other: FakeExecutor,
    ) -> None:
        """An executor that stays away has taken the work with it; the agent stays there."""
        await service.create_turn()
        execution = await executor.execution()
        executors.unwilling = {"e1:1"}
        execution.end(background_tasks=1)
        await service.ended()

        turn = await over(service, await the_background_turn(service))

        assert Turn.STATE_FAILED == turn.state
        assert errors_pb2.ERROR_REASON_EXECUTION_LOST == turn.error.reason
        assert [] == other.created
        assert "e1:1" == (await service.live()).record.executor
