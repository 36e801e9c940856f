"""Tests of `services.executor.claude_code.process`: what is said in a turn."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import executions_pb2
from services.chassis.failures import Failure
from services.executor.agent_process import Result
from services.executor.book import ITEMS_LIMIT
from services.executor.claude_code.process import ClaudeCode
from tests.unit.executor.claude_code.process import (
    answers,
    ask,
    begin,
    decision,
    ended,
    init,
    prompt_id,
    result,
    said,
)
from tests.unit.executor.fakes import (
    FakeChannel,
    items,
    texts,
    until,
)


async def test_turn_runs_from_prompt_to_result(process: ClaudeCode, channel: FakeChannel) -> None:
    """The conversation, the items and the usage of a turn are told."""
    book, ending = await begin(process, channel)
    channel.say(init(), {"type": "command_lifecycle"}, said("hello"), result(channel))
    told = await ended(ending)

    assert Result.FINISHED is told.result
    assert ["hello"] == texts(book)
    assert (3, 1000) == (told.usage.input_tokens, told.usage.cost_usd_micros)
    assert "s1" == process.conversation
    assert process.alive


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


async def test_result_without_any_id_ends_the_turn(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """Failures come without one."""
    _, ending = await begin(process, channel)
    channel.say(result(channel, user_message_uuid=None))

    assert Result.FINISHED is (await ended(ending)).result


async def test_lines_not_understood_are_skipped(
    process: ClaudeCode, channel: FakeChannel, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is a warning that does not show its content."""
    book, ending = await begin(process, channel)
    channel.say(b"secret, not JSON", b"[]", {"type": "assistant"}, {"no": "type"})
    channel.say({"type": "novelty"}, said("on it goes"), result(channel))
    await ended(ending)

    assert ["on it goes"] == texts(book)
    assert 4 == caplog.messages.count("frame not understood")
    assert "secret" not in caplog.text


async def test_another_version_is_logged(
    process: ClaudeCode, channel: FakeChannel, caplog: pytest.LogCaptureFixture
) -> None:
    """The adapter was written for one."""
    _, ending = await begin(process, channel)
    channel.say(init("9.9.9"), result(channel))
    await ended(ending)

    assert "another version of the agent" in caplog.messages


