"""Tests of `services.executor.channels.simulation.performance`, through a process."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from services.executor.channels.simulation.script import FAILURES
from tests.unit.executor.simulation.terminal import Terminal


async def test_whole_text_is_printed_with_its_white_space(terminal: Terminal) -> None:
    """The fragments make up the message exactly."""
    await terminal.turn(" hello \n\n world \n")
    text = terminal.of_type("assistant")[0]["message"]["content"][0]["text"]

    assert text.endswith("User message:  hello \n\n world \n")
    assert text == "".join(terminal.deltas())


async def test_stream_counts_words(terminal: Terminal) -> None:
    """One word a fragment, as many as wanted, more than a queue holds."""
    result = await terminal.turn("/sim stream 1000 0")

    assert " ".join(f"w{number}" for number in range(1, 1001)) == result["result"]
    assert 1000 == len(terminal.deltas()) == result["usage"]["output_tokens"]


async def test_paced_stream_keeps_its_time(terminal: Terminal) -> None:
    """N words take N-1 pauses."""
    started = time.monotonic()
    result = await terminal.turn("/sim stream 6 10")
    took = time.monotonic() - started

    assert "w1 w2 w3 w4 w5 w6" == result["result"]
    assert 0.045 <= took < 3


async def test_paced_stream_nobody_reads_is_held_back(terminal: Terminal) -> None:
    """It waits for its reader instead of filling memory, and loses nothing."""
    terminal.prompt("/sim stream 400 1")
    await asyncio.sleep(0.4)
    held = terminal.cli.lines.full
    await terminal.until("result")

    assert held
    assert 400 == len(terminal.deltas())


async def test_clock_tells_the_time(terminal: Terminal) -> None:
    """Each word is a time in microseconds, in order."""
    before = time.time_ns() // 1000
    result = await terminal.turn("/sim clock 3 2")
    words = [int(word) for word in result["result"].split(" ")]

    assert before <= words[0] < words[1] < words[2] <= time.time_ns() // 1000


async def test_thought_is_a_block_of_its_own(terminal: Terminal) -> None:
    """It is not the answer."""
    result = await terminal.turn("/sim think well well")
    (content,) = terminal.of_type("assistant")[0]["message"]["content"]

    assert ("thinking", "well well") == (content["type"], content["thinking"])
    assert "" == result["result"]


async def test_tools_work_on_files(terminal: Terminal, tmp_path: Path) -> None:
    """What is written is there; what is refused fails, and the turn goes on."""
    result = await terminal.turn(
        "/sim write a/b.txt some text\n/sim read a/b.txt\n/sim read ../x\n/sim say done"
    )
    outputs = [frame["message"]["content"][0] for frame in terminal.of_type("user")]
    calls = [
        frame["message"]["content"][0]
        for frame in terminal.of_type("assistant")
        if frame["message"]["content"][0]["type"] == "tool_use"
    ]

    assert "some text" == (tmp_path / "a/b.txt").read_text()
    assert [False, False, True] == [output["is_error"] for output in outputs]
    assert "some text" == outputs[1]["content"]
    assert [call["id"] for call in calls] == [output["tool_use_id"] for output in outputs]
    assert {"file_path": "a/b.txt", "content": "some text"} == calls[0]["input"]
    assert "done" == result["result"]


async def test_retracted_text_is_cut_and_never_confirmed(terminal: Terminal) -> None:
    """Stop events without confirmation, then the notice of a retry, then a new message."""
    await terminal.turn("/sim retract bad text\n/sim say good")

    assert ["bad", " text", "good"] == terminal.deltas()
    assert 2 == len(terminal.events("message_stop"))
    assert 1 == len(terminal.of_type("assistant"))
    assert 1 == len(terminal.of_type("api_retry"))


@pytest.mark.parametrize("reason", FAILURES)
async def test_failure_ends_the_turn_with_an_error(terminal: Terminal, reason: str) -> None:
    """What follows in the script does not run."""
    result = await terminal.turn(f"/sim fail {reason}\n/sim say never")

    assert result["is_error"]
    assert [] == terminal.deltas()


@pytest.mark.parametrize(
    ("reason", "status", "retries"),
    [("auth", 401, 0), ("rate_limited", 429, 2), ("provider_unreachable", None, 2)],
)
async def test_provider_failure_comes_as_the_cli_tells_it(
    terminal: Terminal, reason: str, status: int | None, retries: int
) -> None:
    """Success by subtype, an error by its flag; some are retried first."""
    result = await terminal.turn(f"/sim fail {reason}")

    assert ("success", "api_error", status) == (
        result["subtype"],
        result["terminal_reason"],
        result["api_error_status"],
    )
    assert retries == len(terminal.of_type("api_retry"))
    assert "<synthetic>" == terminal.of_type("assistant")[0]["message"]["model"]
