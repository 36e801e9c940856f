"""Tests of transcripts in the life of turns: stored once, and brought where the agent runs next."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import agents_pb2, turns_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.session.limits import Limits
from services.session.records import transcript_path
from tests.unit.session.fakes import FakeExecutor, FakeExecutors, FaultyStore
from tests.unit.session.log_writing import NAME
from tests.unit.session.service import AGENT, CONTEXT, IMPATIENT, Service, until
from tests.unit.session.shared import Pod, Pods

Turn = turns_pb2.Turn
Outcome = transcript_pb2.TurnOutcome
MakeService = Callable[[], Service]


async def stored(service: Service) -> list[str]:
    """Return the entries of the main file of the newest conversation, as they are stored."""
    mirror = (await service.live()).mirror
    pieces = mirror.archive.pieces(mirror.conversation, first=mirror.first)
    return [
        entry
        async for piece in pieces
        for part in piece.parts
        for entry in part.entries
        if not part.file
    ]


async def run(
    service: Service, executor: FakeExecutor, turn_id: str, *entries: str, conversation: str = "c1"
) -> None:
    """Let a turn run to its end that adds entries."""
    count = len(executor.created)
    await service.create_turn(turn_id)
    execution = await executor.execution(count + 1)
    for entry in entries:
        execution.grow(entry, conversation=conversation)
    execution.end(conversation=conversation)
    await service.ended(turn_id)


class TestStoring:
    async def test_a_transcript_is_stored_and_acknowledged(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """Its parts are numbered with the items; nobody is shown them."""
        await service.create_turn()
        execution = await executor.execution()
        execution.grow("e1")
        execution.call_tool()
        execution.grow("e2", "e3")
        await until(lambda: executor.acknowledged.get(execution.id) == 3)

        assert ["e1", "e2", "e3"] == await stored(service)

        execution.end()
        await service.ended()
        assert ["user_message", "tool_call", "turn_outcome"] == await service.kinds()
        assert 4 == executor.acknowledged[execution.id]

    async def test_what_is_delivered_again_is_stored_once(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """After a break, and when an executor repeats itself."""
        await service.create_turn()
        execution = await executor.execution()
        execution.grow("e1")
        executor.reconnect()
        for listener in list(execution.listeners):
            execution.replay(listener)
        execution.grow("e2")
        execution.end()
        await service.ended()

        assert ["e1", "e2"] == await stored(service)

    async def test_the_next_owner_goes_on_after_what_is_stored(
        self, make_service: MakeService, executor: FakeExecutor
    ) -> None:
        """Where a part was the last that was stored, and much of it came alone."""
        async with make_service() as service:
            await service.create_agent()
            await service.create_turn()
            execution = await executor.execution()
            for number in range(40):
                execution.grow(f"e{number}")
                await until(lambda: executor.acknowledged.get(execution.id) == number + 1)  # noqa: B023
        execution.listeners.clear()
        execution.grow("e40")

        async with make_service() as service:
            await until(lambda: len(execution.positions) == 2)
            execution.end()
            await service.ended()
            assert [0, 40] == execution.positions
            assert [f"e{number}" for number in range(41)] == await stored(service)

    async def test_a_sleeper_adds_nothing(
        self, pods: Pods, first: Pod, second: Pod, executor: FakeExecutor
    ) -> None:
        """What it was about to store, and hears on, is stored by the next owner, once."""
        await first.create_turn()
        execution = await executor.execution()
        first.store.gate.clear()
        execution.grow("e1")
        await until(lambda: first.store.waiting == 1)
        pods.pass_time(16, first)
        await second.sweeper.sweep()
        await until(lambda: len(execution.listeners) == 2)
        execution.grow("e2")
        first.store.gate.set()
        execution.grow("e3")
        execution.end()
        await second.ended()

        assert ["e1", "e2", "e3"] == await stored(second)

    async def test_an_impossible_part_makes_the_rest_useless(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """No commit takes it; the turn goes on, and so does the log."""
        await service.create_turn()
        execution = await executor.execution()
        execution.grow("e1")
        execution.grow("x" * (2 << 20), last_entry="e2")
        execution.end()

        assert Turn.STATE_FINISHED == (await service.ended()).state
        assert "" == (await service.live()).mirror.conversation

    async def test_a_deleted_agents_transcript_goes_with_it(
        self, service: Service, executor: FakeExecutor, store: FaultyStore
    ) -> None:
        """However many pieces it has."""
        await service.create_turn()
        execution = await executor.execution()
        for number in range(45):
            execution.grow(f"e{number}")
            await until(lambda: executor.acknowledged.get(execution.id) == number + 1)  # noqa: B023
        execution.end()
        await service.ended()

        await service.agents.DeleteAgent(agents_pb2.DeleteAgentRequest(name=AGENT), CONTEXT)

        assert [] == await store.inner.read(transcript_path(NAME))


class TestGoingOn:
    async def test_the_newest_stored_entry_is_sent_along(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """So that an executor can tell whether it has the conversation."""
        await run(service, executor, "t1", "e1", "e2")
        assert ("", "") == (executor.last.asked.resume_from, executor.last.asked.last_entry)
        await run(service, executor, "t2")

        assert ("c1", "e2") == (executor.last.asked.resume_from, executor.last.asked.last_entry)

    async def test_a_lost_turn_leaves_its_conversation(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """Also the very first one, whose outcome nobody told."""
        await service.create_turn("t1")
        execution = await executor.execution()
        execution.grow("e1")
        execution.call_tool()
        executor.forget()
        assert Turn.STATE_LOST == (await service.ended("t1")).state
        await run(service, executor, "t2")

        assert ("c1", "e1") == (executor.last.asked.resume_from, executor.last.asked.last_entry)

    async def test_a_turn_that_is_tried_again_begins_where_it_began(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """A new conversation anew: the prompt is not in it twice. What was stored is cleared."""
        await service.create_turn("t1")
        (await executor.execution(1)).grow("e1", conversation="c1")
        executor.forget()
        again = await executor.execution(2)
        assert ("", "") == (again.asked.resume_from, again.asked.last_entry)
        again.grow("n1", conversation="c2")
        again.end(conversation="c2")
        await service.ended("t1")

        mirror = (await service.live()).mirror
        await until(lambda: not mirror.littered)
        assert [] == [piece async for piece in mirror.archive.pieces("c1", first=1)]
        assert ["n1"] == await stored(service)

    async def test_a_known_one_goes_on_with_what_it_has(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """What the lost attempt has written stays part of the conversation."""
        await run(service, executor, "t1", "e1")
        await service.create_turn("t2")
        (await executor.execution(2)).grow("e2")
        executor.forget()

        again = await executor.execution(3)

        assert ("c1", "e2") == (again.asked.resume_from, again.asked.last_entry)

    async def test_a_conversation_that_is_lost_is_not_gone_on_with(
        self, make_service: MakeService, executor: FakeExecutor
    ) -> None:
        """Neither by the next turn nor by the next owner, and it is cleared away."""
        gone = errors_pb2.Error(reason=errors_pb2.ERROR_REASON_CONVERSATION_LOST)
        async with make_service() as service:
            await service.create_agent()
            await run(service, executor, "t1", "e1")
            await service.create_turn("t2")
            (await executor.execution(2)).end(Outcome.STATE_FAILED, error=gone)
            await service.ended("t2")

        async with make_service() as service:
            await service.create_turn("t3")
            execution = await executor.execution(3)
            executor.forget()
            execution = await executor.execution(4)
            assert ("", "") == (execution.asked.resume_from, execution.asked.last_entry)
            execution.end(Outcome.STATE_FAILED)
            await service.ended("t3")
            agent = await service.live()
            assert "" == agent.record.conversation
            await until(lambda: not agent.mirror.littered)
            assert [] == [piece async for piece in agent.mirror.archive.pieces("c1", first=1)]

    async def test_a_store_that_is_away_when_it_is_cleared_does_no_harm(
        self, service: Service, executor: FakeExecutor, store: FaultyStore
    ) -> None:
        """The next turn tries again."""
        await run(service, executor, "t1", "e1")
        await run(service, executor, "t2", "n1", conversation="c2")
        mirror = (await service.live()).mirror
        await until(lambda: not mirror.littered)
        await service.create_turn("t3")
        execution = await executor.execution(3)
        execution.grow("m1", conversation="c3")
        await until(lambda: executor.acknowledged.get(execution.id) == 1)
        store.unreadable = [Failure(errors_pb2.ERROR_REASON_STORE_UNAVAILABLE, "away")]
        execution.end(conversation="c3")
        await until(lambda: store.unreadable == [])
        assert mirror.littered

        await run(service, executor, "t4", conversation="c3")

        await until(lambda: not mirror.littered)


@pytest.mark.usefixtures("both_willing")
class TestAnotherMachine:
    async def test_an_executor_with_an_empty_disk_gets_the_conversation(
        self,
        service: Service,
        executors: FakeExecutors,
        executor: FakeExecutor,
        other: FakeExecutor,
    ) -> None:
        """All of it, before the turn runs there."""
        other.forgetful = True
        await run(service, executor, "t1", "e1", "e2")
        executors.unwilling = {"e1:1"}
        await service.create_turn("t2")
        execution = await other.execution()
        execution.end(conversation="c1")

        assert Turn.STATE_FINISHED == (await service.ended("t2")).state
        assert {"": ["e1", "e2"]} == other.files
        assert ("c1", "e2") == (execution.asked.resume_from, execution.asked.last_entry)
        assert 1 == (await service.get_turn("t2")).attempt

    async def test_one_that_has_it_is_given_nothing(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """As nearly always."""
        await run(service, executor, "t1", "e1")
        await run(service, executor, "t2", "e2")

        assert "restore" not in executor.calls

    async def test_one_that_wants_it_again_and_again_has_lost_it(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """The turn says so, and the next one begins a new conversation."""
        needed = Failure(errors_pb2.ERROR_REASON_TRANSCRIPT_NEEDED, "give it to me")
        await run(service, executor, "t1", "e1")
        executor.failures["create"] = [needed, needed]
        await service.create_turn("t2")

        turn = await service.ended("t2")

        assert Turn.STATE_FAILED == turn.state
        assert errors_pb2.ERROR_REASON_CONVERSATION_LOST == turn.error.reason
        await run(service, executor, "t3", "n1", conversation="c2")
        assert ("", "") == (executor.last.asked.resume_from, executor.last.asked.last_entry)

    async def test_one_that_wants_what_is_not_stored_has_lost_it(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """There is nothing to give."""
        needed = Failure(errors_pb2.ERROR_REASON_TRANSCRIPT_NEEDED, "give it to me")
        executor.failures["create"] = [needed]
        await service.create_turn()

        turn = await service.ended()

        assert errors_pb2.ERROR_REASON_CONVERSATION_LOST == turn.error.reason
        assert "restore" not in executor.calls

    @IMPATIENT
    async def test_one_that_goes_away_meanwhile_leaves_it_to_another(
        self,
        service: Service,
        executors: FakeExecutors,
        executor: FakeExecutor,
        other: FakeExecutor,
    ) -> None:
        """The conversation is not lost by that."""
        await run(service, executor, "t1", "e1")
        executor.forgetful = other.forgetful = True

        def leave(method: str) -> None:
            if method == "restore":
                executor.away = True
                executors.unwilling = {"e1:1"}

        executor.called = leave
        await service.create_turn("t2")
        (await other.execution()).end(conversation="c1")

        assert Turn.STATE_FINISHED == (await service.ended("t2")).state
        assert {"": ["e1"]} == other.files

    async def test_a_cancelled_turn_brings_it_nowhere(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """At once, whatever the executor does."""
        await run(service, executor, "t1", "e1")
        executor.forgetful = True
        executor.stuck = {"restore"}
        await service.create_turn("t2")
        await until(lambda: "restore" in executor.calls)

        await service.cancel_turn("t2")

        assert Turn.STATE_CANCELLED == (await service.ended("t2")).state
        assert 1 == len(executor.created)


class TestLimits:
    @pytest.fixture
    def limits(self) -> Limits:
        """Waits like those of a database that is paid for by what is written."""
        return Limits(
            gather=timedelta(milliseconds=10),
            linger=timedelta(seconds=30),
        )

    async def test_a_transcript_costs_no_commit_of_its_own(
        self, service: Service, executor: FakeExecutor, store: FaultyStore
    ) -> None:
        """It waits for the outcome, if that comes soon."""
        await service.create_turn()
        execution = await executor.execution()
        commits = len(store.commits)
        for number in range(10):
            execution.grow(f"e{number}")
        execution.end()
        await service.ended()

        assert 1 == len(store.commits) - commits
        [path] = [write.path for write in store.commits[-1] if "/transcript/" in write.path]
        assert path.startswith(transcript_path(NAME))
