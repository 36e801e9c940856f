"""Fixtures of the executor's unit tests."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Collection
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.chassis.client import Peer
from services.chassis.identity import Signer
from services.chassis.metrics import Metrics
from services.chassis.tasks import Tasks
from services.executor import __main__ as program
from services.executor.agents import Agents, Wear
from services.executor.claude_code.process import ClaudeCode
from services.executor.executions import Executions
from services.executor.notes import Notes
from services.executor.provisions import Limits, Provisions
from services.executor.queue import FairQueue
from services.executor.settings import Settings
from services.executor.workspaces import Workspaces
from tests.unit.executor.claude_code.process import make_process
from tests.unit.executor.fake_processes import FakeProcesses, FakeProxy, FakeSnapshots
from tests.unit.executor.fakes import FakeBackend, FakeChannel
from tests.unit.executor.server import KEY, Server
from tests.unit.executor.stage import Stage


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
def proxy() -> FakeProxy:
    """The way to a model."""
    return FakeProxy()


@pytest.fixture
def snapshots() -> FakeSnapshots:
    """What tells changes."""
    return FakeSnapshots()


@pytest.fixture
def workspaces(tmp_path: Path) -> Workspaces:
    """Where the agents' files are."""
    return Workspaces(root=tmp_path / "workspaces")


@pytest.fixture
def notes(workspaces: Workspaces) -> Notes:
    """The notes of an executor."""
    return Notes(workspaces=workspaces)


@pytest.fixture
def wear() -> Wear:
    """Room for two processes, which last."""
    return Wear(
        processes=2,
        limited_processes=99,
        tenant_processes=99,
        idle=timedelta(seconds=60),
        background=timedelta(seconds=120),
        turns=99,
        memory=1 << 20,
    )


MakeAgents = Callable[..., Agents]


@pytest.fixture
def make_agents(
    workspaces: Workspaces,
    backend: FakeBackend,
    processes: FakeProcesses,
    proxy: FakeProxy,
    wear: Wear,
    tasks: Tasks,
    metrics: Metrics,
) -> MakeAgents:
    """Makes agents whose processes may wear out sooner, or that are limited."""

    def make(*, limited: Collection[str] = (), **changed: Any) -> Agents:
        return Agents(
            backends={backend.name: backend},
            workspaces=workspaces,
            processes=processes,
            proxy=proxy,
            limited=limited,
            wear=dataclasses.replace(wear, **changed),
            tasks=tasks,
            metrics=metrics,
        )

    return make


@pytest.fixture
def agents(make_agents: MakeAgents) -> Agents:
    """Agents with room for two processes."""
    return make_agents()


@pytest.fixture
def limits() -> Limits:
    """Limits that no test reaches by accident."""
    return Limits(
        timeout=timedelta(minutes=1), stall=timedelta(seconds=30), grace=timedelta(seconds=0.05)
    )


@pytest.fixture
def queue(metrics: Metrics) -> FairQueue:
    """A queue with one slot."""
    return FairQueue(slots=1, tenant_slots=1, metrics=metrics)


@pytest.fixture
def provisions(
    agents: Agents, snapshots: FakeSnapshots, queue: FairQueue, notes: Notes, tasks: Tasks
) -> Provisions:
    """What executions work with; none needs a slot."""
    return Provisions(
        agents=agents, snapshots=snapshots, queue=queue, limited=(), notes=notes, tasks=tasks
    )


@pytest.fixture
def stage(provisions: Provisions, processes: FakeProcesses, limits: Limits) -> Stage:
    """A stage with ample limits."""
    return Stage(provisions=provisions, processes=processes, limits=limits)


MakeExecutions = Callable[..., Executions]


@pytest.fixture
def make_executions(
    backend: FakeBackend,
    proxy: FakeProxy,
    provisions: Provisions,
    limits: Limits,
    workspaces: Workspaces,
    metrics: Metrics,
) -> MakeExecutions:
    """Makes executions with room for three, or as a test says."""

    def make(**changed: Any) -> Executions:
        values: dict[str, Any] = {
            "backends": {backend.name: backend},
            "proxy": proxy,
            "provisions": provisions,
            "limits": limits,
            "workspaces": workspaces,
            "has_entry": lambda _place, _view, _conversation, entry: entry == "here",
            "capacity": 3,
            "retention": timedelta(minutes=1),
            "metrics": metrics,
        }
        return Executions(**(values | changed))

    return make


@pytest.fixture
def executions(make_executions: MakeExecutions) -> Executions:
    """Executions with room for three."""
    return make_executions()


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
def chosen() -> dict[str, Any]:
    """What is different from the settings that all tests have."""
    return {}


@pytest.fixture
async def server(
    tmp_path: Path, drain_seconds: float, chosen: dict[str, Any]
) -> AsyncIterator[Server]:
    """A running executor."""
    values: dict[str, Any] = {
        "identity_key": KEY,
        "listen": "127.0.0.1:0",
        "workspaces": tmp_path / "workspaces",
        "disable_docker": True,
        "drain_seconds": timedelta(seconds=drain_seconds),
    }
    settings = Settings(**(values | chosen))
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.ensure_future(program.main(settings, on_listening=port.set_result))
    target = f"127.0.0.1:{await port}"
    signer, metrics = Signer(key=KEY), Metrics(service="test")
    async with Peer(service="executor", target=target, signer=signer, metrics=metrics) as peer:
        running = Server(peer=peer, serving=serving, root=tmp_path / "workspaces")
        yield running
        running.stop()
    await running.ended()
