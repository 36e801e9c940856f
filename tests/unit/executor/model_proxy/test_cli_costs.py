"""Our prices are those of the real program: told the same usage, both say the same cost."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from services.executor.agent_process import Budget
from services.executor.backend import Link, View
from services.executor.claude_code import frames
from services.executor.model_proxy.meter import Meter
from services.executor.model_proxy.prices import COMPARED, PICOS, Told, load
from services.executor.model_proxy.proxy import ModelProxy
from services.executor.place import Place
from tests.contract.agents.kinds import KINDS, program
from tests.unit.executor.model_proxy.provider import WHOLE, Provider, delta, event

pytestmark = pytest.mark.timeout(120)

# The program refuses these names for others, or prices them as another one.
NAMES = {"claude-haiku-4-5": "claude-haiku-4-5-20251001", "claude-sonnet-4": "claude-sonnet-4-6"}
USAGES: tuple[dict[str, Any], ...] = (
    {"input_tokens": 1234, "output_tokens": 567, "cache_read_input_tokens": 8901},
    {
        "input_tokens": 7,
        "output_tokens": 3,
        "cache_creation_input_tokens": 3333,
        "cache_creation": {"ephemeral_5m_input_tokens": 1111, "ephemeral_1h_input_tokens": 2222},
        "server_tool_use": {"web_search_requests": 3},
    },
    {"input_tokens": 100_001, "output_tokens": 11},
    {"input_tokens": 1001, "output_tokens": 11, "speed": "fast", "inference_geo": "us"},
)


def answering(usage: dict[str, Any]) -> Any:
    """Return an answer that consumes this, of whichever model is asked."""

    async def answer(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        model = asked["model"]
        if "stream" not in asked:
            # Whether there is such a model, before it is chosen.
            nothing = {"input_tokens": 0, "output_tokens": 0}
            return web.json_response({**WHOLE, "model": model, "usage": nothing})
        message = {"id": "m", "type": "message", "role": "assistant", "model": model}
        begun = {**message, "content": [], "usage": {**usage, "output_tokens": 1}}
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        text = {"type": "text", "text": ""}
        for piece in (
            event("message_start", message=begun),
            event("content_block_start", index=0, content_block=text),
            event("content_block_delta", index=0, delta={"type": "text_delta", "text": "hi"}),
            event("content_block_stop", index=0),
            delta(output_tokens=usage["output_tokens"]),
            event("message_stop"),
        ):
            await response.write(piece)
        return response

    return answer


class Cli:
    """The real program, spoken to directly."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def result(self, text: str) -> dict[str, Any]:
        """Return what it says at the end of a turn."""
        await self._write(frames.prompt(text=text, message_id="", session_id=""))
        return await self._until("result")

    async def choose(self, model: str) -> None:
        """Let another model answer."""
        asked = {"subtype": "set_model", "model": model}
        line = {"type": "control_request", "request_id": model, "request": asked}
        await self._write(orjson.dumps(line))
        await self._until("control_response")

    async def _write(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        await self._process.stdin.drain()

    async def _until(self, kind: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            frame: dict[str, Any] = orjson.loads(line)
            if frame["type"] == kind:
                return frame
        raise AssertionError


@asynccontextmanager
async def running(environment: dict[str, str], directory: Path) -> AsyncIterator[Cli]:
    """Run the program."""
    process = await asyncio.create_subprocess_exec(
        program(),
        *("-p", "--output-format=stream-json", "--input-format=stream-json", "--verbose"),
        *("--setting-sources=", "--tools="),
        env={"PATH": os.defpath, "DISABLE_AUTO_COMPACT": "1", **environment},
        cwd=directory,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=1 << 24,
    )
    try:
        yield Cli(process)
    finally:
        process.kill()
        await process.communicate()


@pytest.fixture(scope="module")
def needed() -> None:
    """The program."""
    if missing := KINDS["process"].missing():
        pytest.skip(missing)


@pytest.mark.usefixtures("needed")
async def test_cost_is_what_the_program_says(
    proxy: ModelProxy, meter: Meter, provider: Provider, place: Place, view: View
) -> None:
    """For every model of the table, and every kind of usage; each turn to the micro-dollar."""
    access = await proxy.admit(meter, link=Link.TCP, place=place, view=view)
    environment = {**frames.environment(view, retries=0), **access.environment}
    ours, theirs, exact = {}, {}, 0
    async with running(environment, place.files) as cli:
        for listed in COMPARED:
            model = NAMES.get(listed, listed)
            await cli.choose(model)
            for number, usage in enumerate(USAGES):
                provider.answer = answering(usage)
                meter.begin(Budget())
                result = await cli.result("hi")
                said = result["model_usage_since_last_result"]
                ours[model, number] = meter.end().cost_usd_micros
                theirs[model, number] = sum(one["costUSD"] for one in said.values()) * 1e6
                exact += load("").of(model).cost(_told(model, usage))

    different = {
        name: (ours[name], theirs[name])
        for name in ours
        # What is left of one micro-dollar is told with the next turn.
        if not -1 <= ours[name] - theirs[name] <= 1
    }
    assert {} == different
    assert len(COMPARED) * len(USAGES) == len(ours)
    assert exact // PICOS == sum(ours.values()) == int(sum(theirs.values()) + 1e-3)


def _told(model: str, usage: dict[str, Any]) -> Told:
    counts = Told(
        model=model,
        read=usage["input_tokens"],
        written=usage["output_tokens"],
        cache_read=usage.get("cache_read_input_tokens", 0),
        cache_written=usage.get("cache_creation_input_tokens", 0),
        searches=usage.get("server_tool_use", {}).get("web_search_requests", 0),
        fast="speed" in usage,
        region=usage.get("inference_geo", ""),
    )
    hour = usage.get("cache_creation", {}).get("ephemeral_1h_input_tokens", 0)
    return replace(counts, cache_written_hour=hour)
