"""A Claude Code process on a fake channel, and the frames it is made to print."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

from moorline.transcript.v1 import transcript_pb2
from services.chassis.tasks import Tasks
from services.executor.agent_process import Ending
from services.executor.book import Book
from services.executor.claude_code import frames
from services.executor.claude_code.belongings import Belongings
from services.executor.claude_code.dialogue import Dialogue
from services.executor.claude_code.patience import PATIENCE, Patience
from services.executor.claude_code.process import ClaudeCode
from tests.unit.executor.fakes import FakeChannel, follow, make_work, take, until

IMPATIENCE = Patience(
    opening=timedelta(seconds=0.2),
    speaking=timedelta(seconds=0.02),
    closing=timedelta(seconds=0.01),
    dying=timedelta(seconds=0.01),
)


NO_TERMS = frames.Terms(instructions="", rules=(), max_steps=0, fallback_model="")


def make_process(
    channel: FakeChannel,
    tasks: Tasks,
    *,
    resume: str = "",
    files: Path = Path("/nowhere"),
    terms: frames.Terms = NO_TERMS,
    belongings: Belongings | None = None,
    patience: Patience = PATIENCE,
) -> ClaudeCode:
    """Return a process that is not open."""
    dialogue = Dialogue(
        conversation=resume,
        mode="default",
        model="default",
        last_entry="",
        files=files,
        seen_as="/workspace",
    )
    return ClaudeCode(
        channel=channel,
        dialogue=dialogue,
        terms=terms,
        default_model="",
        belongings=belongings,
        patience=patience,
        tasks=tasks,
    )


async def begin(process: ClaudeCode, channel: FakeChannel, **changed: Any) -> tuple[Book, Any]:
    """Begin a turn, and see it begun; return its book and its ending to come."""
    book = Book()
    ending = await process.begin(make_work(**changed), book)
    await until(lambda: not process.alive or begun(channel))
    return book, ending


def begun(channel: FakeChannel) -> bool:
    """Tell whether a prompt was written."""
    return any(frame["type"] == "user" for frame in channel.written)


def requests(channel: FakeChannel, subtype: str) -> list[dict[str, Any]]:
    """Return the control requests of a kind that were written."""
    asked = [frame for frame in channel.written if frame["type"] == "control_request"]
    return [frame for frame in asked if frame["request"]["subtype"] == subtype]


def answers(channel: FakeChannel) -> list[dict[str, Any]]:
    """Return the answers that were written."""
    return [frame["response"] for frame in channel.written if frame["type"] == "control_response"]


def decision(permission_id: str = "r1", **changed: Any) -> transcript_pb2.PermissionDecision:
    """Return a decision; a permission unless changed."""
    values: dict[str, Any] = {"allowed": True}
    return transcript_pb2.PermissionDecision(permission_id=permission_id, **(values | changed))


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


def system(subtype: str, **facts: Any) -> dict[str, Any]:
    """Return a frame of type `system`."""
    return {"type": "system", "subtype": subtype, **facts}


def own_turn(text: str) -> list[dict[str, Any]]:
    """Return what is printed when the agent says something by itself, after work has ended."""
    told = {"type": "result", "is_error": False, "origin": {"kind": "task-notification"}}
    return [init(), system("status", status="requesting"), said(text), told]


def left(count: int) -> dict[str, Any]:
    """Return that so many things go on in the background."""
    return system("background_tasks_changed", tasks=[{"task_id": str(one)} for one in range(count)])


def mirrored(*uuids: str, conversation: str = "s1") -> dict[str, Any]:
    """Return by what a transcript has grown."""
    entries = [{"type": "user", "uuid": uuid} for uuid in uuids]
    path = f"/state/claude/projects/-workspace/{conversation}.jsonl"
    return {"type": "transcript_mirror", "filePath": path, "entries": entries}


def entries(book: Book) -> list[str]:
    """Return the newest entries of the transcript's parts in a book."""
    updates, _ = take(follow(book))
    events = [update.event for update in updates if update.HasField("event")]
    return [event.transcript.last_entry for event in events if event.HasField("transcript")]
