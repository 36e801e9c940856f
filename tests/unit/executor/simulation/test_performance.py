"""Tests of `services.executor.channels.simulation.performance`, through a process."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from services.executor.channels.simulation.script import FAILURES
from tests.unit.executor.fakes import until
from tests.unit.executor.simulation.terminal import Start, Terminal


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
    assert took >= 0.045


async def test_paced_stream_nobody_reads_is_held_back(terminal: Terminal) -> None:
    """It waits for its reader instead of filling memory, and loses nothing."""
    terminal.prompt("/sim stream 400 1")
    lines = terminal.cli.lines
    await until(lambda: lines.full)
    held = len(lines._waiting)
    await asyncio.sleep(0.02)
    later = len(lines._waiting)
    await terminal.until("result")

    assert held == later
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


async def test_edit_is_asked_for_and_done(terminal: Terminal, tmp_path: Path) -> None:
    """One replacement; a part that is not there once is a failure."""
    (tmp_path / "a.txt").write_text("one two two")
    terminal.prompt("/sim edit a.txt one=>1\n/sim edit a.txt two=>2\n/sim say done")
    for _ in range(2):
        terminal.allow(await terminal.until("control_request"))
    await terminal.until("result")
    outputs = [frame["message"]["content"][0] for frame in terminal.of_type("user")]

    assert "1 two two" == (tmp_path / "a.txt").read_text()
    assert [False, True] == [output["is_error"] for output in outputs]


async def test_fill_writes_long_files(terminal: Terminal, tmp_path: Path) -> None:
    """The call carries the content."""
    await terminal.turn("/sim fill a.txt 100000")
    call = terminal.of_type("assistant")[0]["message"]["content"][0]

    assert "x" * 100_000 == (tmp_path / "a.txt").read_text() == call["input"]["content"]


async def test_command_that_changes_something_is_asked_for(
    terminal: Terminal, tmp_path: Path
) -> None:
    """With what may be allowed for the time to come; a rule then spares the next question."""
    terminal.prompt("/sim bash echo hi\n/sim bash touch a\n/sim bash touch a")
    asked = await terminal.until("control_request")
    rules, mode = asked["request"]["permission_suggestions"]
    terminal.allow(asked, updatedPermissions=[rules])
    await terminal.until("result")

    assert [{"toolName": "Bash", "ruleContent": "touch a"}] == rules["rules"]
    assert "acceptEdits" == mode["mode"]
    assert 1 == len(terminal.of_type("control_request"))
    assert (tmp_path / "a").exists()


async def test_edits_can_be_accepted_from_now_on(terminal: Terminal) -> None:
    """The mode changes, and that is told."""
    terminal.prompt("/sim ask Edit x\n/sim ask Edit y")
    asked = await terminal.until("control_request")
    (mode,) = asked["request"]["permission_suggestions"]
    terminal.allow(asked, updatedPermissions=[mode])
    await terminal.until("result")

    assert 1 == len(terminal.of_type("control_request"))
    assert "acceptEdits" == terminal.of_type("status")[1]["permissionMode"]


async def test_question_is_answered_by_the_user(start: Start) -> None:
    """Whatever else is allowed; the tool's result repeats the answer."""
    terminal = start("--permission-mode=acceptEdits", "--allowedTools=AskUserQuestion")
    terminal.prompt("/sim question Which one? A|B")
    asked = await terminal.until("control_request")
    answered = {**asked["request"]["input"], "answers": {"Which one?": "B"}}
    terminal.allow(asked, updatedInput=answered)
    await terminal.until("result")
    output = terminal.of_type("user")[0]["message"]["content"][0]["content"]

    assert asked["request"]["requires_user_interaction"]
    assert '"Which one?"="B"' in output


async def test_allowed_plan_ends_the_mode_of_planning(start: Start) -> None:
    """A refused one does not."""
    terminal = start("--permission-mode=plan")
    terminal.prompt("/sim plan # One\n/sim plan # Two\\nmore")
    asked = await terminal.until("control_request")
    denial = {"behavior": "deny", "message": "no"}
    response = {"request_id": asked["request_id"], "response": denial}
    terminal.send(type="control_response", response=response)
    asked = await terminal.until("control_request")
    mode = {"type": "setMode", "mode": "default", "destination": "session"}
    terminal.allow(asked, updatedPermissions=[mode])
    await terminal.until("result")
    refused, allowed = (frame["message"]["content"][0] for frame in terminal.of_type("user"))

    assert {"plan": "# Two\nmore"} == asked["request"]["input"]
    assert (True, False) == (refused["is_error"], allowed["is_error"])
    assert "default" == terminal.of_type("status")[-1]["permissionMode"]


