"""Tests of what is counted as consumed: each outcome once, whatever fails when."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial

import pytest

from moorline.executor.v1 import executions_pb2
from moorline.session.v1 import agents_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.session.limits import Limits
from services.session.store import Committed, Store, Write
from tests.unit.session.fakes import (
    FakeExecution,
    FakeExecutor,
    FakeExecutors,
    FaultyStore,
    store_unavailable,
)
from tests.unit.session.service import AGENT, CONTEXT, Service, until
from tests.unit.session.shared import Connection, Database, Pod, Pods, reasons

Outcome = transcript_pb2.TurnOutcome
OTHER = "users/ada/agents/a2"


def usage(cost: int) -> transcript_pb2.Usage:
    """Return a usage of which every number tells its cost."""
    return transcript_pb2.Usage(
        input_tokens=cost + 1,
        output_tokens=cost + 2,
        cache_read_tokens=cost + 3,
        cache_write_tokens=cost + 4,
        cost_usd_micros=cost,
    )


def progress(cost: int = 0, position: int = 0) -> executions_pb2.ExecutionUpdate:
    """Return an executor's news of where an execution stands."""
    return executions_pb2.ExecutionUpdate(
        progress=executions_pb2.ExecutionProgress(
            queue_position=position, usage=usage(cost) if cost else None
        )
    )


async def delete(service: Service, name: str = AGENT) -> None:
    """Delete an agent."""
    await service.agents.DeleteAgent(agents_pb2.DeleteAgentRequest(name=name), CONTEXT)


