"""Fixtures of the executor's unit tests."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from services.chassis.client import Peer
from services.chassis.identity import Signer
from services.chassis.metrics import Metrics
from services.chassis.tasks import Tasks
from services.executor import __main__ as program
from services.executor.agents import Agents
from services.executor.claude_code.process import ClaudeCode
from services.executor.execution import Limits
from services.executor.executions import Executions
from services.executor.settings import Settings
from services.executor.workspaces import Workspaces
from tests.unit.executor.claude_code.process import make_process
from tests.unit.executor.fakes import FakeBackend, FakeChannel, FakeProcesses
from tests.unit.executor.server import KEY, Server


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    """The owner of a test's tasks."""
    async with Tasks() as tasks:
        yield tasks


@pytest.fixture
def metrics() -> Metrics:
    """The metrics of a test."""
    return Metrics(service="executor")


@pytest.fixture
def processes() -> FakeProcesses:
    """What makes the processes of a test."""
    return FakeProcesses()


@pytest.fixture
def backend() -> FakeBackend:
    """The one backend of a test."""
    return FakeBackend()


@pytest.fixture
def agents(
    tmp_path: Path, backend: FakeBackend, processes: FakeProcesses, tasks: Tasks, metrics: Metrics
) -> Agents:
    """Agents with room for two processes."""
    return Agents(
        backends={backend.name: backend},
        workspaces=Workspaces(root=tmp_path / "workspaces"),
        make=processes,
        limit=2,
        idle_limit=timedelta(seconds=60),
        tasks=tasks,
        metrics=metrics,
    )


@pytest.fixture
def limits() -> Limits:
    """Limits that no test reaches by accident."""
    return Limits(
        timeout=timedelta(minutes=1), stall=timedelta(seconds=30), grace=timedelta(seconds=0.05)
    )


@pytest.fixture
def executions(
    backend: FakeBackend, agents: Agents, limits: Limits, tasks: Tasks, metrics: Metrics
) -> Executions:
    """Executions with room for three."""
    return Executions(
        backends={backend.name: backend},
        agents=agents,
        limits=limits,
        capacity=3,
        retention=timedelta(minutes=1),
        tasks=tasks,
        metrics=metrics,
    )


@pytest.fixture
async def channel() -> FakeChannel:
    """The process's channel."""
    return FakeChannel()


@pytest.fixture
async def process(channel: FakeChannel, tasks: Tasks) -> AsyncIterator[ClaudeCode]:
    """A process that is open."""
    process = make_process(channel, tasks)
    await process.open()
    yield process
    channel.exit(0)


@pytest.fixture
def drain_seconds() -> float:
    """Seconds the running executor has to shut down; tests of that have more."""
    return 0.2


@pytest.fixture
async def server(tmp_path: Path, drain_seconds: float) -> AsyncIterator[Server]:
    """A running executor."""
    settings = Settings(
        identity_key=KEY,
        listen="127.0.0.1:0",
        workspaces=tmp_path / "workspaces",
        disable_docker=True,
        drain_seconds=timedelta(seconds=drain_seconds),
    )
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.ensure_future(program.main(settings, on_listening=port.set_result))
    target = f"127.0.0.1:{await port}"
    signer, metrics = Signer(key=KEY), Metrics(service="test")
    async with Peer(service="executor", target=target, signer=signer, metrics=metrics) as peer:
        yield Server(peer=peer, serving=serving, root=tmp_path / "workspaces")
        if not serving.done():
            os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(5):
        await serving
