"""Tests of `services.executor.claude_code.dialogue`: what an agent says by itself."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from services.chassis.tasks import Tasks
from services.executor.agent_process import Result
from services.executor.book import ITEMS_LIMIT, Book
from services.executor.claude_code.process import ClaudeCode
from tests.unit.executor.claude_code.process import (
    IMPATIENCE,
    answers,
    ask,
    begin,
    begun,
    decision,
    ended,
    entries,
    init,
    left,
    make_process,
    mirrored,
    own_turn,
    prompt_id,
    requests,
    result,
    said,
    system,
)
from tests.unit.executor.fakes import FakeChannel, kinds, make_work, texts, until


async def attend(process: ClaudeCode) -> tuple[Book, Any]:
    """Attend to a process; return the book and the ending to come."""
    book = Book()
    return book, await process.attend(make_work(execution_id="e2", background=True), book)


def delta(text: str) -> list[dict[str, Any]]:
    """Return a message that is being written."""
    start = {"type": "message_start", "message": {"id": "m"}}
    inner = {"type": "text_delta", "text": text}
    more = {"type": "content_block_delta", "index": 0, "delta": inner}
    return [{"type": "stream_event", "event": event} for event in (start, more)]


async def test_result_of_background_work_does_not_end_the_turn(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """What it cost is the turn's all the same."""
    _, ending = await begin(process, channel)
    background = result(channel, user_message_uuid=None, origin={"kind": "task-notification"})
    channel.say(background, result(channel, user_message_uuid="another"))
    await asyncio.sleep(0.01)
    before = ending.done()
    channel.say(result(channel, user_message_uuid=None, user_message_uuids=[prompt_id(channel)]))

    assert not before
    assert 9 == (await ended(ending)).usage.input_tokens


