"""Tests of `services.executor.claude_code`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from moorline.executor.v1 import executions_pb2
from services.chassis.failures import Failure
from services.chassis.tasks import Tasks
from services.executor.agent_process import Ending, Result
from services.executor.book import ITEMS_LIMIT, Book
from services.executor.channel import ExitReason
from services.executor.claude_code import PATIENCE, ClaudeCode, ClaudeCodeProcesses, Patience
from tests.unit.executor.fakes import (
    FakeBackend,
    FakeChannel,
    items,
    kinds,
    make_work,
    texts,
    until,
)

IMPATIENCE = Patience(
    opening=timedelta(seconds=0.2),
    closing=timedelta(seconds=0.01),
    dying=timedelta(seconds=0.01),
)


def make_process(channel: FakeChannel, tasks: Tasks, **changed: Any) -> ClaudeCode:
    """Return a process that is not open."""
    values: dict[str, Any] = {"resume": "", "accept_all": False, "patience": PATIENCE}
    return ClaudeCode(channel=channel, tasks=tasks, **(values | changed))


@pytest.fixture
async def channel() -> FakeChannel:
    """The process's channel."""
    return FakeChannel()


@pytest.fixture
async def process(channel: FakeChannel, tasks: Tasks) -> AsyncIterator[ClaudeCode]:
    """A process that is open."""
    process = make_process(channel, tasks)
    await process.open()
    yield process
    channel.exit(0)


async def begin(process: ClaudeCode, channel: FakeChannel) -> tuple[Book, Any]:
    """Begin a turn; return its book and its ending to come."""
    book = Book()
    return book, await process.begin(make_work(), book)


def prompt_id(channel: FakeChannel) -> str:
    """Return the id of the last prompt."""
    return str([frame for frame in channel.written if frame["type"] == "user"][-1]["uuid"])


def result(channel: FakeChannel, **changed: Any) -> dict[str, Any]:
    """Return the result of the running turn."""
    frame = {
        "type": "result",
        "subtype": "success",
        "is_error": False,
        "terminal_reason": "completed",
        "user_message_uuid": prompt_id(channel),
        "model_usage_since_last_result": {"m": {"inputTokens": 3, "costUSD": 0.001}},
    }
    return frame | changed


def init(version: str = "2.1.330") -> dict[str, Any]:
    """Return the frame that begins a turn."""
    return {
        "type": "system",
        "subtype": "init",
        "session_id": "s1",
        "claude_code_version": version,
    }


def said(text: str) -> dict[str, Any]:
    """Return a confirmed message."""
    message = {"id": "m", "model": "x", "content": [{"type": "text", "text": text}]}
    return {"type": "assistant", "message": message}


def ask(request_id: str = "r1") -> dict[str, Any]:
    """Return a request for permission."""
    request = {"subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": "ls"}}
    return {"type": "control_request", "request_id": request_id, "request": request}


async def ended(ending: Any) -> Ending:
    """Wait for the end of a turn."""
    async with asyncio.timeout(5):
        told: Ending = await ending
    return told


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


