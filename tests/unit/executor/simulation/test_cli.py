"""Tests of `services.executor.channels.simulation.cli`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from services.executor.channel import Exit, ExitReason
from tests.unit.executor.simulation.terminal import Start, Terminal


async def test_turn_has_the_frames_of_a_turn(terminal: Terminal) -> None:
    """From the notice of the message to idleness."""
    result = await terminal.turn("/sim say one two")
    shape = [
        frame.get("state")
        or frame.get("subtype")
        or (frame["event"]["type"] if "event" in frame else frame["type"])
        for frame in terminal.seen
    ]

    assert [
        "running",
        "queued",
        "started",
        "init",
        "status",
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "assistant",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "success",
        "completed",
        "idle",
    ] == shape
    assert ["one", " two"] == terminal.deltas()
    assert ("u1", False, "one two") == (
        result["user_message_uuid"],
        result["is_error"],
        result["result"],
    )
    assert "s1" == terminal.of_type("init")[0]["session_id"]
    uuids = [frame["uuid"] for frame in terminal.seen]
    assert len(uuids) == len(set(uuids))


async def test_same_run_prints_the_same(start: Start) -> None:
    """Ids come from the seed; another message gets others."""
    runs = []
    for message_id in ("u1", "u1", "u2"):
        terminal = start("--session-id=s1")
        await terminal.turn("/sim say hello\n/sim write a b", message_id)
        runs.append(terminal.seen)

    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@pytest.mark.parametrize(
    ("response", "output", "failed"),
    [
        ({"response": {"behavior": "allow"}}, "ok", False),
        ({"response": {"behavior": "deny", "message": "never"}}, "never", True),
        ({"subtype": "error", "error": "broken"}, "broken", True),
        ({}, "Refused.", True),
    ],
)
async def test_asking_waits_for_the_answer(
    terminal: Terminal, response: dict[str, Any], output: str, failed: bool
) -> None:
    """The tool's result says what was decided; an answer to nothing is left alone."""
    terminal.prompt("/sim ask Bash rm it\n/sim say on")
    await terminal.until("requires_action")
    asked = await terminal.until("control_request")
    for request_id in ("unknown", asked["request_id"], asked["request_id"]):
        answer = {"request_id": request_id, **response}
        terminal.send(type="control_response", response=answer)
    result = await terminal.until("result")
    told = terminal.of_type("user")[0]["message"]["content"][0]

    assert ("Bash", {"text": "rm it"}) == (
        asked["request"]["tool_name"],
        asked["request"]["input"],
    )
    assert (output, failed) == (told["content"], told["is_error"])
    assert failed == bool(result["permission_denials"])
    assert "on" == result["result"]


async def test_mode_may_spare_the_question(start: Start) -> None:
    """Nobody is asked for an edit where edits are accepted."""
    terminal = start("--permission-mode=acceptEdits", "--resume=s9")
    await terminal.turn("/sim ask Write x")

    assert [] == terminal.of_type("control_request")
    assert "ok" == terminal.of_type("user")[0]["message"]["content"][0]["content"]
    assert "s9" == terminal.of_type("init")[0]["session_id"]


async def test_mode_that_accepts_edits_asks_for_commands(start: Start) -> None:
    """Only editing is free."""
    terminal = start("--permission-mode=acceptEdits")
    terminal.prompt("/sim ask Bash x")
    await terminal.until("control_request")
    terminal.cli.kill()


async def test_interrupt_ends_the_turn_and_withdraws_the_question(terminal: Terminal) -> None:
    """The process takes the next turn; late interrupts find nothing."""
    terminal.prompt("/sim ask Bash x\n/sim say never")
    asked = await terminal.until("control_request")
    terminal.request("interrupt")
    terminal.request("interrupt")
    withdrawn = await terminal.until("control_cancel_request")
    response = {"request_id": asked["request_id"]}
    terminal.send(type="control_response", response=response)
    interrupted = await terminal.until("result")
    terminal.request("interrupt")
    result = await terminal.turn("/sim say alive")

    assert asked["request_id"] == withdrawn["request_id"]
    assert ("error_during_execution", "aborted_streaming") == (
        interrupted["subtype"],
        interrupted["terminal_reason"],
    )
    assert "alive" == result["result"]


