"""Tests of `services.executor.agents`."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from moorline.executor.v1 import executions_pb2
from services.chassis.failures import Failure, not_found
from services.chassis.metrics import Metrics
from services.chassis.tasks import Tasks
from services.executor.agents import Agents
from services.executor.workspaces import Workspaces
from tests.unit.executor.fakes import (
    FakeBackend,
    FakeProcess,
    FakeProcesses,
    make_work,
    until,
)


async def use(agents: Agents, **changed: Any) -> FakeProcess:
    """Run one turn and return the process that took it."""
    work = make_work(**changed)
    async with agents.borrow(work) as process:
        assert isinstance(process, FakeProcess)
        await process.begin(work, process.book)
    return process


def living(metrics: Metrics, state: str) -> float | None:
    """Return the gauge of processes in a state."""
    labels = {"backend": "simulation", "state": state}
    return metrics.registry.get_sample_value("moorline_agent_processes", labels)


async def test_process_is_reused_by_the_next_turn(agents: Agents) -> None:
    """A conversation goes on in the process that holds it."""
    first = await use(agents)
    second = await use(agents, resume_from="c1")

    assert first is second


@pytest.mark.parametrize(
    "changed",
    [
        {"resume_from": ""},
        {"resume_from": "other"},
        {"resume_from": "c1", "instructions": "be brief"},
        {
            "resume_from": "c1",
            "permission_mode": executions_pb2.Execution.PERMISSION_MODE_ACCEPT_ALL,
        },
    ],
)
async def test_process_that_does_not_fit_is_replaced(
    agents: Agents, changed: dict[str, Any]
) -> None:
    """Another conversation, or other terms, need another process."""
    first = await use(agents)
    second = await use(agents, **changed)

    assert first.closed
    assert first is not second


async def test_dead_process_is_replaced(agents: Agents, processes: FakeProcesses) -> None:
    """Whether it died in a turn or afterwards."""
    async with agents.borrow(make_work()) as process:
        await process.kill()
    second = await use(agents)
    second.alive = False
    third = await use(agents, resume_from="c1")

    assert 3 == len(processes.made)
    assert third.alive


async def test_one_execution_at_a_time_in_a_workspace(agents: Agents) -> None:
    """The second waits until the first has left; another workspace does not."""
    order: list[str] = []

    async def turn(name: str, workspace: str) -> None:
        async with agents.borrow(make_work(workspace=workspace)):
            order.append(f"{name} in")
            await asyncio.sleep(0.01)
            order.append(f"{name} out")

    await asyncio.gather(turn("a", "workspace1"), turn("b", "workspace1"))
    await asyncio.gather(turn("c", "workspace1"), turn("d", "workspace2"))

    assert ["a in", "a out", "b in", "b out"] == order[:4]
    assert {"c in", "d in"} == set(order[4:6])


async def test_idle_process_is_put_to_sleep(
    tmp_path: Path, backend: FakeBackend, processes: FakeProcesses, tasks: Tasks, metrics: Metrics
) -> None:
    """After the time limit it is closed, and the next turn starts another."""
    agents = Agents(
        backends={"simulation": backend},
        workspaces=Workspaces(root=tmp_path),
        make=processes,
        limit=5,
        idle_limit=timedelta(seconds=0.02),
        tasks=tasks,
        metrics=metrics,
    )
    first = await use(agents)
    idle = living(metrics, "idle")
    await until(lambda: first.closed)
    await until(lambda: living(metrics, "idle") == 0)
    second = await use(agents, resume_from="c1")

    assert 1 == idle
    assert first is not second


async def test_use_postpones_sleep(agents: Agents, tasks: Tasks) -> None:
    """A process that is in use is never closed by the clock."""
    async with agents.borrow(make_work()) as process:
        agents._retire("abcdefgh")
        agents._retire("unknown1")
        await until(lambda: not len(tasks))

        assert process.alive


async def test_longest_idle_process_makes_room(agents: Agents) -> None:
    """Beyond the limit the one that was used first goes to sleep."""
    first = await use(agents, workspace="workspace1")
    second = await use(agents, workspace="workspace2")
    await use(agents, workspace="workspace1", resume_from="c1")
    await use(agents, workspace="workspace3")
    await until(lambda: second.closed)

    assert not first.closed


async def test_busy_processes_may_exceed_the_limit(agents: Agents) -> None:
    """Work is not refused here; the number of executions is limited elsewhere."""
    async with (
        agents.borrow(make_work(workspace="workspace1")) as first,
        agents.borrow(make_work(workspace="workspace2")),
        agents.borrow(make_work(workspace="workspace3")) as third,
    ):
        assert first.alive
        assert third.alive


async def test_failed_start_leaves_nothing(
    agents: Agents, processes: FakeProcesses, metrics: Metrics
) -> None:
    """The next execution tries again."""
    processes.open_failure = not_found()
    with pytest.raises(Failure):
        await use(agents)
    processes.open_failure = None
    await use(agents)

    assert 2 == len(processes.made)
    assert 1 == living(metrics, "idle")
    assert 0 == living(metrics, "busy")


async def test_delete_ends_the_process_and_its_files(agents: Agents, tmp_path: Path) -> None:
    """A workspace nobody used is deleted as well."""
    process = await use(agents)
    directory = tmp_path / "workspaces" / "abcdefgh"
    (directory / "files" / "file").write_text("x")
    await agents.delete("abcdefgh")
    await agents.delete("abcdefgh")

    assert process.killed
    assert not directory.exists()


async def test_kill_ends_idle_and_busy_processes(agents: Agents) -> None:
    """Nothing is left of them."""
    idle = await use(agents, workspace="workspace1")
    async with agents.borrow(make_work(workspace="workspace2")) as busy:
        await agents.kill()

        assert not busy.alive
    assert idle.killed
