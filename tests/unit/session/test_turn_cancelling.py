"""Tests of `services.session.turns`: cancelling in every situation."""

from __future__ import annotations

import asyncio

from moorline.session.v1 import turns_pb2
from moorline.transcript.v1 import transcript_pb2
from services.session.forms import MessageEvents
from tests.unit.session.fakes import FakeExecutor, FaultyStore, unavailable
from tests.unit.session.following import Client
from tests.unit.session.service import Service, until

Turn = turns_pb2.Turn


Outcome = transcript_pb2.TurnOutcome


Decision = transcript_pb2.PermissionDecision


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

    async def test_repeating_it_while_it_is_recorded_waits_too(
        self, service: Service, executor: FakeExecutor, store: FaultyStore
    ) -> None:
        """A waiting turn ends once, however many ask."""
        await service.create_turn("t0")
        await service.create_turn("t1")
        await executor.execution()
        store.held.clear()
        calls = [asyncio.ensure_future(service.cancel_turn("t1")) for _ in range(3)]
        await until(lambda: len(store.commits) > 0)
        store.held.set()

        turns = await asyncio.gather(*calls)

        assert {Turn.STATE_CANCELLED} == {turn.state for turn in turns}
        assert 1 == (await service.kinds()).count("turn_outcome")

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

    async def test_while_waiting_takes_no_text_from_the_one_that_runs(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """Who takes any outcome for the end of all text gets it whole once more."""
        await service.create_turn("t0")
        execution = await executor.execution()
        await service.create_turn("t1")
        agent = await service.live()
        client = Client(
            agent.follow(
                form=MessageEvents(), after_sequence=0, include_deltas=True, mark=lambda: None
            )
        )
        execution.say("b1", "one ")
        await until(lambda: agent.timeline.blocks["b1"].length == 4)
        client.take_all()
        await service.cancel_turn("t1")
        client.take_all()
        assert {"b1": "one "} == client.blocks
        execution.say("b1", "two")
        await until(lambda: agent.timeline.blocks["b1"].length == 7)
        client.take_all()

        assert {"b1": "one two"} == client.blocks

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
