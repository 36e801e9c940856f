"""Tests of `services.session.attempt`: what an execution's stream becomes, breaks included."""

from __future__ import annotations

import pytest

from moorline.executor.v1 import executions_pb2
from moorline.session.v1 import turns_pb2
from moorline.transcript.v1 import transcript_pb2
from services.session.agents import LiveAgent
from tests.unit.session.fakes import FakeExecution, FakeExecutor, FaultyStore, unavailable
from tests.unit.session.service import Service, until

Update = executions_pb2.ExecutionUpdate


@pytest.fixture
async def agent(service: Service) -> LiveAgent:
    """An agent whose turn runs."""
    await service.create_turn()
    return await service.live()


@pytest.fixture
async def execution(agent: LiveAgent, executor: FakeExecutor) -> FakeExecution:
    """The execution of its turn, followed."""
    return await executor.execution()


def shown(agent: LiveAgent) -> dict[str, str]:
    """Return the text being written as a late comer gets it."""
    return {block.block_id: block.text() for block in agent.timeline.blocks.values()}


async def test_text_is_published_at_once(agent: LiveAgent, execution: FakeExecution) -> None:
    """Without the store, fragment by fragment; a discard takes it back."""
    execution.say("b1", "a")
    execution.say("b1", "b")
    execution.say("b2", "c")
    assert {"b1": "ab", "b2": "c"} == shown(agent)

    execution.discard("b1")

    assert {"b2": "c"} == shown(agent)


async def test_an_unknown_update_is_passed_over(agent: LiveAgent, execution: FakeExecution) -> None:
    """A newer executor may send what this release does not know."""
    execution.send(Update())
    execution.say("b1", "a")

    assert {"b1": "a"} == shown(agent)


async def test_a_piece_that_comes_whole_is_shown_before_the_next_one_begins(
    agent: LiveAgent, execution: FakeExecution
) -> None:
    """What waits for its commit is not overtaken by text that waits for nothing."""
    message = transcript_pb2.AgentMessage(block_id="b1", text="whole")
    thought = transcript_pb2.AgentThought(block_id="b2", text="deep")
    execution.add(transcript_pb2.Item(agent_message=message))
    execution.add(transcript_pb2.Item(agent_thought=thought))
    execution.say("b3", "next")

    assert [("b1", "whole"), ("b2", "deep"), ("b3", "next")] == list(shown(agent).items())
    await until(lambda: agent.log.head == 3)
    assert {"b3": "next"} == shown(agent)


async def test_a_whole_piece_whose_commit_is_on_its_way_is_not_kept_twice(
    service: Service, execution: FakeExecution, executor: FakeExecutor, store: FaultyStore
) -> None:
    """A turn that ends by itself keeps the half pieces only."""
    store.held.clear()
    execution.call_tool()
    message = transcript_pb2.AgentMessage(block_id="b1", text="whole")
    execution.add(transcript_pb2.Item(agent_message=message))
    execution.say("b2", "half")
    executor.forget()
    agent = await service.live()
    await until(lambda: len(agent.unfinished()) == 1 and agent.unfinished()[0].final)
    store.held.set()
    await service.ended()

    messages = [event.item.agent_message for event in await service.list_events()]
    assert [("whole", False), ("half", True)] == [
        (message.text, message.partial) for message in messages if message.block_id
    ]


class TestAfterABreak:
    async def test_text_goes_on_without_a_repeat(
        self, agent: LiveAgent, execution: FakeExecution, executor: FakeExecutor
    ) -> None:
        """The snapshot holds what was missed; nothing is doubled."""
        execution.say("b1", "ab")
        execution.blocks["b1"] = "abcd"

        executor.reconnect()
        execution.say("b1", "e")

        assert {"b1": "abcde"} == shown(agent)

    async def test_events_are_not_repeated(
        self, service: Service, execution: FakeExecution, executor: FakeExecutor
    ) -> None:
        """The cursor tells what is known, and what is repeated all the same is passed over."""
        execution.call_tool("c1")
        executor.reconnect()
        execution.send(Update(event=execution.events[0]))
        execution.end()

        await service.ended()

        assert ["user_message", "tool_call", "turn_outcome"] == await service.kinds()

    async def test_a_block_taken_back_meanwhile_is_withdrawn(
        self, agent: LiveAgent, execution: FakeExecution, executor: FakeExecutor
    ) -> None:
        """It is not among the snapshots, so the first fragment after them ends it."""
        execution.say("b1", "gone")
        execution.say("b2", "stays")
        del execution.blocks["b1"]

        executor.reconnect()
        execution.say("b2", "!")
        execution.say("b3", "new")

        assert {"b2": "stays!", "b3": "new"} == shown(agent)

    async def test_a_block_completed_meanwhile_is_an_event(
        self, service: Service, execution: FakeExecution, executor: FakeExecutor
    ) -> None:
        """The replay has its item, and it is not withdrawn besides."""
        agent = await service.live()
        execution.say("b1", "half")
        message = transcript_pb2.AgentMessage(block_id="b1", text="whole")
        thought = transcript_pb2.AgentThought(block_id="b2", text="deep")
        del execution.blocks["b1"]
        listeners, execution.listeners = execution.listeners, []
        execution.add(transcript_pb2.Item(agent_message=message))
        execution.add(transcript_pb2.Item(agent_thought=thought))
        execution.listeners = listeners

        executor.reconnect()
        execution.say("b3", "next")
        await until(lambda: agent.log.head == 3)

        texts = [event.item.agent_message.text for event in await service.list_events()]
        assert "whole" in texts
        assert {"b3": "next"} == shown(agent)

    async def test_a_discard_that_comes_after_it_is_kept(
        self, agent: LiveAgent, execution: FakeExecution, executor: FakeExecutor
    ) -> None:
        """A block is withdrawn once, whoever says so first."""
        execution.say("b1", "a")
        execution.say("b2", "b")
        executor.reconnect()

        execution.discard("b1")
        execution.say("b2", "!")

        assert {"b2": "b!"} == shown(agent)

    async def test_a_snapshot_of_a_completed_block_is_late(
        self, agent: LiveAgent, execution: FakeExecution
    ) -> None:
        """The item wins."""
        execution.say("b1", "whole")
        execution.complete("b1")
        await until(lambda: agent.log.head == 2)

        execution.say("b1", "old", snapshot=True)

        assert {} == shown(agent)


class TestAfterTheEnd:
    async def test_nothing_is_heard_any_more(
        self, service: Service, execution: FakeExecution
    ) -> None:
        """Whatever a broken executor still sends; also what comes with the outcome."""
        agent = await service.live()
        listener = execution.listeners[0]
        outcome = executions_pb2.ExecutionEvent(sequence=1)
        outcome.item.turn_outcome.state = transcript_pb2.TurnOutcome.STATE_FINISHED
        delta = transcript_pb2.MessageDelta(block_id="b1", text="late")
        listener.updates([Update(event=outcome), Update(delta=delta)])
        listener.updates([Update(delta=delta)])
        listener.end(unavailable())

        turn = await service.ended()

        assert turns_pb2.Turn.STATE_FINISHED == turn.state
        assert {} == shown(agent)