async def test_api_retry_withdraws_what_was_not_confirmed(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """The text comes again."""
    book, ending = await begin(process, channel)
    delta = {"type": "text_delta", "text": "bad"}
    channel.say(
        {"type": "stream_event", "event": {"type": "message_start", "message": {"id": "m"}}},
        {
            "type": "stream_event",
            "event": {"type": "content_block_delta", "index": 0, "delta": delta},
        },
    )
    await until(lambda: book.blocks)
    channel.say(
        {
            "type": "system",
            "subtype": "api_retry",
            "attempt": 1,
            "max_retries": 6,
            "retry_delay_ms": 1500,
            "error_status": 529,
            "error": "overloaded",
        }
    )
    await until(lambda: not book.blocks)
    quiet = process.quiet_for()
    channel.say(result(channel))
    await ended(ending)
    (item,) = items(book)
    retry = item.provider_retry

    assert (1, 6, 1500) == (retry.attempt, retry.attempts, retry.delay.ToMilliseconds())
    assert errors_pb2.ERROR_REASON_PROVIDER_OVERLOADED == retry.error.reason
    assert timedelta(0) == quiet


@pytest.mark.parametrize("allowed", [True, False])
async def test_permission_is_answered_once(
    process: ClaudeCode, channel: FakeChannel, allowed: bool
) -> None:
    """The second answer changes nothing, an unknown one is not found."""
    book, ending = await begin(process, channel)
    channel.say(ask())
    await until(lambda: items(book))
    quiet = process.quiet_for()
    await process.answer(decision(allowed=allowed, reason="because"))
    await process.answer(decision(allowed=not allowed, reason="late"))
    with pytest.raises(Failure) as caught:
        await process.answer(decision("r2"))
    channel.say(result(channel))
    await ended(ending)
    (answer,) = answers(channel)

    assert timedelta(0) == quiet
    assert "RESOURCE_NOT_FOUND" == caught.value.reason_name
    expected = (
        {"behavior": "allow", "updatedInput": {"command": "ls"}}
        if allowed
        else {"behavior": "deny", "message": "because"}
    )
    assert expected == answer["response"]


async def test_withdrawn_permission_needs_no_answer(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """An answer that comes later goes nowhere; after the turn there is nothing to answer."""
    book, ending = await begin(process, channel)
    channel.say(ask(), {"type": "control_cancel_request", "request_id": "r1"})
    await until(lambda: items(book))
    await process.answer(decision())
    channel.say(result(channel))
    await ended(ending)
    with pytest.raises(Failure):
        await process.answer(decision())

    assert not answers(channel)


async def test_accept_all_answers_by_itself(process: ClaudeCode, channel: FakeChannel) -> None:
    """Nobody is asked, and no item tells of it."""
    mode = executions_pb2.Execution.PERMISSION_MODE_ACCEPT_ALL
    book, ending = await begin(process, channel, permission_mode=mode)
    channel.say(ask())
    await until(lambda: answers(channel))
    channel.say(result(channel))
    await ended(ending)

    assert "allow" == answers(channel)[0]["response"]["behavior"]
    assert [] == items(book)


async def test_unknown_request_of_the_cli_is_refused(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """It must not wait for ever."""
    _, ending = await begin(process, channel)
    request = {"subtype": "hook_callback"}
    channel.say({"type": "control_request", "request_id": "h", "request": request})
    await until(lambda: answers(channel))
    channel.say(result(channel))
    await ended(ending)

    assert "error" == answers(channel)[0]["subtype"]


async def test_interrupt_is_a_control_request(process: ClaudeCode, channel: FakeChannel) -> None:
    """Its answer tells that what is confirmed after it was cut short; the result tells the rest."""
    book, ending = await begin(process, channel)
    await process.interrupt()
    frame = channel.written[-1]
    queued: dict[str, Any] = {"still_queued": []}
    response = {"subtype": "success", "request_id": frame["request_id"], "response": queued}
    channel.say(
        said("whole"),
        {"type": "control_response", "response": response},
        said("half"),
        result(channel, is_error=True, terminal_reason="aborted_streaming"),
    )

    assert "interrupt" == frame["request"]["subtype"]
    assert Result.INTERRUPTED is (await ended(ending)).result
    assert [False, True] == [item.agent_message.partial for item in items(book)]


async def test_full_book_holds_the_process_back(process: ClaudeCode, channel: FakeChannel) -> None:
    """Lines wait until the items are acknowledged; that is no silence of the agent's."""
    book, ending = await begin(process, channel)
    channel.say(*[said(f"{number}") for number in range(ITEMS_LIMIT + 5)])
    await until(lambda: book.full)
    await asyncio.sleep(0.01)
    held, quiet = book.last, process.quiet_for()
    book.acknowledge(3)
    await until(lambda: book.last == ITEMS_LIMIT + 3)
    book.acknowledge(10)
    await until(lambda: book.last == ITEMS_LIMIT + 5)
    channel.say(result(channel))
    await ended(ending)

    assert ITEMS_LIMIT == held
    assert timedelta(0) == quiet


async def test_silence_is_measured(process: ClaudeCode, channel: FakeChannel) -> None:
    """Only while the process owes a word."""
    idle = process.quiet_for()
    _, ending = await begin(process, channel)
    await asyncio.sleep(0.02)
    quiet = process.quiet_for()
    channel.say({"type": "command_lifecycle"})
    await until(lambda: process.quiet_for() < quiet)
    channel.say(result(channel))
    await ended(ending)

    assert timedelta(0) == idle
    assert timedelta(seconds=0.02) <= quiet


async def test_cancelled_ending_is_left_alone(process: ClaudeCode, channel: FakeChannel) -> None:
    """Who waits may go away; the process takes the next turn."""
    _, ending = await begin(process, channel)
    ending.cancel()
    channel.say(result(channel))
    await until(lambda: process.quiet_for() == timedelta(0))
    _, again = await begin(process, channel)
    channel.say(result(channel))

    assert Result.FINISHED is (await ended(again)).result
