"""Tests of `services.executor.claude_code.process`: what can be chosen for a turn, and what not."""

from __future__ import annotations

from typing import Any

import pytest

from moorline.executor.v1 import executions_pb2
from services.chassis.failures import Failure
from services.chassis.tasks import Tasks
from services.executor.agent_process import Result
from services.executor.book import Book
from services.executor.claude_code import frames
from services.executor.claude_code.process import ClaudeCode
from tests.unit.executor.claude_code.process import (
    ask,
    begin,
    begun,
    decision,
    ended,
    init,
    make_process,
    requests,
    result,
    said,
    system,
)
from tests.unit.executor.fakes import FakeChannel, items, make_work, until

PLAN = executions_pb2.Execution.PERMISSION_MODE_PLAN


async def test_mode_and_model_are_changed_before_the_prompt(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """The model only when it is another one; the prompt follows when the mode is accepted."""
    for model in ("small", "small", ""):
        _, ending = await begin(process, channel, permission_mode=PLAN, model=model)
        channel.say(init() | {"permissionMode": "plan"}, said("x"), result(channel))
        await ended(ending)
        channel.written = [frame for frame in channel.written if frame["type"] != "user"]
    modes = [frame["request"]["mode"] for frame in requests(channel, "set_permission_mode")]
    models = [frame["request"]["model"] for frame in requests(channel, "set_model")]

    assert ["plan"] * 3 == modes
    assert ["small", "default"] == models
    assert "x" == process.model


@pytest.mark.parametrize("refused", ["set_permission_mode", "set_model"])
async def test_prompt_is_not_given_on_other_terms(
    process: ClaudeCode, channel: FakeChannel, refused: str
) -> None:
    """An agent that refuses the mode or the model is ended: it might do what it may not."""
    channel.answers = False
    ending = await process.begin(make_work(permission_mode=PLAN, model="small"), Book())
    for subtype in ("set_model", "set_permission_mode"):
        (asked,) = requests(channel, subtype)
        outcome = "error" if subtype == refused else "success"
        response = {"subtype": outcome, "request_id": asked["request_id"], "error": "no"}
        channel.say({"type": "control_response", "response": response})
    told = await ended(ending)

    assert told.failure is not None
    assert (Result.DIED, "AGENT_FAILED") == (told.result, told.failure.reason_name)
    assert not begun(channel)
    assert not process.alive


async def test_mode_the_agent_is_in_needs_no_waiting(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """The prompt is written at once; a mode is known from what the process tells."""
    _, ending = await begin(process, channel)
    channel.say(system("status", status=None, permissionMode="plan"), result(channel))
    await ended(ending)
    channel.answers = False
    count = len(channel.written)
    await process.begin(make_work(permission_mode=PLAN), Book())

    assert ["control_request", "user"] == [frame["type"] for frame in channel.written[count:]]


@pytest.mark.parametrize(
    ("changed", "fits"),
    [
        ({}, True),
        ({"model": "small", "permission_mode": PLAN}, True),
        ({"resume_from": "s2"}, False),
        ({"resume_from": ""}, False),
        ({"instructions": "others"}, False),
        ({"max_steps": 4}, False),
        ({"allowed_rules": ("Edit",)}, False),
        ({"allowed_rules": ("Edit", "Read", "Bash")}, False),
        ({"allowed_rules": ("Read", "Edit")}, True),
    ],
)
async def test_process_fits_who_asks_for_the_same(
    tasks: Tasks, changed: dict[str, Any], fits: bool
) -> None:
    """But for what can be changed."""
    terms = frames.Terms(
        instructions="mine", rules=("Edit", "Read"), max_steps=3, fallback_model=""
    )
    channel = FakeChannel()
    process = make_process(channel, tasks, resume="s1", terms=terms)
    await process.open()
    values: dict[str, Any] = {
        "resume_from": "s1",
        "instructions": "mine",
        "max_steps": 3,
        "allowed_rules": ("Edit", "Read"),
    }
    told = process.fits(make_work(**(values | changed)))
    channel.exit(0)

    assert fits is told
    assert not process.fits(make_work(**values))


async def test_rule_that_was_allowed_is_one_of_the_process_s(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """It fits who asks for it, and does not fit who has taken it back."""
    _, ending = await begin(process, channel)
    rule = {"type": "addRules", "rules": [{"toolName": "Read"}], "behavior": "allow"}
    request = ask()["request"] | {"permission_suggestions": [rule]}
    channel.say(init(), ask() | {"request": request})
    await until(lambda: process.quiet_for().total_seconds() == 0)
    await process.answer(decision(suggestion_id="1"))
    channel.say(result(channel))
    await ended(ending)

    assert process.fits(make_work(resume_from="s1", allowed_rules=("Read",)))
    assert not process.fits(make_work(resume_from="s1"))


async def test_request_that_makes_no_sense_is_refused(
    process: ClaudeCode, channel: FakeChannel, caplog: pytest.LogCaptureFixture
) -> None:
    """The agent must not wait for an answer that nobody can give."""
    book, ending = await begin(process, channel)
    request = {"subtype": "can_use_tool", "tool_name": "AskUserQuestion", "input": {}}
    channel.say({"type": "control_request", "request_id": "q", "request": request})
    await until(lambda: channel.written[-1]["type"] == "control_response")
    channel.say(result(channel))
    await ended(ending)

    assert "error" == channel.written[-1]["response"]["subtype"]
    assert "request not understood" in caplog.messages
    assert [] == items(book)


async def test_fallback_and_compaction_are_told(process: ClaudeCode, channel: FakeChannel) -> None:
    """As the process tells them; other news of the system is left alone."""
    book, ending = await begin(process, channel)
    facts = {"trigger": "manual", "pre_tokens": 100, "post_tokens": 10}
    channel.say(
        system("model_fallback", original_model="big", fallback_model="small"),
        system("compact_boundary", compact_metadata={"trigger": "auto"}),
        system("compact_boundary", compact_metadata=facts),
        system("novelty"),
        result(channel),
    )
    await ended(ending)
    fallback, automatic, manual = items(book)

    assert ("big", "small") == (
        fallback.model_fallback.from_model,
        fallback.model_fallback.to_model,
    )
    assert (True, 0, 0) == (
        automatic.compaction.automatic,
        automatic.compaction.tokens_before,
        automatic.compaction.tokens_after,
    )
    assert (False, 100, 10) == (
        manual.compaction.automatic,
        manual.compaction.tokens_before,
        manual.compaction.tokens_after,
    )


async def test_half_characters_do_not_lose_a_frame(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """JavaScript may print them; what they were cannot be known."""
    book, ending = await begin(process, channel)
    event = {"type": "message_start", "message": {"id": "m"}}
    piece = rb'"type":"text_delta","text":"\ud83d"'
    delta = b'{"type":"content_block_delta","index":0,"delta":{' + piece + b"}}"
    channel.say({"type": "stream_event", "event": event})
    channel.say(b'{"type":"stream_event","event":' + delta + b"}")
    text = rb'{"type":"text","text":"x\udc00y"}'
    channel.say(b'{"type":"assistant","message":{"id":"n","content":[' + text + b"]}}")
    channel.say(result(channel))
    await ended(ending)

    assert ["x?y"] == [item.agent_message.text for item in items(book)]


async def test_plan_is_the_call_s_when_the_request_has_none(
    process: ClaudeCode, channel: FakeChannel
) -> None:
    """It was told right before."""
    book, ending = await begin(process, channel)
    call = {"type": "tool_use", "id": "t", "name": "ExitPlanMode", "input": {"plan": "# Plan"}}
    request = {"subtype": "can_use_tool", "tool_name": "ExitPlanMode", "input": {}}
    channel.say(
        {"type": "assistant", "message": {"id": "m", "content": [call]}},
        {"type": "control_request", "request_id": "p", "request": request},
        result(channel),
    )
    await ended(ending)

    assert "# Plan" == items(book)[1].permission_request.plan


async def test_lost_conversation_is_told_when_opening(tasks: Tasks) -> None:
    """The process tells it, and dies."""
    channel = FakeChannel()
    channel.answers = False
    errors = ["No conversation found with session ID: s1"]
    channel.say({"type": "result", "is_error": True, "errors": errors})
    channel.exit(1)
    process = make_process(channel, tasks, resume="s1")
    with pytest.raises(Failure) as caught:
        await process.open()

    assert "CONVERSATION_LOST" == caught.value.reason_name
    assert ("", None) == (process.conversation, await process.memory())


async def test_conversation_has_a_name_that_can_be_one(
    process: ClaudeCode, channel: FakeChannel, caplog: pytest.LogCaptureFixture
) -> None:
    """It becomes the name of a file and a word of a command line."""
    _, ending = await begin(process, channel)
    channel.say(init() | {"session_id": "../x"}, result(channel))
    await ended(ending)

    assert "" == process.conversation
    assert "frame not understood" in caplog.messages
