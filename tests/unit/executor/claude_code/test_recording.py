"""Tests of `services.executor.claude_code` with what the real CLI has printed."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from moorline.errors.v1 import errors_pb2
from services.chassis.tasks import Tasks
from services.executor.agent_process import Ending, Result
from services.executor.book import Book
from services.executor.claude_code import frames
from tests.unit.executor.claude_code.process import answers, decision, ended, entries, make_process
from tests.unit.executor.claude_code.recording import PRINTED
from tests.unit.executor.fakes import FakeChannel, items, kinds, make_work, until

TURN = frames.stable_uuid("message/e1")
ATTENDANCE = frames.stable_uuid("message/e2")


def printed() -> list[dict[str, Any]]:
    """Return the recording, with the names of the executions that are tested."""
    text = orjson.dumps(PRINTED).decode()
    text = text.replace("PROMPT", TURN).replace("ATTENDANCE", ATTENDANCE)
    frames_printed: list[dict[str, Any]] = orjson.loads(text)
    return frames_printed


def parts() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the recording up to the attendance's beginning, and the rest."""
    lines = printed()
    marker = f"moorline/attend/{ATTENDANCE}"
    (start,) = [
        number
        for number, line in enumerate(lines)
        if line.get("response", {}).get("request_id") == marker
    ]
    return lines[:start], lines[start:]


@pytest.fixture
async def told(tasks: Tasks) -> tuple[Book, Ending, Book, Ending, FakeChannel]:
    """What the adapter makes of the turn, and of the attendance after it."""
    channel, turn, attendance = FakeChannel(), Book(), Book()
    process = make_process(channel, tasks)
    await process.open()
    channel.answers = False
    first, second = parts()
    ending = await process.begin(make_work(), turn)
    channel.say(*first)
    turn_ended = await ended(ending)
    ending = await process.attend(make_work(execution_id="e2", background=True), attendance)
    channel.say(*second)
    attendance_ended = await ended(ending)
    channel.exit(0)
    return turn, turn_ended, attendance, attendance_ended, channel


async def test_turn_is_told_in_order(
    told: tuple[Book, Ending, Book, Ending, FakeChannel],
) -> None:
    """A repetition, text, a request, a sub-agent and a command; the work is left behind."""
    book, ending, *_ = told
    retry = items(book)[0].provider_retry
    calls = [item.tool_call for item in items(book) if item.HasField("tool_call")]
    asked = [item.permission_request for item in items(book) if item.HasField("permission_request")]
    said = [item.agent_message for item in items(book) if item.HasField("agent_message")]

    assert errors_pb2.ERROR_REASON_PROVIDER_OVERLOADED == retry.error.reason
    assert ["Write", "Agent", "Bash", "Bash"] == [call.tool_name for call in calls]
    assert ["", "", calls[1].tool_call_id, ""] == [call.parent_tool_call_id for call in calls]
    assert [calls[0].tool_call_id] == [request.tool_call_id for request in asked]
    assert asked[0].suggestions[0].accept_edits
    assert ["hello", "bye"] == [message.text for message in said]
    assert 4 == kinds(book).count("tool_result")
    assert (Result.FINISHED, 1, 0) == (ending.result, ending.background, ending.tools_running)
    assert ending.model.startswith("claude-")
    assert ending.usage.output_tokens > 0


async def test_what_it_says_by_itself_is_told_apart(
    told: tuple[Book, Ending, Book, Ending, FakeChannel],
) -> None:
    """In the attendance after the turn, which ends with it."""
    _, _, book, ending, _ = told

    assert ["agent_message"] == kinds(book)
    assert "built" == items(book)[0].agent_message.text
    assert (Result.FINISHED, 0) == (ending.result, ending.background)


async def test_transcript_is_told_whole(
    told: tuple[Book, Ending, Book, Ending, FakeChannel],
) -> None:
    """Every entry that is kept, once, in the order of the file."""
    turn, _, attendance, *_ = told
    newest = [
        [entry["uuid"] for entry in line["entries"] if entry["type"] != "attachment"][-1:]
        for line in printed()
        if line["type"] == "transcript_mirror" and "subagents" not in line["filePath"]
    ]
    expected = [uuid for line in newest for uuid in line]

    assert expected[: len(entries(turn)) + len(entries(attendance))] == [
        *entries(turn),
        *entries(attendance),
    ]
    assert len(entries(turn)) > 5


async def test_adopted_at_any_line_it_is_the_same_turn(tasks: Tasks) -> None:
    """An executor that dies there leaves nothing to be told twice, or not at all."""
    lines, _ = parts()
    whole: list[str] = []
    for count in range(len(lines), 0, -7):
        channel, book = FakeChannel(), Book()
        channel.say(*lines[:count])
        process = make_process(channel, tasks)
        await process.adopt(make_work(), book)
        whole = whole or kinds(book)
        channel.exit(0)

        assert kinds(book) == whole[: len(kinds(book))]


async def test_request_is_answered_in_the_cli_s_words(tasks: Tasks) -> None:
    """With the input that it was asked with."""
    lines, _ = parts()
    (asked,) = [number for number, line in enumerate(lines) if line["type"] == "control_request"]
    channel, book = FakeChannel(), Book()
    process = make_process(channel, tasks)
    await process.open()
    channel.answers = False
    await process.begin(make_work(), book)
    channel.say(*lines[: asked + 1])
    await process.answer(decision(lines[asked]["request_id"], suggestion_id="1"))
    await until(lambda: answers(channel))
    channel.exit(0)
    answer = answers(channel)[0]["response"]

    assert lines[asked]["request"]["input"] == answer["updatedInput"]
    assert lines[asked]["request"]["permission_suggestions"] == answer["updatedPermissions"]
