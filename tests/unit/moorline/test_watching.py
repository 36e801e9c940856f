"""Tests of the event stream's order, and of text that adds up."""

from __future__ import annotations

import asyncio

import pytest

import moorline
from moorline.blocks import OpenBlocks
from moorline.calls import BUFFER_BYTES
from moorline.updates import make_delta
from tests.unit.moorline.scripted import Gateway
from tests.unit.moorline.scripted_platform import TIME, until


async def test_a_repeated_event_is_dropped(gateway: Gateway, client: moorline.AsyncClient) -> None:
    """What was seen is not seen again."""
    agent = await client.agents.create()
    platform = gateway.platform.agents[agent.name]
    platform.record("t", userMessage={"text": "a"})
    async with agent.events() as events:
        first = await anext(events)
        assert isinstance(first, moorline.UserMessage)
        await anext(events)
        platform.tell({"event": platform.events[0]})
        platform.record("t", userMessage={"text": "b"})
        second = await anext(events)
    assert [1, 2] == [first.sequence, second.sequence]  # type: ignore[union-attr]
    assert 2 == events.sequence


async def test_a_missing_event_is_asked_for(gateway: Gateway, client: moorline.AsyncClient) -> None:
    """A gap is mended by watching again from the last event seen."""
    agent = await client.agents.create()
    platform = gateway.platform.agents[agent.name]
    async with agent.events(deltas=False) as events:
        await anext(events)
        watchers, platform.watchers = platform.watchers, []
        platform.record("t", userMessage={"text": "lost on the way"})
        platform.watchers = watchers
        platform.record("t", userMessage={"text": "b"})
        seen = [await anext(events), await anext(events)]
    assert ["lost on the way", "b"] == [event.text for event in seen]  # type: ignore[union-attr]


async def test_a_hole_in_the_history_is_an_error_not_a_loop(
    gateway: Gateway, client: moorline.AsyncClient
) -> None:
    """A gap that asking again does not mend is told."""
    agent = await client.agents.create()
    platform = gateway.platform.agents[agent.name]
    platform.events.append({"sequence": 2, "turnId": "t", "createTime": TIME, "item": {}})
    with pytest.raises(moorline.ProtocolError, match="has no event 1"):
        await anext(agent.events())


async def test_a_position_is_sent_with_its_history(
    gateway: Gateway, client: moorline.AsyncClient
) -> None:
    """Also when the stream breaks; so the same numbers of another history are refused."""
    agent = await client.agents.create()
    platform = gateway.platform.agents[agent.name]
    platform.record("t", userMessage={"text": "a"})
    async with agent.events() as events:
        assert "" == events.log_id
        await anext(events)
        await anext(events)
        assert "log-1" == events.log_id
        platform.log_id = "log-2"
        gateway.cut()
        with pytest.raises(moorline.SequenceUnknownError):
            await anext(events)


async def test_a_kept_position_goes_on_in_the_same_history_only(
    gateway: Gateway, client: moorline.AsyncClient
) -> None:
    """A program that kept both of them is told when the history is another one."""
    agent = await client.agents.create()
    platform = gateway.platform.agents[agent.name]
    platform.record("t", userMessage={"text": "a"})
    async with agent.events(after=1, log_id="log-1") as events:
        assert moorline.Checkpoint(sequence=1, log_id="log-1") == await anext(events)
    with pytest.raises(moorline.SequenceUnknownError):
        await anext(agent.events(after=1, log_id="log-0"))


async def test_text_missed_while_away_is_made_up(
    gateway: Gateway, client: moorline.AsyncClient
) -> None:
    """Deltas put together are the message, although some were never sent."""
    agent = await client.agents.create()
    platform = gateway.platform.agents[agent.name]
    async with agent.events() as events:
        await anext(events)
        platform.write("b", "one ")
        platform.write("gone", "oops")
        texts = [await anext(events), await anext(events)]
        gateway.cut()
        platform.write("b", "two ")
        platform.open.pop("gone")
        more = await anext(events)
        discarded = await anext(events)
        assert moorline.Checkpoint(sequence=0, log_id="log-1") == await anext(events)
        gateway.cut()
        platform.record("t", agentMessage={"blockId": "b", "text": "one two three"})
        rest = await anext(events)
        message = await anext(events)
    assert ["one ", "oops", "two ", "three"] == [
        event.text  # type: ignore[union-attr]
        for event in [*texts, more, rest]
    ]
    assert moorline.MessageDiscarded(block_id="gone") == discarded
    assert isinstance(message, moorline.Message)
    assert {"event", "delta"} == {next(iter(message.raw)), next(iter(rest.raw))}


