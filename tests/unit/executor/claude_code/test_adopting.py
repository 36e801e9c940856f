"""Tests of `services.executor.claude_code.process`: taking over a process that goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import executions_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.chassis.tasks import Tasks
from services.executor.agent_process import Result
from services.executor.backend import View
from services.executor.book import Book
from services.executor.channel import Receiver
from services.executor.claude_code import frames
from services.executor.claude_code.belongings import Belongings
from services.executor.claude_code.process import ClaudeCode
from services.executor.claude_code.transcripts import restore
from services.executor.workspaces import Workspaces
from tests.unit.executor.claude_code.process import (
    answers,
    ask,
    begun,
    decision,
    ended,
    entries,
    init,
    left,
    make_process,
    mirrored,
    own_turn,
    requests,
    said,
)
from tests.unit.executor.fakes import FakeChannel, follow, items, make_work, take, texts, until

FIRST = frames.stable_uuid("message/e1")
SECOND = frames.stable_uuid("message/e2")


def response(request_id: str) -> dict[str, Any]:
    """Return the answer to a request of an executor's."""
    return {
        "type": "control_response",
        "response": {"subtype": "success", "request_id": request_id, "response": {}},
    }


def turn_begins(message_id: str) -> list[dict[str, Any]]:
    """Return what is printed when a turn begins."""
    lifecycle = {"type": "command_lifecycle", "command_uuid": message_id, "state": "queued"}
    return [response(f"moorline/turn/{message_id}"), lifecycle, init()]


def turn_ends(message_id: str, **changed: Any) -> dict[str, Any]:
    """Return what is printed when a turn has ended."""
    frame = {"type": "result", "is_error": False, "user_message_uuid": message_id}
    return frame | changed


MARKER = response(f"moorline/turn/{SECOND}")
HISTORY = [
    response("moorline-x-1"),
    mirrored("0"),
    *turn_begins(FIRST),
    said("first"),
    ask("r0"),
    turn_ends(FIRST),
    mirrored("1"),
    *own_turn("between"),
    left(1),
    response("moorline/attend/e9"),
    said("attended"),
    response("moorline/leave/e9"),
    left(0),
    mirrored("2"),
    *turn_begins(SECOND),
    said("second"),
    ask("r1"),
]
"""What a process has printed when its executor is gone, in the middle of the second turn."""


async def adopt(tasks: Tasks, *printed: Any, **changed: Any) -> tuple[ClaudeCode, FakeChannel, Any]:
    """Adopt a process; return it, its channel, its book and the ending to come."""
    channel = FakeChannel()
    channel.say(*printed)
    process = make_process(channel, tasks)
    book = Book()
    work = make_work(**({"execution_id": "e2"} | changed))
    ending = await process.adopt(work, book)
    await until(lambda: requests(channel, "mcp_status"))
    await asyncio.sleep(0)
    return process, channel, (book, ending)


async def test_turn_is_taken_over_where_it_is(tasks: Tasks) -> None:
    """What came before it is another turn's; open requests can be answered."""
    process, channel, (book, ending) = await adopt(tasks, *HISTORY)
    await process.answer(decision("r1"))
    channel.say(said("on"), turn_ends(SECOND))
    told = await ended(ending)
    channel.exit(0)

    assert ["second", "on"] == texts(book)
    assert ["2"] == entries(book)
    assert Result.FINISHED is told.result
    assert ["r1"] == [answer["request_id"] for answer in answers(channel)]
    assert not begun(channel)
    assert ("s1", 1) == (process.conversation, process.turns)


async def test_same_lines_make_the_same_items(tasks: Tasks) -> None:
    """Under the same numbers as for the executor that began the turn."""
    channel, first, second = FakeChannel(), Book(), Book()
    process = make_process(channel, tasks)
    await process.open()
    channel.answers = False
    printed: list[Any] = []

    def say(*lines: Any) -> None:
        printed.extend(lines)
        channel.say(*lines)

    await process.begin(make_work(execution_id="e1"), first)
    say(*turn_begins(FIRST), said("one"), turn_ends(FIRST), mirrored("1"), *own_turn("between"))
    await process.begin(make_work(execution_id="e2"), second)
    say(mirrored("2"), *turn_begins(SECOND), said("two"), mirrored("3"), ask("r1"))
    _, adopted, (again, _) = await adopt(tasks, *printed)

    def facts(book: Book) -> list[Any]:
        updates, _ = take(follow(book))
        events = [update.event for update in updates if update.HasField("event")]
        return [(event.sequence, event.item, event.transcript) for event in events]

    assert [1, 2, 3, 4, 5, 6] == [sequence for sequence, *_ in facts(again)]
    assert facts(second) == facts(again)
    channel.exit(0)
    adopted.exit(0)


async def test_turn_that_ended_meanwhile_is_over(tasks: Tasks) -> None:
    """Nothing has to be done."""
    _, channel, (book, ending) = await adopt(tasks, *HISTORY, said("last"), turn_ends(SECOND))
    told = await ended(ending)
    channel.exit(0)

    assert Result.FINISHED is told.result
    assert ["second", "last"] == texts(book)


@pytest.mark.parametrize("printed", [[], HISTORY[:-6], [MARKER]])
async def test_prompt_that_never_arrived_is_given(tasks: Tasks, printed: list[Any]) -> None:
    """The executor was gone before it could; the process knows nothing of it."""
    process, channel, (_, ending) = await adopt(tasks, *printed)
    await until(lambda: begun(channel))
    channel.say(turn_ends(SECOND))

    assert Result.FINISHED is (await ended(ending)).result
    assert process.alive
    assert bool(requests(channel, "set_model")) is (printed != [MARKER])
    channel.exit(0)


