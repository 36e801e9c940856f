"""What the tests of processes share: everything holds on both loops, asyncio's and production's."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from services.executor.channels.process.tree import Trees


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run each test on both loops."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
def trees() -> Trees:
    """The processes of this machine."""
    return Trees(proc=Path("/proc"))


@pytest.fixture
def pids(tmp_path: Path) -> Iterator[Path]:
    """A folder where programs leave files named by the ids of what they start; they end with it."""
    folder = tmp_path / "pids"
    folder.mkdir()
    yield folder
    for one in folder.iterdir():
        if one.name.isdecimal() and Path(f"/proc/{one.name}").exists():
            os.kill(int(one.name), signal.SIGKILL)