async def test_sub_agent_is_told_by_its_parent(terminal: Terminal, tmp_path: Path) -> None:
    """Its calls and its words name the call that started it; nothing of it is streamed."""
    await terminal.turn(
        "/sim task write a x ;; think hm ;; stream 2 0 ;; say found it\n/sim say ok"
    )
    call = terminal.of_type("assistant")[0]["message"]["content"][0]
    inner = [frame for frame in terminal.seen if frame.get("parent_tool_use_id") == call["id"]]
    kinds = [frame["message"]["content"][0]["type"] for frame in inner]

    assert "Agent" == call["name"]
    assert ["text", "tool_use", "tool_result", "thinking", "text", "text"] == kinds
    assert [None, "ok"] == terminal.deltas()
    assert "found it" == terminal.of_type("user")[-1]["message"]["content"][0]["content"]
    assert "x" == (tmp_path / "a").read_text()


async def test_tools_of_one_message_run_one_after_another(terminal: Terminal) -> None:
    """The calls come first, then the results; another step is not among them."""
    await terminal.turn("/sim parallel 2\n/sim bash echo 1\n/sim bash echo 2\n/sim say done")
    kinds = [
        frame["message"]["content"][0]["type"]
        for frame in terminal.seen
        if frame["type"] in {"assistant", "user"}
    ]

    assert ["tool_use", "tool_use", "tool_result", "tool_result", "text"] == kinds
    assert 2 == len(terminal.events("message_start"))


@pytest.mark.parametrize(
    ("step", "statuses"),
    [("retry 2 529", [529, 529]), ("retry 1 0", [None]), ("silence", [None])],
)
async def test_provider_is_asked_again(
    terminal: Terminal, step: str, statuses: list[int | None]
) -> None:
    """Then the turn goes on."""
    result = await terminal.turn(f"/sim {step}\n/sim say on")

    assert statuses == [frame["error_status"] for frame in terminal.of_type("api_retry")]
    assert "on" == result["result"]


async def test_overloaded_model_is_replaced(start: Start) -> None:
    """When there is another one; else the turn fails."""
    terminal = start("--model=big", "--fallback-model=small")
    result = await terminal.turn("/sim fallback\n/sim say on")
    (told,) = terminal.of_type("model_fallback")
    failed = await start("--model=big").turn("/sim fallback\n/sim say on")

    assert ("big", "small") == (told["original_model"], told["fallback_model"])
    assert ["small"] == list(result["modelUsage"])
    assert "small" == terminal.of_type("assistant")[0]["message"]["model"]
    assert 529 == failed["api_error_status"]


async def test_text_may_come_whole(terminal: Terminal) -> None:
    """Without fragments; one cut short by an error stays."""
    result = await terminal.turn("/sim error half\n/sim unstreamed whole text")

    assert ["half"] == terminal.deltas()
    assert "whole text" == result["result"]


async def test_model_that_refuses_goes_on_once(terminal: Terminal) -> None:
    """What it said stands; the second time ends the turn, and a later turn begins anew."""
    refused = await terminal.turn("/sim refuse one\n/sim refuse two\n/sim say never")
    after = await terminal.turn("/sim refuse\n/sim say on")
    marked = [frame for frame in terminal.of_type("user") if frame.get("refused_message_id")]

    assert ("api_error", "refusal", None) == (
        refused["terminal_reason"],
        refused["stop_reason"],
        refused["api_error_status"],
    )
    assert refused["is_error"]
    assert ["one", "two", "on"] == terminal.deltas()
    assert 2 == len(marked)
    assert (False, "on") == (after["is_error"], after["result"])


async def test_memory_is_shortened(terminal: Terminal) -> None:
    """The notice tells by how much."""
    await terminal.turn("/sim compact\n/sim say on")
    facts = terminal.of_type("compact_boundary")[0]["compact_metadata"]

    assert "auto" == facts["trigger"]
    assert facts["pre_tokens"] > facts["post_tokens"] > 0


async def test_steps_may_be_limited(start: Start) -> None:
    """By messages that call tools."""
    result = await start("--max-turns=2").turn("/sim bash true\n" * 3)

    assert ("error_max_turns", True) == (result["subtype"], result["is_error"])