@pytest.mark.parametrize("printed", [[], [MARKER]])
async def test_interrupt_comes_before_a_prompt_that_never_arrived(
    tasks: Tasks, printed: list[Any]
) -> None:
    """It is never given then."""
    channel = FakeChannel()
    channel.answers = False
    channel.say(*printed)
    process = make_process(channel, tasks)
    ending = await process.adopt(make_work(execution_id="e2"), Book())
    await process.interrupt()
    await until(lambda: requests(channel, "mcp_status"))
    channel.say(response(requests(channel, "mcp_status")[0]["request_id"]))

    assert Result.INTERRUPTED is (await ended(ending)).result
    assert not begun(channel)
    channel.exit(0)


async def test_next_turn_may_begin_before_all_is_told_again(tasks: Tasks) -> None:
    """Its prompt is given once."""
    channel = FakeChannel()
    channel.answers = False
    channel.say(*HISTORY, turn_ends(SECOND))
    process = make_process(channel, tasks)
    await ended(await process.adopt(make_work(execution_id="e2"), Book()))
    ending = await process.begin(make_work(execution_id="e3"), Book())
    third = frames.stable_uuid("message/e3")
    await until(lambda: begun(channel) and requests(channel, "mcp_status"))
    channel.say(response(f"moorline/turn/{third}"))
    channel.say(response(requests(channel, "mcp_status")[0]["request_id"]), turn_ends(third))
    await ended(ending)
    channel.exit(0)

    assert 1 == len([frame for frame in channel.written if frame["type"] == "user"])


async def test_attendance_is_taken_over(tasks: Tasks) -> None:
    """It goes on as long as the work does."""
    marker = response(f"moorline/attend/{SECOND}")
    printed = [*HISTORY[:8], left(1), marker, said("so far")]
    _, channel, (book, ending) = await adopt(tasks, *printed, background=True)
    channel.say(*own_turn("done"), left(0))
    await ended(ending)
    channel.exit(0)

    assert ["so far", "done"] == texts(book)
    assert not begun(channel)


async def test_attendance_of_others_may_end_by_itself(tasks: Tasks) -> None:
    """What is said after it is the next turn's."""
    printed = [
        left(1),
        response("moorline/attend/another"),
        said("theirs"),
        left(0),
        *own_turn("mine"),
        *turn_begins(SECOND),
    ]
    _, channel, (book, _) = await adopt(tasks, *printed)
    channel.exit(0)
    await asyncio.sleep(0)

    assert ["mine"] == texts(book)


async def test_permissions_are_given_again_where_all_is_accepted(tasks: Tasks) -> None:
    """Not for turns that are over; a process that has them already does not mind."""
    mode = executions_pb2.Execution.PERMISSION_MODE_ACCEPT_ALL
    _, channel, _ = await adopt(tasks, *HISTORY, permission_mode=mode)
    await until(lambda: answers(channel))
    channel.exit(0)

    assert ["r1"] == [answer["request_id"] for answer in answers(channel)]


class LostChannel(FakeChannel):
    """A channel to a process that is gone."""

    async def open(self, receiver: Receiver) -> None:
        """See `Channel`."""
        raise Failure(errors_pb2.ERROR_REASON_EXECUTION_LOST, "gone")


async def test_process_that_is_gone_cannot_be_adopted(tasks: Tasks) -> None:
    """Who tries is told."""
    process = make_process(LostChannel(), tasks)
    with pytest.raises(Failure) as caught:
        await process.adopt(make_work(), Book())

    assert "EXECUTION_LOST" == caught.value.reason_name


async def test_process_may_die_while_it_is_adopted(tasks: Tasks) -> None:
    """The turn ends with it."""
    channel = FakeChannel()
    channel.answers = False
    channel.say(*HISTORY)
    process = make_process(channel, tasks)
    ending = await process.adopt(make_work(execution_id="e2"), Book())
    await until(lambda: requests(channel, "mcp_status"))
    channel.exit(1)

    assert Result.DIED is (await ended(ending)).result


async def test_what_was_told_first_is_told_first_again(tasks: Tasks, tmp_path: Path) -> None:
    """What the process before had not told, in the book of the first turn of this one."""
    place = await Workspaces(root=tmp_path).make("abcdefgh")
    view = View(files="/workspace", state="/state", run="/run")
    restore(place, view, "s1", "", 0, ['{"type":"user","uuid":"u0"}'])
    belongings = Belongings(place=place, view=view, conversation="s1", last_entry="")
    books = []
    for adopted in (False, True):
        channel, book = FakeChannel(), Book()
        process = make_process(channel, tasks, resume="s1", belongings=belongings)
        work = make_work(execution_id="e2")
        if adopted:
            channel.say(*turn_begins(SECOND))
            await process.adopt(work, book)
        else:
            await process.open()
            await process.begin(work, book)
        await until(lambda book=book: book.last)  # type: ignore[misc]
        channel.exit(0)
        books.append(entries(book))

    assert [["u0"], ["u0"]] == books


async def test_request_that_cannot_be_allowed_stays_open(tasks: Tasks) -> None:
    """Who decided so is told."""
    process, channel, (book, _) = await adopt(tasks, *HISTORY)
    with pytest.raises(Failure) as caught:
        await process.answer(
            transcript_pb2.PermissionDecision(
                permission_id="r1", allowed=True, suggestion_id="none"
            )
        )
    await process.answer(decision("r1", allowed=False))
    channel.exit(0)

    assert "FIELD_INVALID" == caught.value.reason_name
    assert 1 == len(answers(channel))
    assert items(book)
