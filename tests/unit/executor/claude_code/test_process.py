"""Tests of `services.executor.claude_code.process`: how a process begins and ends."""

from __future__ import annotations

import asyncio

import pytest

from services.chassis.failures import Failure
from services.chassis.tasks import Tasks
from services.executor.agent_process import Result
from services.executor.book import ITEMS_LIMIT, Book
from services.executor.channel import ExitReason
from services.executor.claude_code.process import ClaudeCode
from tests.unit.executor.claude_code.process import (
    IMPATIENCE,
    ask,
    begin,
    ended,
    init,
    make_process,
    result,
    said,
)
from tests.unit.executor.fakes import (
    FakeChannel,
    kinds,
    make_work,
    until,
)


class Deaf(FakeChannel):
    """A process that reads no more once it is deaf, as one that was stopped does."""

    deaf = False

    async def write(self, line: bytes) -> None:
        """See `Channel`."""
        if self.deaf:
            await self.wait()
        await super().write(line)

    async def close_input(self) -> None:
        """See `Channel`."""
        await self.wait()


async def test_crash_ends_the_turn(process: ClaudeCode, channel: FakeChannel) -> None:
    """The exit code is told; nothing more can be written to the process."""
    _, ending = await begin(process, channel)
    channel.exit(137, ExitReason.OUT_OF_MEMORY)
    told = await ended(ending)
    count = len(channel.written)
    await process.interrupt()

    assert Result.DIED is told.result
    assert told.failure is not None
    assert "AGENT_CRASHED" == told.failure.reason_name
    assert {"exitCode": "137", "exitReason": "oom"} == told.failure.metadata
    assert not process.alive
    assert count == len(channel.written)