async def test_frames_between_turns_are_left_alone(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """They belong to nobody, and do not hurt the next turn."""
    event = {"type": "message_start", "message": {"id": "m"}}
    channel.say({"type": "stream_event", "event": event}, said("lost"), ask())
    channel.say({"type": "system", "subtype": "api_retry"}, {"type": "result"})
    await asyncio.sleep(0.01)
    book, ending = await begin(process, channel)
    channel.say(said("kept"), result(channel))
    await ended(ending)

    assert ["kept"] == texts(book)


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
    channel.say({"type": "system", "subtype": "api_retry"})
    await until(lambda: not book.blocks)
    channel.say(result(channel))
    await ended(ending)

    assert [] == items(book)


@pytest.mark.parametrize("allowed", [True, False])
async def test_permission_is_answered_once(
    process: ClaudeCode, channel: FakeChannel, allowed: bool
) -> None:
    """The second answer changes nothing, an unknown one is not found."""
    book, ending = await begin(process, channel)
    channel.say(ask())
    await until(lambda: items(book))
    quiet = process.quiet_for()
    await process.answer("r1", allowed=allowed, reason="because")
    await process.answer("r1", allowed=not allowed, reason="late")
    with pytest.raises(Failure) as caught:
        await process.answer("r2", allowed=True, reason="")
    channel.say(result(channel))
    await ended(ending)
    answers = [frame for frame in channel.written if frame["type"] == "control_response"]

    assert timedelta(0) == quiet
    assert "RESOURCE_NOT_FOUND" == caught.value.reason_name
    assert 1 == len(answers)
    expected = (
        {"behavior": "allow", "updatedInput": {"command": "ls"}}
        if allowed
        else {"behavior": "deny", "message": "because"}
    )
    assert expected == answers[0]["response"]["response"]


async def test_withdrawn_permission_needs_no_answer(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """An answer that comes later goes nowhere; after the turn there is nothing to answer."""
    book, ending = await begin(process, channel)
    channel.say(ask(), {"type": "control_cancel_request", "request_id": "r1"})
    await until(lambda: items(book))
    await process.answer("r1", allowed=True, reason="")
    channel.say(result(channel))
    await ended(ending)
    with pytest.raises(Failure):
        await process.answer("r1", allowed=True, reason="")

    assert not [frame for frame in channel.written if frame["type"] == "control_response"]


async def test_accept_all_answers_by_itself(tasks: Tasks) -> None:
    """Nobody is asked, and no item tells of it."""
    channel = FakeChannel()
    process = make_process(channel, tasks, accept_all=True)
    await process.open()
    book, ending = await begin(process, channel)
    channel.say(ask())
    await until(lambda: channel.written[-1]["type"] == "control_response")
    channel.say(result(channel))
    await ended(ending)
    channel.exit(0)

    assert "allow" == channel.written[-1]["response"]["response"]["behavior"]
    assert [] == items(book)


async def test_unknown_request_of_the_cli_is_refused(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """It must not wait for ever."""
    _, ending = await begin(process, channel)
    request = {"subtype": "hook_callback"}
    channel.say({"type": "control_request", "request_id": "h", "request": request})
    await until(lambda: channel.written[-1]["type"] == "control_response")
    channel.say(result(channel))
    await ended(ending)

    assert "error" == channel.written[-1]["response"]["subtype"]


async def test_interrupt_is_a_control_request(process: ClaudeCode, channel: FakeChannel) -> None:
    """Its answer is expected by nobody; the result tells."""
    _, ending = await begin(process, channel)
    await process.interrupt()
    frame = channel.written[-1]
    response = {"subtype": "success", "request_id": frame["request_id"]}
    channel.say(
        {"type": "control_response", "response": response},
        result(channel, is_error=True, terminal_reason="aborted_streaming"),
    )

    assert "interrupt" == frame["request"]["subtype"]
    assert Result.INTERRUPTED is (await ended(ending)).result


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


async def test_full_book_holds_the_process_back(process: ClaudeCode, channel: FakeChannel) -> None:
    """Lines wait until the items are acknowledged; that is no silence of the agent's."""
    book, ending = await begin(process, channel)
    channel.say(*[said(f"{number}") for number in range(ITEMS_LIMIT + 5)])
    await until(lambda: book.full)
    await asyncio.sleep(0.01)
    held, quiet = book.last, process.quiet_for()
    book.acknowledge(10)
    await until(lambda: book.last == ITEMS_LIMIT + 5)
    channel.say(result(channel))
    await ended(ending)

    assert ITEMS_LIMIT == held
    assert timedelta(0) == quiet


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
    told = await ended(ending)

    assert told.failure is not None
    assert "AGENT_FAILED" == told.failure.reason_name
    assert 1 == channel.killed
    assert {"agent_message"} == set(kinds(book))


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


async def test_cancelled_ending_is_left_alone(process: ClaudeCode, channel: FakeChannel) -> None:
    """Who waits may go away; the process takes the next turn."""
    _, ending = await begin(process, channel)
    ending.cancel()
    channel.say(result(channel))
    await until(lambda: process.quiet_for() == timedelta(0))
    _, again = await begin(process, channel)
    channel.say(result(channel))

    assert Result.FINISHED is (await ended(again)).result


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


async def test_work_becomes_a_command_line(tasks: Tasks, tmp_path: Path) -> None:
    """Two executions of new conversations have different ids, the same one always the same."""
    make, backend = (
        ClaudeCodeProcesses(environment={"A": "b"}, patience=PATIENCE, tasks=tasks),
        FakeBackend(),
    )
    mode = executions_pb2.Execution.PERMISSION_MODE_ACCEPT_ALL
    for execution_id in ("e1", "e2", "e1"):
        make(make_work(execution_id=execution_id, permission_mode=mode), backend, tmp_path)
    resumed = make(make_work(resume_from="s7"), backend, tmp_path)
    first, second, again, last = (launch.argv for launch in backend.launches)

    assert first == again != second
    assert "--permission-mode=bypassPermissions" in first
    assert "--resume=s7" in last
    assert "s7" == resumed.conversation
    assert {"A": "b"} == backend.launches[0].environment
