"""Fixtures of the executor's unit tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from services.chassis.metrics import Metrics
from services.chassis.tasks import Tasks
from services.executor.agents import Agents
from services.executor.execution import Limits
from services.executor.executions import Executions
from services.executor.workspaces import Workspaces
from tests.unit.executor.fakes import FakeBackend, FakeProcesses


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
