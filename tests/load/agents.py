"""What agents cost on each backend: to start, to run a turn, to keep, to wake up.

The executor runs in this process and the stand-in of the model provider in one of its own. Does
not know how figures are shown.
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson

from services.executor.backend import View
from services.executor.claude_code import frames
from tests.contract.agents.executors import Agent, Executor, serve
from tests.contract.agents.kinds import KINDS, Kind, program
from tests.contract.agents.turns import until
from tests.load.figures import Agents
from tests.load.systems import ROOT

_GIB = 1 << 30
_SAY = "/sim say hello"
_KEY = "sk-of-the-benchmark"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How thoroughly to measure.

    Attributes:
        cold: Agents that are started.
        warm: Turns of an agent that is awake.
        words: Words of the answer that is streamed as fast as it goes.
    """

    cold: int
    warm: int
    words: int


WHOLE = Plan(cold=5, warm=30, words=20_000)
QUICK = Plan(cold=1, warm=3, words=2_000)


def measure(plan: Plan, progress: Callable[[str], None]) -> tuple[Agents, ...]:
    """Measure every backend that this machine has."""
    found = []
    for kind in KINDS.values():
        if missing := kind.missing():
            progress(f"agents on {kind.name}: {missing}")
            continue
        progress(f"agents on {kind.name}")
        found.append(asyncio.run(_measure(kind, plan)))
    return tuple(found)


async def _measure(kind: Kind, plan: Plan) -> Agents:
    with tempfile.TemporaryDirectory(prefix="moorline-bench-agents-") as folder, _provider() as url:
        root = Path(folder)
        async with _executor(kind, url, root / "awake") as executor:
            cold = await _cold(executor, plan.cold)
            agent = executor.agent()
            await agent.run(_SAY)
            warm = [await _seconds(agent, _SAY) for _ in range(plan.warm)]
            active = _anonymous(kind, agent.workspace) if kind.real else 0
            rate = await _rate(agent, plan.words)
        bare = await _bare(url, root, plan.warm) if kind.real else 0.0
        async with _executor(kind, url, root / "asleep", MOORLINE_IDLE_LIMIT="0.1") as executor:
            resumed, asleep = await _resumed(kind, executor, plan.cold)
        typical = statistics.median(warm)
        return Agents(
            backend=kind.name,
            ready_seconds=max(0.0, statistics.median(cold) - typical),
            warm_ms=typical * 1e3,
            bare_ms=bare * 1e3,
            resume_seconds=max(0.0, statistics.median(resumed) - typical),
            active_bytes=active,
            asleep_bytes=asleep,
            per_gib=_GIB // active if active else 0,
            fragments_per_second=rate,
        )


@contextmanager
def _provider() -> Iterator[str]:
    """Run the stand-in; yields its URL."""
    command = [sys.executable, "-m", "tests.standin", "--port", "0", "--key", _KEY]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[-1].rstrip(".")
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@asynccontextmanager
async def _executor(kind: Kind, url: str, root: Path, **more: str) -> AsyncIterator[Executor]:
    settings = {
        **kind.settings,
        "MOORLINE_MODEL_KEY_FILE": str(_key_file(root)),
        "MOORLINE_MODEL_UPSTREAM": url,
        # Nothing is to be begun anew meanwhile.
        "MOORLINE_PROCESS_TURNS": "1000",
        "MOORLINE_PROCESS_MEMORY": "4096",
        **more,
    }
    async with serve(root=root / "workspaces", backend=kind.name, settings=settings) as executor:
        yield executor


def _key_file(root: Path) -> Path:
    root.mkdir()
    key = root / "key"
    key.write_text(_KEY)
    return key


async def _seconds(agent: Agent, script: str) -> float:
    """Return how long a turn takes, from the call that begins it to its outcome."""
    began = time.monotonic()
    turn = await agent.run(script)
    if turn.ending != "finished":
        msg = f"a turn ended otherwise: {turn.ending}"
        raise RuntimeError(msg)
    return turn.ended - began


async def _cold(executor: Executor, count: int) -> list[float]:
    return [await _seconds(executor.agent(), _SAY) for _ in range(count)]


async def _rate(agent: Agent, words: int) -> float:
    """Return the words a second of an answer that is written as fast as it goes."""
    turn = await agent.begin(f"/sim stream {words} 0")
    await turn.until(lambda: turn.shown)
    began = time.monotonic()
    await agent.end(turn)
    return words / (turn.ended - began)


async def _resumed(kind: Kind, executor: Executor, count: int) -> tuple[list[float], int]:
    """Return how long the first turn of a woken agent takes, and what one asleep costs here."""
    agents = [executor.agent() for _ in range(count)]
    await executor.agent().run(_SAY)
    before = _own()
    for agent in agents:
        await agent.run(_SAY)
        await until(lambda workspace=agent.workspace: not kind.processes(workspace))  # type: ignore[misc]
    asleep = max(0, _own() - before) // count
    return [await _seconds(agent, _SAY) for agent in agents], asleep


async def _bare(url: str, folder: Path, count: int) -> float:
    """Return how long a turn takes of the same program without us."""
    argv = frames.command_line(
        directory=str(folder),
        terms=frames.Terms(instructions="", rules=(), max_steps=0, fallback_model=""),
        mode="default",
        model="",
        session_id=frames.stable_uuid("bench"),
        resume="",
    )
    state = str(folder / "state")
    environment = {
        **frames.environment(View(files=str(folder), state=state, run=state), retries=6),
        "PATH": os.defpath,
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": _KEY,
    }
    process = await asyncio.create_subprocess_exec(
        str(program()),
        *argv[1:],
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        limit=1 << 24,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        return await _median_turn(process.stdin.write, process.stdout.readline, count)
    finally:
        process.kill()
        await process.wait()


async def _median_turn(
    write: Callable[[bytes], None], read: Callable[[], Awaitable[bytes]], count: int
) -> float:
    write(frames.request("initialize", request_id="1") + b"\n")
    seconds = []
    for number in range(count + 1):
        began = time.monotonic()
        message_id = frames.stable_uuid(f"bench/{number}")
        write(frames.prompt(text=_SAY, message_id=message_id, session_id="") + b"\n")
        while orjson.loads(await read())["type"] != "result":
            pass
        seconds.append(time.monotonic() - began)
    # The first one also waits until the program is ready.
    return statistics.median(seconds[1:])


def _anonymous(kind: Kind, workspace: str) -> int:
    """Return the bytes of memory that an agent has for itself, with all that it runs."""
    return sum(_status(pid, "RssAnon") for pid, _ in kind.processes(workspace))


def _own() -> int:
    gc.collect()
    return _status(os.getpid(), "RssAnon")


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) << 10
    return 0