@pytest.mark.parametrize("script", ["/sim stream 1000 60", "/sim sleep 60000"])
async def test_interrupt_reaches_what_takes_time(terminal: Terminal, script: str) -> None:
    """In the middle of it: its end would not come within the test's time."""
    terminal.prompt(script)
    await terminal.until("status")
    terminal.request("interrupt")
    interrupted = await terminal.until("result")

    assert "aborted_streaming" == interrupted["terminal_reason"]


async def test_usage_is_what_the_script_says(terminal: Terminal) -> None:
    """The total grows over the turns, the difference does not."""
    await terminal.turn("/sim usage 1 2 3000000")
    result = await terminal.turn("/sim usage 4 5 1000000", "u2")
    usage = result["model_usage_since_last_result"]["simulation"]

    assert (4, 5, 1.0) == (usage["inputTokens"], usage["outputTokens"], usage["costUSD"])
    assert 4.0 == result["total_cost_usd"]
    assert 1 == result["result_index"]


async def test_crash_is_an_exit(terminal: Terminal) -> None:
    """Code 1, without a result; nothing is taken in any more."""
    terminal.prompt("/sim say x\n/sim crash")
    ended = await terminal.cli.exited
    terminal.prompt("/sim say y")
    terminal.cli.close_input()
    terminal.cli.kill()

    assert Exit(1, ExitReason.EXITED) == ended
    with pytest.raises(EOFError):
        await terminal.until("result")


@pytest.mark.timeout(5)
async def test_bug_in_a_turn_is_an_exit(
    terminal: Terminal, caplog: pytest.LogCaptureFixture
) -> None:
    """Code 1, as of any program that dies, and one line in the log."""
    terminal.send(type="user", uuid="u1", message={"role": "user", "content": 7})
    ended = await terminal.cli.exited

    assert Exit(1, ExitReason.EXITED) == ended
    assert ["task failed"] == [record.message for record in caplog.records]
    with pytest.raises(EOFError):
        await terminal.until("result")


async def test_hanging_process_reacts_to_a_kill_only(terminal: Terminal) -> None:
    """It is deaf, and its input may close."""
    terminal.prompt("/sim hang")
    await terminal.until("status")
    await asyncio.sleep(0)
    terminal.request("interrupt")
    terminal.cli.close_input()
    await asyncio.sleep(0.02)
    alive = not terminal.cli.exited.done()
    terminal.cli.kill()

    assert alive
    assert Exit(-9, ExitReason.KILLED) == await terminal.cli.exited


@pytest.mark.parametrize(("script", "code"), [("/sim stream 3 5", 0), ("/sim fail auth", 1)])
async def test_closed_input_lets_the_turn_finish(
    terminal: Terminal, script: str, code: int
) -> None:
    """Then it exits, with 1 when the last result was an error."""
    terminal.prompt(script)
    terminal.cli.close_input()
    terminal.prompt("/sim say too late")
    await terminal.until("result")

    assert Exit(code, ExitReason.EXITED) == await terminal.cli.exited


async def test_idle_process_exits_when_its_input_closes(terminal: Terminal) -> None:
    """At once."""
    terminal.cli.close_input()

    assert Exit(0, ExitReason.EXITED) == await terminal.cli.exited


async def test_line_that_is_not_json_ends_the_process(terminal: Terminal) -> None:
    """As the real one does."""
    terminal.cli.receive(b"hello")

    assert Exit(1, ExitReason.EXITED) == await terminal.cli.exited


async def test_control_requests_are_answered(terminal: Terminal) -> None:
    """Known ones with success, others with an error; unknown frames are skipped."""
    terminal.send(type="novelty")
    terminal.request("initialize")
    known = await terminal.until("control_response")
    terminal.request("dance")
    unknown = await terminal.until("control_response")

    assert "success" == known["response"]["subtype"]
    assert "unsupported_request" == unknown["response"]["error"]


