"""Tests of `services.session.late`, and of how few documents the log writes with it."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from moorline.transcript.v1.transcript_pb2 import Item, ToolResult
from services.session.history import History
from services.session.late import Late, LateDocument
from services.session.limits import Limits
from tests.unit.session.fakes import FakeExecutor, FaultyStore
from tests.unit.session.log_writing import NAME, Writer, message
from tests.unit.session.service import AGENT, until
from tests.unit.session.shared import Pod, Pods

LATE = Late({"a": 1}, {})


class TestLateDocument:
    async def test_without_a_pace_it_is_never_late(self) -> None:
        """That is for databases which do not mind."""
        document = LateDocument(pace=0, due=lambda: None)
        for _ in range(3):
            document.waiting = LATE
            assert LATE is document.take()

    async def test_it_is_due_once_it_may_be_written(self) -> None:
        """The first is written at once, the next one a pace later."""
        due = asyncio.Event()
        document = LateDocument(pace=0.02, due=due.set)
        document.waiting = LATE
        assert LATE is document.take()
        document.waiting = LATE
        assert document.take() is None
        assert document.take() is None

        await asyncio.wait_for(due.wait(), 1)

        assert LATE is document.take()
        assert document.take() is None

    async def test_a_hurry_lets_it_pass(self) -> None:
        """Before its process ends."""
        document = LateDocument(pace=10, due=lambda: None)
        document.written()
        document.waiting = LATE
        document.hurry()

        assert LATE is document.take()

    async def test_what_was_written_otherwise_is_not_due(self) -> None:
        """Nor is anything once it is closed."""
        due: list[None] = []
        document = LateDocument(pace=0.01, due=lambda: due.append(None))
        document.written()
        document.waiting = LATE
        document.take()
        document.written()
        await asyncio.sleep(0.02)
        document.waiting = LATE
        document.take()
        document.written()
        document.waiting = LATE
        document.take()
        document.close()
        await asyncio.sleep(0.02)

        assert [] == due


@pytest.fixture
def limits() -> Limits:
    """The limits of a database that counts writes."""
    return Limits(
        gather=timedelta(seconds=0.05),
        pace=timedelta(seconds=0.4),
    )


@pytest.fixture
async def pod(pods: Pods) -> Pod:
    """A process with an agent."""
    pod = await pods.start("one:1")
    await pod.create_agent()
    return pod


class TestWrites:
    async def test_the_agents_document_is_written_at_its_pace(
        self, pods: Pods, pod: Pod, executor: FakeExecutor
    ) -> None:
        """However many turns end, and the last of them counts."""
        for number in range(10):
            await pod.create_turn(f"t{number}")
            (await executor.execution(number + 1)).end(conversation=f"c{number}")
            await pod.ended(f"t{number}")
        assert pods.database.writes[AGENT] <= 3

        await until(lambda: pods.database.documents[AGENT][0]["conversation"] == "c9")

        assert 20 == pods.database.documents[AGENT][0]["head"]

    async def test_what_was_not_written_is_carried_to_the_next_process(
        self, pods: Pods, pod: Pod, executor: FakeExecutor
    ) -> None:
        """Else the agent would forget its last turn."""
        for number in range(3):
            await pod.create_turn(f"t{number}")
            (await executor.execution(number + 1)).end(conversation=f"c{number}")
            await pod.ended(f"t{number}")
        await pod.tasks.__aexit__(None, None, None)
        assert "c2" != pods.database.documents[AGENT][0]["conversation"]
        for _ in range(3):
            pod = await pods.start("one:1")
            assert "c2" == (await pod.live()).record.conversation
            await pod.tasks.__aexit__(None, None, None)

        pod = await pods.start("one:1")
        await pod.create_turn("t3")

        assert "c2" == (await executor.execution(4)).asked.resume_from
        await until(lambda: pods.database.documents[AGENT][0]["conversation"] == "c2")

    async def test_a_commit_tells_of_the_agent_what_its_own_appends_made_of_it(
        self, writer: Writer, store: FaultyStore, history: History
    ) -> None:
        """What is counted for an outcome is counted in the outcome's commit, not before."""
        writer.pace = timedelta(seconds=3600)
        log = await writer.open()
        await log.append("t1", [message("1")], late=Late({"n": 1}, {"n": 1}))
        store.held.clear()
        first = log.append("t1", [message("2")], late=Late({"n": 2}, {"n": 2}))
        await until(lambda: len(store.commits) == 2)
        second = log.append("t1", [message("3")], late=Late({"n": 3}, {"n": 3}))
        third = log.append("t1", [], documents={str(NAME): {"n": 4}})
        fourth = log.append("t1", [message("4")], late=Late({"n": 5}, {"n": 5}))
        store.held.set()
        await asyncio.gather(first, second, third, fourth)

        told = [segment.carried.get("agent") for segment in await history.segments(0)]
        assert [None, {"n": 2}, None] == told
        document = await store.get(str(NAME))
        assert document is not None
        assert {"n": 5} == document.fields

    async def test_a_drain_writes_what_was_late(
        self, pods: Pods, pod: Pod, executor: FakeExecutor
    ) -> None:
        """At once."""
        for number in range(2):
            await pod.create_turn(f"t{number}")
            (await executor.execution(number + 1)).end(conversation=f"c{number}")
            await pod.ended(f"t{number}")

        await pod.sessions.drain()

        assert "c1" == pods.database.documents[AGENT][0]["conversation"]

    async def test_a_turn_of_a_minute_with_ten_tools_costs_forty_writes_at_most(
        self, pods: Pods, pod: Pod, executor: FakeExecutor
    ) -> None:
        """A minute of renewals included; what comes together is written together."""
        await pod.live()
        before = pods.database.writes.total()
        await pod.create_turn()
        execution = await executor.execution()
        for number in range(10):
            execution.say(f"b{number}", "I look.")
            execution.complete(f"b{number}")
            execution.call_tool(f"t{number}")
            head = 1 + 2 * (number + 1) + number
            agent = await pod.live()
            await until(lambda agent=agent, head=head: agent.log.head == head)  # type: ignore[misc]
            execution.add(Item(tool_result=ToolResult(tool_call_id=f"t{number}")))
            await until(lambda agent=agent, head=head: agent.log.head == head + 1)  # type: ignore[misc]
        execution.say("end", "Done.")
        execution.complete("end")
        execution.end()
        await pod.ended()
        renewals = 60 / (0.4 * 15)

        assert pods.database.writes.total() - before + renewals <= 40
