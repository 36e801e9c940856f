"""Tests of what is counted as consumed by turns of processes that are killed: each outcome once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial

import pytest

from moorline.session.v1 import agents_pb2
from moorline.transcript.v1 import transcript_pb2
from services.session.limits import Limits
from services.session.store import Committed, Store, Write
from tests.unit.session.fakes import FakeExecution, FakeExecutor, FakeExecutors, FaultyStore
from tests.unit.session.service import AGENT, CONTEXT, Service, until
from tests.unit.session.shared import Connection, Database, Pod, Pods, reasons

OTHER = "users/ada/agents/a2"
DELETED = agents_pb2.DeleteAgentResponse()


class Mortal:
    """Makes commits until it is killed, before or after one of them takes effect.

    Attributes:
        killed: Set once it is; nothing is answered any more.
        commits: How many were made or asked for.
    """

    def __init__(self, *, last: int, answers: bool) -> None:
        self._last = last
        self._answers = answers
        self._running = 0
        self.killed = asyncio.Event()
        self.commits = 0

    async def buried(self) -> None:
        """Wait until it is dead: what it was writing just then is written, or never will be."""
        await self.killed.wait()
        await until(lambda: self._running == 0)

    async def commit(
        self, commit: Callable[[Sequence[Write]], Awaitable[Committed]], writes: Sequence[Write]
    ) -> Committed:
        """Commit, or be killed."""
        self.commits += 1
        if self.commits < self._last:
            self._running += 1
            try:
                return await commit(writes)
            finally:
                self._running -= 1
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
        request = agents_pb2.DeleteAgentRequest(name=OTHER)
        deleted = service.agents.DeleteAgent(request, CONTEXT)
        # Not found when the process before did, and could not say so.
        assert await reasons(deleted) in ([repr(DELETED)], ["RESOURCE_NOT_FOUND"])

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
        cost = 10 ** int(execution.asked.prompt.text)
        execution.end(usage=transcript_pb2.Usage(cost_usd_micros=cost), conversation="c")


TURNS = {1: AGENT, 2: AGENT, 3: OTHER, 4: AGENT}

TOTAL = 11110
"""What the four turns of the story cost, each a digit of it."""

KILLS = [(commit, answers) for commit in range(1, 13) for answers in (False, True)]


async def until_killed(story: Story, service: Service, mortal: Mortal) -> None:
    """Tell the story until the process is killed, or to its end."""
    telling = asyncio.ensure_future(story.tell(service))
    killed = asyncio.ensure_future(mortal.buried())
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
    limits = Limits(pace=timedelta(seconds=pace))
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
