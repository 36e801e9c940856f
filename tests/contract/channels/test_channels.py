"""What every channel holds: the docstrings of `Channel`, as tests."""

from __future__ import annotations

import asyncio
import os
import uuid
from datetime import timedelta
from typing import Any

import pytest

from moorline.executor.v1 import executions_pb2
from services.chassis.tasks import Tasks
from services.executor.agent_process import Result, Work
from services.executor.book import Book
from services.executor.channel import Channel, Exit, ExitReason, Launch
from services.executor.claude_code import frames
from services.executor.claude_code.dialogue import Dialogue
from services.executor.claude_code.patience import PATIENCE
from services.executor.claude_code.process import ClaudeCode
from tests.contract.channels.conftest import Factory
from tests.contract.channels.reader import PATIENCE_SECONDS, Reader


async def prompt(channel: Channel, text: str) -> None:
    """Begin a turn."""
    message_id = str(uuid.uuid4())
    await channel.write(frames.prompt(text=text, message_id=message_id, session_id=""))


async def gone(channel: Channel) -> Exit:
    """Wait until the process is gone."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await channel.wait()


def text_of(seen: list[dict[str, Any]]) -> str:
    """Return the text that was streamed."""
    events = [frame["event"] for frame in seen if frame["type"] == "stream_event"]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    return "".join(delta.get("text", "") for delta in deltas)


async def test_lines_go_both_ways(channel: Channel, reader: Reader) -> None:
    """A request written is answered."""
    await channel.write(frames.request("initialize", request_id="r1"))
    (answer,) = (await reader.until(type="control_response"))[-1:]

    assert "r1" == answer["response"]["request_id"]


async def test_burst_loses_nothing(channel: Channel, reader: Reader) -> None:
    """Every line once, in order, far more than fit anywhere; several at a time."""
    await prompt(channel, "/sim stream 5000 0")
    seen = await reader.until(type="result")

    assert " ".join(f"w{number}" for number in range(1, 5001)) == text_of(seen)
    assert reader.batches < len(seen)


async def test_what_nobody_reads_is_held_back_and_kept(channel: Channel, reader: Reader) -> None:
    """The process waits for its reader."""
    await prompt(channel, "/sim stream 5000 0")
    await asyncio.sleep(0.1)
    seen = await reader.until(type="result")

    assert text_of(seen).endswith(" w5000")


async def test_long_lines_pass_whole(channel: Channel, reader: Reader) -> None:
    """Both ways, any language, quotes and line ends included."""
    text = '한글 "x" \\ \u2028 \r\n' * 6_000
    await prompt(channel, text)
    seen = await reader.until(type="result")

    assert text_of(seen).endswith(text)


async def test_two_turns_in_one_process(channel: Channel, reader: Reader) -> None:
    """It lives on between them."""
    for word in ("one", "two"):
        await prompt(channel, f"/sim say {word}")

        assert word == text_of(await reader.until(subtype="session_state_changed", state="idle"))


async def test_interrupt_is_a_line_like_any_other(channel: Channel, reader: Reader) -> None:
    """It arrives while the process prints."""
    await prompt(channel, "/sim stream 100000 5")
    await reader.until(type="stream_event")
    await channel.write(frames.request("interrupt", request_id="r1"))
    seen = await reader.until(type="result")

    assert seen[-1]["is_error"]


async def test_closed_input_lets_the_turn_finish(channel: Channel, reader: Reader) -> None:
    """Then the lines end, and the exit is clean; closing again changes nothing."""
    await prompt(channel, "/sim stream 20 5")
    await channel.close_input()
    await channel.close_input()
    await prompt(channel, "/sim say dropped")
    seen = await reader.rest()

    assert text_of(seen).endswith("w20")
    assert Exit(0, ExitReason.EXITED) == await gone(channel)


async def test_kill_ends_a_process_that_hangs(channel: Channel, reader: Reader) -> None:
    """The lines end, every waiter gets the same answer, and another kill changes nothing."""
    await prompt(channel, "/sim hang")
    await reader.until(subtype="status")
    waiting = [asyncio.ensure_future(gone(channel)) for _ in range(3)]
    await asyncio.sleep(0.05)
    early = [one.done() for one in waiting]
    await channel.kill()
    await channel.kill()
    ends = await asyncio.gather(*waiting)
    await reader.rest()

    assert [False] * 3 == early
    assert 1 == len(set(ends))
    assert ExitReason.KILLED is ends[0].reason


async def test_kill_reaches_a_process_that_is_held_back(channel: Channel) -> None:
    """Nobody has to read for that."""
    await prompt(channel, "/sim stream 1000000 0")
    await asyncio.sleep(0.05)
    await channel.kill()

    assert ExitReason.KILLED is (await gone(channel)).reason


async def test_crash_is_an_exit_with_its_code(channel: Channel, reader: Reader) -> None:
    """What was printed before it arrives first; what is written after it is dropped."""
    await prompt(channel, "/sim say last words\n/sim crash")
    seen = await reader.rest()
    ended = await gone(channel)
    await prompt(channel, "/sim say hello?")
    await channel.close_input()
    await channel.kill()

    assert "last words" == text_of(seen)
    assert Exit(1, ExitReason.EXITED) == ended == await gone(channel)


async def test_cancelled_wait_leaves_the_process_alone(channel: Channel, reader: Reader) -> None:
    """Who waits may go away."""
    waiting = asyncio.ensure_future(channel.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await prompt(channel, "/sim say alive")

    assert "alive" == text_of(await reader.until(type="result"))


async def test_files_are_written_in_the_workspace(
    channel: Channel, reader: Reader, launch: Launch
) -> None:
    """Exactly the expected bytes, and nothing outside."""
    await prompt(channel, "/sim write a/b.txt 한글 text\n/sim write ../escape x")
    await reader.until(type="result")

    assert "한글 text".encode() == (launch.place.files / "a" / "b.txt").read_bytes()
    assert not (launch.place.files.parent / "escape").exists()


async def test_tool_that_cannot_work_ends_nothing(
    channel: Channel, reader: Reader, launch: Launch
) -> None:
    """Neither a path of many parts nor a pipe without a partner holds up the turn."""
    os.mkfifo(launch.place.files / "pipe")
    script = ["/sim write " + "d/" * 1200 + "f y", "/sim read pipe", "/sim write pipe y"]
    await prompt(channel, "\n".join([*script, "/sim say on"]))
    seen = await reader.until(type="result")
    results = [frame["message"]["content"][0] for frame in seen if frame["type"] == "user"]

    assert [True] * 3 == [result["is_error"] for result in results]
    assert "on" == seen[-1]["result"]


@pytest.mark.parametrize(
    ("script", "result"),
    [
        ("/sim say hi", Result.FINISHED),
        ("/sim fail overloaded", Result.FAILED),
        ("/sim crash", Result.DIED),
    ],
)
async def test_adapter_of_production_runs_a_turn(
    factory: Factory, launch: Launch, script: str, result: Result
) -> None:
    """From the handshake to the end of the turn."""
    work = Work(
        execution_id="e1",
        backend="any",
        workspace=launch.place.workspace,
        prompt=script,
        instructions="",
        permission_mode=executions_pb2.Execution.PERMISSION_MODE_ASK,
        resume_from="",
        timeout=timedelta(seconds=PATIENCE_SECONDS),
    )
    async with factory(launch) as channel, Tasks() as tasks:
        dialogue = Dialogue(
            conversation="",
            mode="default",
            model=frames.DEFAULT_MODEL,
            last_entry="",
            files=launch.place.files,
            seen_as=str(launch.place.files),
        )
        process = ClaudeCode(
            channel=channel,
            dialogue=dialogue,
            terms=frames.Terms(instructions="", rules=(), max_steps=0, fallback_model=""),
            default_model="",
            belongings=None,
            patience=PATIENCE,
            tasks=tasks,
        )
        await process.open()
        async with asyncio.timeout(PATIENCE_SECONDS):
            ending = await (await process.begin(work, Book()))
        await process.close()

    assert result is ending.result
