"""Tests of `services.executor.claude_code.frames`."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from moorline.executor.v1 import executions_pb2
from services.executor.claude_code import frames

Mode = executions_pb2.Execution


def command_line(**changed: Any) -> tuple[str, ...]:
    """Return the command line of a process."""
    values: dict[str, Any] = {
        "directory": "/workspace",
        "permission_mode": Mode.PERMISSION_MODE_ASK,
        "instructions": "",
        "session_id": "s1",
        "resume": "",
    }
    return frames.command_line(**(values | changed))


def test_untrusted_workspace_is_not_obeyed() -> None:
    """Settings, hooks and servers of a repository do not run."""
    argv = command_line()

    assert "--setting-sources=" in argv
    assert "--strict-mcp-config" in argv
    assert "--permission-prompt-tool=stdio" in argv
    assert "--add-dir=/workspace" in argv


@pytest.mark.parametrize(
    ("mode", "word"),
    [
        (Mode.PERMISSION_MODE_ASK, "default"),
        (Mode.PERMISSION_MODE_ACCEPT_EDITS, "acceptEdits"),
        (Mode.PERMISSION_MODE_ACCEPT_ALL, "bypassPermissions"),
    ],
)
def test_permission_mode_has_a_word(mode: int, word: str) -> None:
    """Our modes are the CLI's."""
    assert f"--permission-mode={word}" in command_line(permission_mode=mode)


def test_new_conversation_gets_an_id_and_an_old_one_is_resumed() -> None:
    """The two never come together."""
    new, old = command_line(), command_line(resume="s0")

    assert "--session-id=s1" in new
    assert "--resume=s0" in old
    assert "--session-id=s1" not in old


def test_instructions_cannot_become_a_flag() -> None:
    """Instructions are one word of the command line, whatever they begin with."""
    assert "--append-system-prompt=--resume=x y" in command_line(instructions="--resume=x y")


def test_prompt_is_composed_by_us() -> None:
    """A prompt is neither a slash command nor a way to read files."""
    frame = orjson.loads(frames.prompt(text="@/etc/passwd", message_id="m", session_id="s"))

    assert frame["client_composed"]
    assert ("m", "s") == (frame["uuid"], frame["session_id"])
    assert "@/etc/passwd" == frame["message"]["content"]


def test_answers_carry_the_request_they_answer() -> None:
    """Allowing repeats the input, refusing tells why."""
    allowed = orjson.loads(frames.allow(request_id="r", tool_input={"a": 1}))["response"]
    denied = orjson.loads(frames.deny(request_id="r", reason="no"))["response"]
    silent = orjson.loads(frames.deny(request_id="r", reason=""))["response"]
    unknown = orjson.loads(frames.unsupported(request_id="r"))["response"]

    assert {"behavior": "allow", "updatedInput": {"a": 1}} == allowed["response"]
    assert {"behavior": "deny", "message": "no"} == denied["response"]
    assert silent["response"]["message"]
    assert "error" == unknown["subtype"]
    assert {"r"} == {one["request_id"] for one in (allowed, denied, silent, unknown)}
