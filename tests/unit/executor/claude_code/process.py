"""A Claude Code process on a fake channel, and the frames it is made to print."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from services.chassis.tasks import Tasks
from services.executor.agent_process import Ending
from services.executor.book import Book
from services.executor.claude_code.process import PATIENCE, ClaudeCode, Patience
from tests.unit.executor.fakes import FakeChannel, make_work

IMPATIENCE = Patience(
    opening=timedelta(seconds=0.2),
    closing=timedelta(seconds=0.01),
    dying=timedelta(seconds=0.01),
)


def make_process(channel: FakeChannel, tasks: Tasks, **changed: Any) -> ClaudeCode:
    """Return a process that is not open."""
    values: dict[str, Any] = {"resume": "", "accept_all": False, "patience": PATIENCE}
    return ClaudeCode(channel=channel, tasks=tasks, **(values | changed))


async def begin(process: ClaudeCode, channel: FakeChannel) -> tuple[Book, Any]:
    """Begin a turn; return its book and its ending to come."""
    book = Book()
    return book, await process.begin(make_work(), book)


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