async def test_what_was_said_between_turns_is_told_in_the_next(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """In its place: before what the next turn says; with what its transcript grew by."""
    _, first = await begin(process, channel)
    channel.say(result(channel))
    await ended(first)
    channel.say(mirrored("1"), *own_turn("by the way"), mirrored("2", conversation="s1/subagents"))
    book, second = await begin(process, channel, execution_id="e2")
    channel.say(said("answer"), mirrored("3"), result(channel))
    await ended(second)

    assert ["by the way", "answer"] == texts(book)
    assert ["1", "2", "3"] == entries(book)
    assert 2 == process.turns


async def test_text_begun_between_turns_goes_on_in_the_next(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """Its readers see it from its beginning; it is confirmed there."""
    channel.say(init(), *delta("half "))
    book, ending = await attend(process)
    channel.say(*delta("")[1:], {"type": "stream_event", "event": {"type": "message_stop"}})
    await until(lambda: book.blocks)
    shown = [block.text for block in book.blocks.values()]
    channel.say(said("half "), *own_turn("")[-1:])
    await ended(ending)

    assert ["half "] == shown
    assert ["half "] == texts(book)


async def test_silent_process_is_held_back_between_turns(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """What nobody reads does not fill memory; the next turn gets all of it."""
    channel.say(*[said(f"{number}") for number in range(ITEMS_LIMIT + 5)])
    await asyncio.sleep(0.01)
    book = Book()
    ending = await process.begin(make_work(), book)
    await until(lambda: book.full)
    book.acknowledge(10)
    await until(lambda: book.last == ITEMS_LIMIT + 5)
    await until(lambda: begun(channel))
    channel.say(result(channel))

    assert Result.FINISHED is (await ended(ending)).result


async def test_turn_tells_what_it_leaves_in_the_background(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """Work that has ended is left, too, until the agent has told of it."""
    _, first = await begin(process, channel)
    channel.say(init(), left(2), result(channel))
    told = (await ended(first)).background
    running = process.background
    channel.say(system("task_notification"), left(1), system("task_notification"), left(0))
    untold = process.background
    channel.say(init())
    telling = process.background
    channel.say(*own_turn("done"))

    assert (2, 2, 1, 1, 0) == (told, running, untold, telling, process.background)
    channel.exit(0)
    assert 0 == process.background


async def test_work_that_ends_during_a_turn_is_told_with_its_next_request(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """Then nothing is left."""
    _, ending = await begin(process, channel)
    channel.say(init(), left(1), system("task_notification"), left(0))
    channel.say(system("status", status="requesting"), result(channel))

    assert 0 == (await ended(ending)).background


async def test_attendance_lasts_as_long_as_the_work(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """No prompt is written; it is silent as long as it likes."""
    channel.say(left(1))
    book, ending = await attend(process)
    await until(lambda: process.turns == 1)
    await asyncio.sleep(0.01)
    quiet = process.quiet_for()
    channel.say(system("task_notification"), left(0))
    waiting = ending.done()
    channel.say(*own_turn("done"))
    told = await ended(ending)

    assert timedelta(0) == quiet
    assert not waiting
    assert (Result.FINISHED, 0) == (told.result, told.background)
    assert ["done"] == texts(book)
    assert not begun(channel)


async def test_attendance_of_nothing_is_over_at_once(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """There is nothing to wait for."""
    _, ending = await attend(process)

    assert Result.FINISHED is (await ended(ending)).result
    assert process.alive


async def test_attendance_can_be_left(process: ClaudeCode, channel: FakeChannel) -> None:
    """The work goes on, and nothing is interrupted."""
    channel.say(left(1))
    _, ending = await attend(process)
    await process.interrupt()
    told = await ended(ending)
    await process.interrupt()

    assert (Result.FINISHED, 1) == (told.result, told.background)
    assert [] == requests(channel, "interrupt")


async def test_silence_is_measured_while_it_says_something_by_itself(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """It has begun, so it owes an end."""
    channel.say(left(1), init())
    _, ending = await attend(process)
    await asyncio.sleep(0.02)
    quiet = process.quiet_for()
    await process.interrupt()
    await ended(ending)

    assert timedelta(seconds=0.01) <= quiet


async def test_request_asked_between_turns_is_asked_in_the_next(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """It can be answered there; when nobody does, it is asked once more."""
    channel.say(left(1), ask())
    first, ending = await attend(process)
    await until(lambda: first.last)
    await process.interrupt()
    await ended(ending)
    second, ending = await attend(process)
    await until(lambda: second.last)
    await process.answer(decision())
    channel.say(left(0))
    await ended(ending)

    assert ["permission_request"] == kinds(first) == kinds(second)
    assert ["r1"] == [answer["request_id"] for answer in answers(channel)]


async def test_request_the_process_has_an_answer_to_is_not_asked_again(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """It waits for nothing any more."""
    channel.say(left(1), system("session_state_changed", state="requires_action"), ask())
    first, ending = await attend(process)
    await until(lambda: first.last)
    channel.say(system("session_state_changed", state="running"))
    await process.interrupt()
    await ended(ending)
    second, ending = await attend(process)
    channel.say(left(0))
    await ended(ending)

    assert ["permission_request"] == kinds(first)
    assert [] == kinds(second)


async def test_prompt_waits_for_what_it_says_by_itself(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """What it says then is shown in the turn, and does not end it."""
    channel.say(init())
    book = Book()
    ending = await process.begin(make_work(), book)
    channel.say(said("report"))
    await until(lambda: book.last)
    waiting = begun(channel)
    channel.say(*own_turn("")[-1:])
    await until(lambda: begun(channel))
    channel.say(said("answer"), result(channel))

    assert not waiting
    assert Result.FINISHED is (await ended(ending)).result
    assert ["report", "answer"] == texts(book)


async def test_prompt_does_not_wait_for_ever(tasks: Tasks) -> None:
    """What the agent says by itself is broken off then."""
    channel = FakeChannel()
    process = make_process(channel, tasks, patience=IMPATIENCE)
    await process.open()
    channel.say(init())
    ending = await process.begin(make_work(), Book())
    await until(lambda: requests(channel, "interrupt"))
    aborted = {"is_error": True, "terminal_reason": "aborted_streaming"}
    channel.say({"type": "result", **aborted, "origin": {"kind": "task-notification"}})
    await until(lambda: begun(channel))
    channel.say(result(channel))
    channel.exit(0)

    assert Result.FINISHED is (await ended(ending)).result


async def test_turn_whose_prompt_waits_can_be_interrupted(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """It is never written then, and what the agent says by itself is left alone."""
    channel.say(init())
    ending = await process.begin(make_work(), Book())
    await process.interrupt()
    told = await ended(ending)
    channel.say(*own_turn("")[-1:])
    await asyncio.sleep(0.01)

    assert Result.INTERRUPTED is told.result
    assert not begun(channel)
    assert [] == requests(channel, "interrupt")


@pytest.mark.parametrize("attends", [True, False])
async def test_dead_process_ends_what_waits_for_it(
    process: ClaudeCode, channel: FakeChannel, attends: bool
) -> None:
    """Also when it has not yet heard of it."""
    channel.answers = False
    work = make_work(background=attends)
    ending = await (process.attend if attends else process.begin)(work, Book())
    channel.exit(1)

    assert Result.DIED is (await ended(ending)).result