class TestTurns:
    """What ends with an outcome is in the agent's total and in the user's month."""

    async def test_an_agent_tells_the_sum_of_its_turns(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """Every number of it, and how many turns there were."""
        for number, cost in enumerate((10, 20), 1):
            await service.create_turn(f"t{number}")
            (await executor.execution(number)).end(usage=usage(cost))
            await service.ended(f"t{number}")

        total = agents_pb2.UsageTotal(
            input_tokens=32,
            output_tokens=34,
            cache_read_tokens=36,
            cache_write_tokens=38,
            cost_usd_micros=30,
            turns=2,
        )
        assert total == (await service.get_agent()).usage
        assert total == (await service.month()).total

    async def test_turns_without_usage_are_counted(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """Also one that was cancelled while it waited."""
        await service.create_turn("t1")
        await service.create_turn("t2")
        await service.cancel_turn("t2")
        (await executor.execution()).end()
        await service.ended()

        assert agents_pb2.UsageTotal(turns=2) == (await service.get_agent()).usage

    async def test_a_lost_turn_counts_what_was_heard_of_it(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """It was consumed, though nobody will tell its sum."""
        await service.create_turn()
        execution = await executor.execution()
        execution.call_tool()
        execution.send(progress(40))
        executor.forget()

        assert 40 == (await service.ended()).usage.cost_usd_micros
        assert 40 == (await service.month()).total.cost_usd_micros

    async def test_attempts_count_together(self, service: Service, executor: FakeExecutor) -> None:
        """What the first had consumed is part of the turn's usage."""
        await service.create_turn()
        (await executor.execution()).send(progress(40))
        executor.forget()
        second = await executor.execution(2)
        assert 40 == (await service.get_agent()).turn_usage.cost_usd_micros
        assert not (await service.get_turn()).HasField("usage")

        second.end(usage=usage(2))

        assert 42 == (await service.ended()).usage.cost_usd_micros
        assert 42 == (await service.get_agent()).usage.cost_usd_micros

    async def test_earlier_attempts_are_known_to_the_next_process(
        self, make_service: Callable[[], Service], executor: FakeExecutor
    ) -> None:
        """They are in the turn's document."""
        async with make_service() as service:
            await service.create_agent()
            await service.create_turn()
            (await executor.execution()).send(progress(40))
            executor.forget()
            execution = await executor.execution(2)
        async with make_service() as service:
            await until(lambda: bool(execution.listeners))
            execution.end(usage=usage(2))

            assert 42 == (await service.ended()).usage.cost_usd_micros


class TestRunning:
    """Where the running turn stands is shown and never stored."""

    async def test_progress_is_part_of_the_agent(
        self, service: Service, executor: FakeExecutor, store: FaultyStore
    ) -> None:
        """Its place in the queue, then what it has consumed; nothing once it has ended."""
        await service.create_turn()
        execution = await executor.execution()
        written = len(store.commits)

        execution.send(progress(position=3))
        assert 3 == (await service.get_agent()).queue_position
        execution.send(progress(7))
        agent = await service.get_agent()
        assert (0, 7) == (agent.queue_position, agent.turn_usage.cost_usd_micros)
        assert written == len(store.commits)

        execution.end(usage=usage(8))
        await service.ended()
        agent = await service.get_agent()
        assert not agent.HasField("turn_usage")
        assert (0, 8) == (agent.queue_position, agent.usage.cost_usd_micros)

    async def test_the_same_again_is_no_news(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """Who follows the list is not woken for nothing."""
        await service.create_turn()
        execution = await executor.execution()
        session = await service.sessions.session("ada")
        heard: list[str] = []

        class Follower:
            def changed(self, agent_id: str) -> None:
                heard.append(agent_id)

            def end(self, failure: Failure) -> None:
                raise failure

        session.roster.follow(Follower())
        for _ in range(3):
            execution.send(progress(7))

        assert ["a1"] == heard


class TestDeletion:
    """A deleted agent's turns stay in the user's months."""

    async def test_the_month_keeps_them(
        self, service: Service, executor: FakeExecutor, make_service: Callable[[], Service]
    ) -> None:
        """In this process and in the next; the agent made anew begins with nothing."""
        await service.create_turn()
        (await executor.execution()).end(usage=usage(10))
        await service.ended()

        await delete(service)
        await service.create_agent()

        assert 0 == (await service.get_agent()).usage.turns
        assert 10 == (await service.month()).total.cost_usd_micros
        async with make_service() as other:
            assert 10 == (await other.month()).total.cost_usd_micros

    async def test_several_are_added_up(self, service: Service, executor: FakeExecutor) -> None:
        """All in one document."""
        for number, cost in enumerate((10, 20), 1):
            await service.create_turn(f"t{number}")
            (await executor.execution(number)).end(usage=usage(cost))
            await service.ended(f"t{number}")
            await delete(service)
            await service.create_agent()

        month = await service.month()
        assert (30, 2) == (month.total.cost_usd_micros, month.total.turns)

    async def test_a_turn_that_runs_counts_as_far_as_it_was_heard_of(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """Its outcome will never come."""
        await service.create_turn()
        (await executor.execution()).send(progress(40))

        await delete(service)

        assert 40 == (await service.month()).total.cost_usd_micros

    @pytest.mark.parametrize("answers", ["before", "after"])
    async def test_a_deletion_that_may_have_happened_counts_once(
        self, service: Service, executor: FakeExecutor, store: FaultyStore, answers: str
    ) -> None:
        """The list has the agent still when the document of deleted agents has it too."""
        await service.create_turn()
        (await executor.execution()).end(usage=usage(10))
        await service.ended()
        getattr(store, answers).append(store_unavailable())

        with suppress(Failure):
            await delete(service)

        assert 10 == (await service.month()).total.cost_usd_micros
        session = await service.sessions.session("ada")
        await until(lambda: answers == "before" or "a1" not in session.roster.agents)
        assert 10 == (await service.month()).total.cost_usd_micros


class Mortal:
    """Makes commits until it is killed, before or after one of them takes effect.

    Attributes:
        killed: Set once it is; nothing is answered any more.
        commits: How many were made or asked for.
    """

    def __init__(self, *, last: int, answers: bool) -> None:
        self._last = last
        self._answers = answers
        self.killed = asyncio.Event()
        self.commits = 0

    async def commit(
        self, commit: Callable[[Sequence[Write]], Awaitable[Committed]], writes: Sequence[Write]
    ) -> Committed:
        """Commit, or be killed."""
        self.commits += 1
        if self.commits < self._last:
            return await commit(writes)
        if self.commits == self._last and self._answers:
            await commit(writes)
        self.killed.set()
        await asyncio.Event().wait()
        raise AssertionError


class MortalStore(FaultyStore):
    """A store of a process that is killed."""

    def __init__(self, inner: Store, mortal: Mortal) -> None:
        super().__init__(inner)
        self._mortal = mortal

    async def commit(self, writes: Sequence[Write]) -> Committed:
        """See `Store`."""
        return await self._mortal.commit(super().commit, writes)


class MortalConnection(Connection):
    """A way to a shared database of a process that is killed."""

    def __init__(self, database: Database, mortal: Mortal) -> None:
        super().__init__(database)
        self._mortal = mortal

    async def commit(self, writes: Sequence[Write]) -> Committed:
        """See `Store`."""
        return await self._mortal.commit(super().commit, writes)


class Story:
    """What a client does, each step until it has succeeded; a turn consumes by its number."""

    def __init__(self, executor: FakeExecutor) -> None:
        self._done: set[str] = set()
        executor.script = self._run

    async def tell(self, service: Service) -> None:
        """Go on with the first step that has not succeeded."""
        await self._step("a1", lambda: service.create_agent("a1"))
        await self._step("a2", lambda: service.create_agent("a2"))
        for number, agent in TURNS.items():
            create = partial(service.create_turn, f"t{number}", str(number), agent)
            await self._step(f"t{number}", create)
        for number, agent in TURNS.items():
            over = partial(self._over, service, f"t{number}", agent)
            await self._step(f"end{number}", partial(until, over))
        await self._step("delete", lambda: self._delete(service))

    async def _over(self, service: Service, turn: str, agent: str) -> bool:
        return (await service.get_turn(turn, agent)).HasField("end_time")

    async def _delete(self, service: Service) -> None:
        # Not found when the process before did, and could not say so.
        assert await reasons(delete(service, OTHER)) in (["None"], ["RESOURCE_NOT_FOUND"])

    async def _step(self, name: str, step: Callable[[], Awaitable[object]]) -> None:
        if name not in self._done:
            await step()
            self._done.add(name)

    def _run(self, execution: FakeExecution) -> None:
        if execution.events:
            # It is followed again.
            return
        execution.say("b", "well")
        execution.complete("b")
        execution.end(usage=usage(10 ** int(execution.asked.prompt.text)), conversation="c")


TURNS = {1: AGENT, 2: AGENT, 3: OTHER, 4: AGENT}

TOTAL = 11110
"""What the four turns of the story cost, each a digit of it."""

KILLS = [(commit, answers) for commit in range(1, 13) for answers in (False, True)]


async def until_killed(story: Story, service: Service, mortal: Mortal) -> None:
    """Tell the story until the process is killed, or to its end."""
    telling = asyncio.ensure_future(story.tell(service))
    killed = asyncio.ensure_future(mortal.killed.wait())
    await asyncio.wait([telling, killed], return_when=asyncio.FIRST_COMPLETED)
    for task in (telling, killed):
        # A call that is answered in that very moment passes a cancellation over.
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=0.1)
    if not telling.cancelled():
        await telling


@pytest.mark.parametrize(("commit", "answers"), KILLS)
async def test_a_process_killed_at_any_commit_counts_each_outcome_once(
    store: FaultyStore,
    executor: FakeExecutor,
    executors: FakeExecutors,
    limits: Limits,
    commit: int,
    answers: bool,
) -> None:
    """The next one goes on with its file, or database."""
    mortal, story = Mortal(last=commit, answers=answers), Story(executor)
    async with Service(
        store=MortalStore(store, mortal), executors=executors, limits=limits
    ) as service:
        await until_killed(story, service, mortal)

    async with Service(store=store, executors=executors, limits=limits) as service:
        await story.tell(service)

        month = await service.month()
        assert (TOTAL, 4) == (month.total.cost_usd_micros, month.total.turns)


@pytest.mark.parametrize("pace", [0, 3600])
@pytest.mark.parametrize(("commit", "answers"), KILLS)
async def test_an_owner_killed_at_any_commit_counts_each_outcome_once(
    executor: FakeExecutor, executors: FakeExecutors, commit: int, answers: bool, pace: int
) -> None:
    """The next owner finds it in agents' documents or, as they are written late, in logs."""
    limits = Limits(unreachable=timedelta(seconds=0.3), pace=timedelta(seconds=pace))
    mortal, story = Mortal(last=commit + 1, answers=answers), Story(executor)
    async with Pods(executors=executors, limits=limits) as pods:
        killed = MortalConnection(pods.database, mortal)
        async with Pod(
            database=pods.database,
            executors=executors,
            limits=limits,
            address="one:1",
            store=killed,
        ) as pod:
            await until_killed(story, pod, mortal)
        pods.pass_time(16)
        pod = await pods.start("two:2")
        await story.tell(pod)

        month = await pod.month("2026-01")
        assert (TOTAL, 4) == (month.total.cost_usd_micros, month.total.turns)
        pods.pass_time(16)
        third = await pods.start("three:3")
        assert TOTAL == (await third.month("2026-01")).total.cost_usd_micros