async def test_a_replayed_message_comes_with_its_text(
    gateway: Gateway, client: moorline.AsyncClient
) -> None:
    """Whoever prints deltas prints the whole history."""
    agent = await client.agents.create()
    platform = gateway.platform.agents[agent.name]
    platform.record("t", agentThought={"blockId": "a", "text": "hm"})
    platform.record("t", agentMessage={"blockId": "b", "text": "hello"})
    async with agent.events() as events:
        seen = [await anext(events) for _ in range(4)]
    kinds = [type(event).__name__ for event in seen]
    assert ["TextDelta", "Thought", "TextDelta", "Message"] == kinds
    assert isinstance(seen[0], moorline.TextDelta)
    assert seen[0].thought


async def test_a_piece_taken_back_is_told_once(
    gateway: Gateway, client: moorline.AsyncClient
) -> None:
    """A withdrawal of a piece nobody saw is none."""
    agent = await client.agents.create()
    platform = gateway.platform.agents[agent.name]
    async with agent.events() as events:
        await anext(events)
        platform.discard("never seen")
        platform.write("b", "text")
        platform.discard("b")
        seen = [await anext(events), await anext(events)]
    assert ["TextDelta", "MessageDiscarded"] == [type(event).__name__ for event in seen]


async def test_a_waiting_turn_that_ends_takes_no_text_back(
    gateway: Gateway, client: moorline.AsyncClient
) -> None:
    """The server tells the text of the running one again, which is nothing new."""
    agent = await client.agents.create()
    platform = gateway.platform.agents[agent.name]
    async with agent.events() as events:
        await anext(events)
        platform.record("t1", userMessage={"text": "a"})
        platform.tell({"delta": {"blockId": "b", "snapshot": True, "text": "one "}})
        platform.record("t2", userMessage={"text": "b"})
        platform.record("t2", turnOutcome={"state": "STATE_CANCELLED"})
        platform.tell({"delta": {"blockId": "b", "snapshot": True, "text": "one "}})
        platform.tell({"delta": {"blockId": "b", "text": "two"}})
        platform.record("t1", turnOutcome={"state": "STATE_FINISHED"})
        seen = [await anext(events) for _ in range(7)]

    names = ["UserMessage", "TextDelta", "UserMessage", "TurnOutcome", "TextDelta"]
    assert [*names, "MessageDiscarded", "TurnOutcome"] == [type(event).__name__ for event in seen]
    assert ["one ", "two"] == [one.text for one in seen if isinstance(one, moorline.TextDelta)]


async def test_a_turn_that_ran_before_the_watch_began_takes_its_text_back(
    gateway: Gateway, client: moorline.AsyncClient
) -> None:
    """Its beginning was never seen, that of a turn which waits was."""
    agent = await client.agents.create()
    platform = gateway.platform.agents[agent.name]
    platform.record("t1", userMessage={"text": "a"})
    async with agent.events(after=1) as events:
        await anext(events)
        platform.record("t2", userMessage={"text": "b"})
        platform.record("t1", toolCall={"toolCallId": "c", "toolName": "Bash"})
        platform.tell({"delta": {"blockId": "b", "snapshot": True, "text": "one"}})
        platform.record("t1", turnAttempt={"attempt": 2})
        seen = [await anext(events) for _ in range(5)]

    names = ["UserMessage", "ToolCall", "TextDelta", "MessageDiscarded", "TurnAttempt"]
    assert names == [type(event).__name__ for event in seen]


async def test_a_reader_that_is_slow_loses_nothing(
    gateway: Gateway, client: moorline.AsyncClient
) -> None:
    """Beyond its buffer the stream is stopped, and asked for again when read on."""
    agent = await client.agents.create()
    platform = gateway.platform.agents[agent.name]
    async with agent.events(deltas=False) as events:
        await anext(events)
        text = "x" * 65536
        count = 3 * BUFFER_BYTES // len(text)
        for _ in range(count):
            platform.record("t", userMessage={"text": text})
            await asyncio.sleep(0)
        await until(lambda: not (platform.watchers))
        seen: list[int] = []
        while len(seen) < count:
            event = await anext(events)
            if isinstance(event, moorline.UserMessage):
                seen.append(event.sequence)
    assert list(range(1, count + 1)) == seen


async def test_a_closed_stream_is_over(gateway: Gateway, client: moorline.AsyncClient) -> None:
    """Closing tells the server, and ends the iteration."""
    agent = await client.agents.create()
    events = agent.events()
    await anext(events)
    await events.aclose()
    await events.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(events)
    await until(lambda: not (gateway.platform.agents[agent.name].watchers))


def test_a_snapshot_that_differs_replaces() -> None:
    """Text that is not a continuation is handed out whole, to replace what is shown."""
    blocks = OpenBlocks()
    blocks.extend(make_delta("b", "hello", thought=False))
    other = make_delta("b", "bye", thought=False, snapshot=True)
    assert other == blocks.extend(other)
    assert None is blocks.extend(other)
    whole = blocks.complete("b", "hello again", thought=False)
    assert whole == make_delta("b", "hello again", thought=False, snapshot=True)
    assert None is blocks.complete("b", "", thought=False)
