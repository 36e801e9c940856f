"""Fixtures: the command, run inside the test's process or as one of its own."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from moorline.cli.invocation import Surroundings
from moorline.cli.main import run
from tests.unit.moorline.scripted import Gateway
from tests.unit.moorline.scripted_platform import TOKEN

ROOT = Path(__file__).parents[4]


@dataclass(frozen=True)
class Done:
    """What a run of the command did."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """Standard output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


Moorline = Callable[..., Coroutine[Any, Any, Done]]


@pytest.fixture
def environ(tmp_path: Path, gateway: Gateway) -> dict[str, str]:
    """An environment that leads to the scripted gateway and to folders of the test's own."""
    return {
        "MOORLINE_URL": gateway.url,
        "MOORLINE_TOKEN": TOKEN,
        "MOORLINE_LANG": "en",
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }


@pytest.fixture
def moorline(environ: dict[str, str]) -> Moorline:
    """Run the command in this process, on a thread of its own."""

    async def command(*arguments: str, stdin: str = "", **more: str) -> Done:
        surroundings = Surroundings(
            stdin=io.StringIO(stdin),
            stdout=io.StringIO(),
            stderr=io.StringIO(),
            environ={**environ, **more},
        )
        code = await asyncio.to_thread(run, list(arguments), surroundings)
        return Done(code, surroundings.stdout.getvalue(), surroundings.stderr.getvalue())  # type: ignore[attr-defined]

    return command


@dataclass
class Process:
    """The command as a process of its own."""

    process: asyncio.subprocess.Process

    async def finish(self) -> Done:
        """Wait for its end."""
        async with asyncio.timeout(15):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return Done(self.process.returncode, out.decode(), err.decode())


Spawn = Callable[..., Coroutine[Any, Any, Process]]


@pytest.fixture
def spawn(environ: dict[str, str]) -> Spawn:
    """Start the command as a process."""

    async def start(*arguments: str, stdin: int = asyncio.subprocess.DEVNULL) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "moorline.cli.main",
            *arguments,
            cwd=ROOT,
            env=environ,
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        return Process(process)

    return start