async def test_turn_on_a_dead_process_ends_at_once(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """It may die between two turns."""
    channel.exit(None, ExitReason.LOST)
    await until(lambda: not process.alive)
    _, ending = await begin(process, channel)
    told = await ended(ending)

    assert told.failure is not None
    assert {"exitCode": "unknown", "exitReason": "lost"} == told.failure.metadata


async def test_lost_conversation_ends_the_process(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """What it would say next belongs to no conversation."""
    _, ending = await begin(process, channel)
    errors = ["No conversation found with session ID: s1"]
    channel.say(init(), result(channel, is_error=True, errors=errors))
    told = await ended(ending)

    assert told.failure is not None
    assert "CONVERSATION_LOST" == told.failure.reason_name
    assert not process.alive
    assert "" == process.conversation


async def test_killed_process_ends_its_turn_although_the_book_is_full(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """Nobody has to acknowledge anything for that."""
    book, ending = await begin(process, channel)
    channel.say(*[said(f"{number}") for number in range(ITEMS_LIMIT + 5)])
    await until(lambda: book.full)
    await process.kill()

    assert ending.done()
    assert ITEMS_LIMIT + 5 == book.last


async def test_message_without_end_ends_the_process(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """The turn fails for its own reason, and the text is kept."""
    book, ending = await begin(process, channel)
    delta = {"type": "text_delta", "text": "x" * 65_536}
    event = {"type": "content_block_delta", "index": 0, "delta": delta}
    channel.say(*[{"type": "stream_event", "event": event}] * 260)
    channel.say(said("more"))
    told = await ended(ending)

    assert told.failure is not None
    assert "AGENT_FAILED" == told.failure.reason_name
    assert 1 == channel.killed
    assert {"agent_message"} == set(kinds(book))


async def test_close_ends_the_process_in_good_order(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """It is not killed when it exits by itself."""
    await process.close()

    assert (True, 0) == (channel.input_closed, channel.killed)
    assert not process.alive


async def test_process_that_does_not_exit_is_killed(tasks: Tasks) -> None:
    """Good order has a time limit."""
    channel = FakeChannel()
    channel.exits_on_close = False
    process = make_process(channel, tasks, patience=IMPATIENCE)
    await process.open()
    await process.close()

    assert 1 == channel.killed


async def test_process_that_survives_a_kill_ends_its_turn(
    tasks: Tasks, caplog: pytest.LogCaptureFixture
) -> None:
    """The turn does not wait for what cannot be ended."""
    channel = FakeChannel()
    channel.dies_on_kill = False
    process = make_process(channel, tasks, patience=IMPATIENCE)
    await process.open()
    _, ending = await begin(process, channel)
    await process.kill()

    assert Result.DIED is (await ended(ending)).result
    assert "agent process does not end" in caplog.messages


async def test_process_that_is_being_killed_takes_no_turn(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """Although its end is not heard of yet, and it has ended its turn in good order."""
    channel.dies_on_kill = False
    _, ending = await begin(process, channel)
    killing = asyncio.ensure_future(process.kill())
    await until(lambda: channel.killed)
    channel.say(result(channel))
    await ended(ending)
    fits = process.fits(make_work(resume_from=process.conversation))
    channel.exit(-9, ExitReason.KILLED)
    await killing

    assert not fits


async def test_process_that_does_not_answer_is_killed(tasks: Tasks) -> None:
    """Opening has a time limit."""
    channel = FakeChannel()
    channel.answers = False
    process = make_process(channel, tasks, patience=IMPATIENCE)
    with pytest.raises(Failure) as caught:
        await process.open()

    assert "AGENT_STALLED" == caught.value.reason_name
    assert 1 == channel.killed


async def test_process_that_dies_while_opening_is_a_crash(tasks: Tasks) -> None:
    """Who opens it is told at once."""
    channel = FakeChannel()
    channel.answers = False
    channel.exit(1)
    process = make_process(channel, tasks)
    with pytest.raises(Failure) as caught:
        await process.open()

    assert "AGENT_CRASHED" == caught.value.reason_name


async def test_process_that_dies_when_it_is_asked_is_a_crash(tasks: Tasks) -> None:
    """Nobody waits for its answer."""
    channel = FakeChannel()
    channel.answers = False
    opening = asyncio.ensure_future(make_process(channel, tasks).open())
    await until(lambda: channel.written)
    channel.exit(1)
    with pytest.raises(Failure) as caught:
        await opening

    assert "AGENT_CRASHED" == caught.value.reason_name


async def test_cancelled_opening_leaves_nothing_running(tasks: Tasks) -> None:
    """The process is killed, and its late answer is harmless."""
    channel = FakeChannel()
    channel.answers = False
    process = make_process(channel, tasks)
    opening = asyncio.ensure_future(process.open())
    await until(lambda: channel.written)
    opening.cancel()
    response = {"subtype": "success", "request_id": channel.written[0]["request_id"]}
    channel.say({"type": "control_response", "response": response})
    await asyncio.wait({opening})

    assert opening.cancelled()
    assert 1 == channel.killed
    assert not process.alive


async def test_kill_before_open_changes_nothing(tasks: Tasks) -> None:
    """There is nothing to wait for."""
    channel = FakeChannel()
    process = make_process(channel, tasks, resume="s")
    await process.kill()

    assert ("s", False) == (process.conversation, process.alive)


async def test_process_that_does_not_read_holds_nobody_up(tasks: Tasks) -> None:
    """Its turn has begun, so that it can be given up; and it can be closed."""
    channel = Deaf()
    process = make_process(channel, tasks, patience=IMPATIENCE)
    await process.open()
    channel.deaf = True
    async with asyncio.timeout(5):
        ending = await process.begin(make_work(), Book())
        await process.close()
    told = await ended(ending)

    assert Result.DIED is told.result
    assert 1 == channel.killed


@pytest.mark.parametrize(
    "line", [b"[" + b"[]," * 1_100_000 + b"0]", b'{"type":"\xff' + b"{" * 1_100_000]
)
async def test_heap_of_small_things_is_not_taken_in(
    process: ClaudeCode, channel: FakeChannel, caplog: pytest.LogCaptureFixture, line: bytes
) -> None:
    """It would take many times the memory that it takes to print it."""
    process.receive([line])

    assert ["frame not understood"] == caplog.messages


async def test_process_that_asks_too_much_is_ended(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """Whoever prints in its name cannot fill our memory with questions."""
    _, ending = await begin(process, channel)
    channel.say(init(), *(ask(f"r{number}") for number in range(100)))
    told = await ended(ending)

    assert told.failure is not None
    assert "AGENT_FAILED" == told.failure.reason_name
    assert 1 == channel.killed
