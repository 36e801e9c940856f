"""Tests of what is counted as consumed: each outcome once, whatever fails when."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest

from moorline.executor.v1 import executions_pb2
from moorline.session.v1 import agents_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.session.store import Document
from tests.unit.session.fakes import (
    FakeExecutor,
    FaultyStore,
    store_unavailable,
)
from tests.unit.session.service import AGENT, CONTEXT, Service, until
from tests.unit.session.shared import Connection, Database, Pods

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


class Late(Connection):
    """A way to a database on which a commit of another process lands after the first look.

    Attributes:
        land: Lets it land.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.land: Callable[[], Awaitable[None]] | None = None

    async def read(self, collection: str, **bounds: Any) -> Sequence[Document]:
        """See `Store`."""
        found = await super().read(collection, **bounds)
        if self.land is not None and (bounds.get("after") or collection.endswith("/agents")):
            land, self.land = self.land, None
            await land()
        return found


async def test_what_ends_while_the_next_owner_looks_is_counted(
    pods: Pods, executor: FakeExecutor
) -> None:
    """The last commit of an owner that is gone may take its time."""
    store = Connection(pods.database)
    pod = await pods.start("one:1", store=store)
    await pod.create_agent()
    await pod.create_turn()
    execution = await executor.execution()
    store.gate.clear()
    execution.end(usage=usage(10))
    await until(lambda: store.waiting > 0)
    pods.pass_time(16)
    late = Late(pods.database)

    async def land() -> None:
        store.gate.set()
        await until(lambda: "work/ada~a1~t1" not in pods.database.documents)

    late.land = land

    second = await pods.start("two:2", store=late)

    assert 10 == (await second.month("2026-01")).total.cost_usd_micros
    assert late.land is None