async def test_mode_and_model_can_be_changed(start: Start) -> None:
    """Between two turns, and back; the mode that never asks is refused."""
    terminal = start("--model=big", "--session-id=s1")
    terminal.request("set_permission_mode", mode="acceptEdits")
    mode = await terminal.until("control_response")
    terminal.request("set_model", model="small")
    await terminal.turn("/sim ask Write x")
    terminal.request("set_model", model="default")
    terminal.request("set_permission_mode", mode="bypassPermissions")
    await terminal.until("control_response")
    refused = await terminal.until("control_response")
    result = await terminal.turn("/sim say x", "u2")
    small, big = terminal.of_type("init")

    assert {"mode": "acceptEdits"} == mode["response"]["response"]
    assert ("small", "acceptEdits") == (small["model"], small["permissionMode"])
    assert "error" == refused["response"]["subtype"]
    assert "big" == big["model"]
    assert ["big"] == list(result["modelUsage"])
    assert [] == terminal.of_type("control_request")


async def test_status_of_servers_is_told(terminal: Terminal) -> None:
    """There are none."""
    terminal.request("mcp_status")
    status = await terminal.until("control_response")

    assert {"mcpServers": []} == status["response"]["response"]


async def test_background_work_has_a_turn_of_its_own(terminal: Terminal) -> None:
    """It begins when the work has ended, answers no message, and says what was asked for."""
    first = await terminal.turn("/sim background 20 it is done\n/sim say started")
    started = terminal.of_type("task_started")[0]
    second = await terminal.until("result")
    changes = [len(frame["tasks"]) for frame in terminal.of_type("background_tasks_changed")]

    assert "started" == first["result"]
    assert "it is done" == started["description"] == second["result"]
    assert {"kind": "task-notification"} == second["origin"]
    assert "user_message_uuid" not in second
    assert "user_message_uuids" not in terminal.of_type("init")[1]
    assert [1, 0] == changes
    assert "completed" == terminal.of_type("task_notification")[0]["status"]


async def test_background_work_waits_for_the_turn_to_end(terminal: Terminal) -> None:
    """One turn at a time."""
    terminal.prompt("/sim background 0 later\n/sim sleep 30\n/sim say now")
    first = await terminal.until("result")
    second = await terminal.until("result")

    assert ["now", "later"] == [first["result"], second["result"]]


async def test_background_work_ends_with_its_process(terminal: Terminal) -> None:
    """Without a word."""
    await terminal.turn("/sim background 20 never")
    terminal.cli.close_input()

    assert Exit(0, ExitReason.EXITED) == await terminal.cli.exited
    with pytest.raises(EOFError):
        await terminal.until("task_notification")


async def test_conversation_remembers_its_remarks(start: Start, tmp_path: Path) -> None:
    """Over processes, by its transcript, whose growth is told."""
    environment = {"CLAUDE_CONFIG_DIR": str(tmp_path / "claude")}
    terminal = start("--session-id=s1", "--session-mirror", environment=environment)
    nothing = await terminal.turn("/sim recall")
    await terminal.turn("first\n/sim say x", "u2")
    (mirrored,) = terminal.of_type("transcript_mirror")
    again = start("--resume=s1", "--session-mirror", environment=environment)
    result = await again.turn("second\n/sim recall", "u3")
    other = await start("--resume=s2", environment=environment).turn("/sim recall", "u4")

    assert "I remember nothing." == nothing["result"] == other["result"]
    assert "I remember: first" == result["result"]
    assert Path(mirrored["filePath"]).name == "s1.jsonl"
    assert ["u2"] == [entry["uuid"] for entry in mirrored["entries"]]


async def test_second_prompt_waits_for_its_turn(terminal: Terminal) -> None:
    """Each gets its own result."""
    terminal.prompt("/sim say one", "u1")
    terminal.prompt("/sim say two", "u2")
    first = await terminal.until("result")
    second = await terminal.until("result")

    assert ["u1", "u2"] == [first["user_message_uuid"], second["user_message_uuid"]]
