"""Tests of `services.executor.claude_code.frames`."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from moorline.executor.v1 import executions_pb2
from services.executor.claude_code import frames

Mode = executions_pb2.Execution


def terms(**changed: Any) -> frames.Terms:
    """Return what a process is started with."""
    values: dict[str, Any] = {
        "instructions": "",
        "rules": (),
        "max_steps": 0,
        "fallback_model": "",
    }
    return frames.Terms(**(values | changed))


def command_line(**changed: Any) -> tuple[str, ...]:
    """Return the command line of a process."""
    values: dict[str, Any] = {
        "directory": "/workspace",
        "terms": terms(),
        "mode": "default",
        "model": "",
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
        (Mode.PERMISSION_MODE_ACCEPT_ALL, "default"),
        (Mode.PERMISSION_MODE_PLAN, "plan"),
    ],
)
def test_permission_mode_has_a_word(mode: int, word: str) -> None:
    """Our modes are the CLI's, but for the one that is not to be had everywhere."""
    assert word == frames.mode_of(mode)


def test_new_conversation_gets_an_id_and_an_old_one_is_resumed() -> None:
    """The two never come together."""
    new, old = command_line(), command_line(resume="s0")

    assert "--session-id=s1" in new
    assert "--resume=s0" in old
    assert "--session-id=s1" not in old


def test_instructions_cannot_become_a_flag() -> None:
    """Instructions are one word of the command line, whatever they begin with."""
    assert "--append-system-prompt=--resume=x y" in command_line(
        terms=terms(instructions="--resume=x y")
    )


def test_instructions_are_a_word_that_a_command_line_can_hold() -> None:
    """A zero would end it, and the program could not be started."""
    assert "--append-system-prompt=be brief" in command_line(terms=terms(instructions="be\0brief"))


def test_terms_are_words_of_the_command_line() -> None:
    """Each rule is a word of its own; what is not wanted is not mentioned."""
    rules = ("Edit", "Bash(npm test:*)")
    argv = command_line(
        terms=terms(rules=rules, max_steps=3, fallback_model="small"), mode="plan", model="big"
    )

    assert [f"--allowedTools={rule}" for rule in rules] == [
        word for word in argv if word.startswith("--allowedTools")
    ]
    assert {"--max-turns=3", "--fallback-model=small", "--model=big"} <= set(argv)
    assert "--permission-mode=plan" in argv
    assert not [word for word in command_line() if word.startswith(("--max", "--mod", "--fal"))]


def test_prompt_is_composed_by_us() -> None:
    """A prompt is neither a slash command nor a way to read files."""
    frame = orjson.loads(frames.prompt(text="@/etc/passwd", message_id="m", session_id="s"))

    assert frame["client_composed"]
    assert ("m", "s") == (frame["uuid"], frame["session_id"])
    assert "@/etc/passwd" == frame["message"]["content"]


def test_answers_carry_the_request_they_answer() -> None:
    """Allowing repeats the input, refusing tells why."""
    allowed = orjson.loads(frames.allow(request_id="r", tool_input={"a": 1}))["response"]
    updates = [{"type": "setMode"}]
    more = orjson.loads(frames.allow(request_id="r", tool_input={}, updates=updates))["response"]
    denied = orjson.loads(frames.deny(request_id="r", reason="no"))["response"]
    silent = orjson.loads(frames.deny(request_id="r", reason=""))["response"]
    unknown = orjson.loads(frames.unsupported(request_id="r"))["response"]

    assert {"behavior": "allow", "updatedInput": {"a": 1}} == allowed["response"]
    assert updates == more["response"]["updatedPermissions"]
    assert {"behavior": "deny", "message": "no"} == denied["response"]
    assert silent["response"]["message"]
    assert "error" == unknown["subtype"]
    assert {"r"} == {one["request_id"] for one in (allowed, denied, silent, unknown)}
