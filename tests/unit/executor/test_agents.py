"""Tests of `services.executor.agents`."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.chassis.failures import Failure, not_found
from services.chassis.metrics import Metrics
from services.chassis.tasks import Tasks
from services.executor.agents import Agents
from services.executor.backend import Link
from tests.unit.executor.conftest import MakeAgents
from tests.unit.executor.fake_processes import FakeProcess, FakeProcesses, FakeProxy
from tests.unit.executor.fakes import WORKSPACE, FakeBackend, make_work, until


async def use(agents: Agents, **changed: Any) -> FakeProcess:
    """Run one turn and return the process that took it."""
    work = make_work(**changed)
    async with agents.borrow(work) as stay:
        assert stay is not None
        process = stay.process
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
    async with agents.borrow(make_work()) as stay:
        assert stay is not None
        await stay.process.kill()
    second = await use(agents)
    second.alive = False
    third = await use(agents, resume_from="c1")

    assert 3 == len(processes.made)
    assert third.alive


async def test_one_execution_at_a_time_in_a_workspace(agents: Agents) -> None:
    """The second waits until the first has left; another workspace does not."""
    order: list[str] = []
    both = asyncio.Barrier(2)

    async def turn(name: str, workspace: str, *, meet: bool = False) -> None:
        async with agents.borrow(make_work(workspace=workspace)):
            order.append(f"{name} in")
            await (both.wait() if meet else asyncio.sleep(0.01))
            order.append(f"{name} out")

    await asyncio.gather(turn("a", "workspace1"), turn("b", "workspace1"))
    await asyncio.gather(turn("c", "workspace1", meet=True), turn("d", "workspace2", meet=True))

    assert ["a in", "a out", "b in", "b out"] == order[:4]
    assert {"c in", "d in"} == set(order[4:6])


async def test_idle_process_is_put_to_sleep(make_agents: MakeAgents, metrics: Metrics) -> None:
    """After the time limit it is closed, and the next turn starts another."""
    agents = make_agents(idle=timedelta(seconds=0.02))
    first = await use(agents)
    idle = living(metrics, "idle")
    await until(lambda: first.closed)
    await until(lambda: living(metrics, "idle") == 0)
    second = await use(agents, resume_from="c1")

    assert 1 == idle
    assert first is not second


async def test_use_postpones_sleep(agents: Agents, tasks: Tasks) -> None:
    """A process that is in use is never closed by the clock."""
    async with agents.borrow(make_work()) as stay:
        assert stay is not None
        agents._retire("abcdefgh")
        agents._retire("unknown1")
        await until(lambda: not len(tasks))

        assert stay.process.alive


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
        assert first is not None
        assert third is not None
        assert first.process.alive
        assert third.process.alive


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

        assert busy is not None
        assert not busy.process.alive
    assert idle.killed


async def test_worn_process_is_replaced(make_agents: MakeAgents) -> None:
    """After so many turns it is closed at once, though nobody needs its room."""
    agents = make_agents(turns=2)
    first = await use(agents)
    again = await use(agents, resume_from="c1")
    await until(lambda: first.closed)
    other = await use(agents, resume_from="c1")

    assert first is again
    assert other is not first


@pytest.mark.parametrize(("memory", "closed"), [(None, False), (99, False), (101, True)])
async def test_large_process_is_replaced(
    make_agents: MakeAgents, backend: FakeBackend, tasks: Tasks, memory: int | None, closed: bool
) -> None:
    """It is weighed after each turn, unless it is a simulated one."""
    backend.link = Link.SOCKET
    agents = make_agents(memory=100)
    async with agents.borrow(make_work()) as stay:
        assert stay is not None
        process = stay.process
        assert isinstance(process, FakeProcess)
        process.bytes = memory
    await until(lambda: not len(tasks))

    assert closed == process.closed


async def test_process_is_not_replaced_in_the_middle_of_the_next_turn(
    make_agents: MakeAgents, backend: FakeBackend, tasks: Tasks
) -> None:
    """Somebody came while it was weighed."""
    backend.link = Link.SOCKET
    agents = make_agents(memory=100)
    async with agents.borrow(make_work()) as stay:
        assert stay is not None
        assert isinstance(stay.process, FakeProcess)
        stay.process.bytes = 200
    async with agents.borrow(make_work(resume_from="")) as again:
        assert again is not None
        await until(lambda: not len(tasks))

        assert again.process is stay.process
        assert again.process.alive


async def test_work_in_the_background_keeps_a_process_awake(make_agents: MakeAgents) -> None:
    """Neither time, turns nor the need of others end it, before its own time is over."""
    hour = timedelta(hours=1)
    agents = make_agents(processes=1, turns=1, idle=timedelta(seconds=0.01), background=hour)
    async with agents.borrow(make_work(workspace="workspace1")) as stay:
        assert stay is not None
        process = stay.process
        assert isinstance(process, FakeProcess)
        process.background = 1
    await use(agents, workspace="workspace2")
    await asyncio.sleep(0.05)
    early = process.closed
    agents._seats["workspace1"].idle_since -= hour.total_seconds()
    await until(lambda: process.closed)

    assert not early


async def test_execution_in_the_background_needs_the_process_that_is_there(
    agents: Agents, processes: FakeProcesses
) -> None:
    """None is started or ended for it, and another conversation has nothing to do with it."""
    async with agents.borrow(make_work(background=True)) as none:
        assert none is None
    process = await use(agents)
    other: dict[str, Any] = {"background": True, "instructions": "of no matter"}
    async with agents.borrow(make_work(resume_from="other", **other)) as wrong:
        assert wrong is None
    async with agents.borrow(make_work(resume_from="c1", **other)) as stay:
        assert stay is not None
        assert process is stay.process

    assert 1 == len(processes.made)
    assert process.alive


async def test_tenant_has_a_limit_of_processes(make_agents: MakeAgents) -> None:
    """Its own longest idle one goes to sleep, though others were used before."""
    agents = make_agents(processes=99, tenant_processes=2, limited=["simulation"])
    other = await use(agents, workspace="workspace0", tenant="b")
    first = await use(agents, workspace="workspace1", tenant="a")
    second = await use(agents, workspace="workspace2", tenant="a")
    third = await use(agents, workspace="workspace3", tenant="a")
    await until(lambda: first.closed)
    await use(agents, workspace="workspace4", tenant="b")

    assert [False, False, False] == [one.closed for one in (other, second, third)]


async def test_tenant_cannot_pass_its_limit_by_work_in_the_background(
    make_agents: MakeAgents,
) -> None:
    """It is told so; others are not concerned, and it goes on when the work has ended."""
    agents = make_agents(processes=99, tenant_processes=2, limited=["simulation"])
    busy = [await use(agents, workspace=f"workspace{n}", tenant="a") for n in range(2)]
    for process in busy:
        assert isinstance(process, FakeProcess)
        process.background = 1
    with pytest.raises(Failure) as caught:
        await use(agents, workspace="workspace2", tenant="a")
    await use(agents, workspace="workspace3", tenant="b")
    again = await use(agents, workspace="workspace0", tenant="a", resume_from="c1")
    busy[0].background = 0
    await use(agents, workspace="workspace2", tenant="a")
    await until(lambda: busy[0].closed)

    assert "QUOTA_EXCEEDED" == caught.value.reason_name
    assert {"limit": "2", "limitName": "agentProcesses"} == caught.value.metadata
    assert busy[0] is again


async def test_limited_backends_have_a_limit_of_processes(make_agents: MakeAgents) -> None:
    """Whoever has the longest idle one; backends that are not limited have room of their own."""
    agents = make_agents(processes=99, limited_processes=2, limited=["simulation"])
    first = await use(agents, workspace="workspace1", tenant="a")
    second = await use(agents, workspace="workspace2", tenant="b")
    third = await use(agents, workspace="workspace3", tenant="c")
    await until(lambda: first.closed)

    assert [False, False] == [one.closed for one in (second, third)]


async def test_process_reaches_the_model_as_long_as_it_lives(
    agents: Agents, backend: FakeBackend, proxy: FakeProxy
) -> None:
    """It is told the way; one meter counts for all processes of a workspace."""
    backend.link = Link.SOCKET
    first = await use(agents)
    second = await use(agents, resume_from="other")
    await agents.delete(WORKSPACE)

    assert {"ANTHROPIC_BASE_URL": "http://model"} == first.environment == second.environment
    assert [True, True] == [access.closed for access in proxy.accesses]
    assert 1 == len(proxy.meters)


async def test_failed_start_closes_the_way_to_the_model(
    agents: Agents, backend: FakeBackend, processes: FakeProcesses, proxy: FakeProxy
) -> None:
    """Nobody could come by it."""
    backend.link = Link.TCP
    processes.open_failure = not_found()
    with pytest.raises(Failure):
        await use(agents)

    assert proxy.accesses[0].closed


async def test_meter_is_kept_until_a_turn_has_told_what_it_counted(
    agents: Agents, backend: FakeBackend, proxy: FakeProxy
) -> None:
    """What a process consumed between two turns is not forgotten with it."""
    backend.link = Link.SOCKET
    process = await use(agents)
    proxy.meters[0].count(5)
    process.alive = False
    await agents._hibernate(WORKSPACE)
    kept = await use(agents)
    proxy.meters[0].end()
    kept.alive = False
    await agents._hibernate(WORKSPACE)
    await use(agents)

    assert 2 == len(proxy.meters)


async def test_survivor_that_cannot_be_gone_on_with_is_ended(
    agents: Agents, backend: FakeBackend, processes: FakeProcesses, proxy: FakeProxy
) -> None:
    """Whether it fails before it was reached, or afterwards."""
    backend.link = Link.SOCKET
    proxy.failure = not_found()
    with pytest.raises(Failure):
        async with agents.borrow(make_work(), survivor=True):
            raise AssertionError
    proxy.failure = None
    with pytest.raises(Failure):
        async with agents.borrow(make_work(), survivor=True):
            raise not_found()

    assert [WORKSPACE, WORKSPACE] == processes.survivors
    assert [True, True] == [process.killed for process in processes.made]
    assert proxy.accesses[0].closed


async def test_vacated_workspace_has_no_process(agents: Agents) -> None:
    """And none comes before it is left."""
    process = await use(agents)
    async with agents.vacated(WORKSPACE) as place:
        coming = asyncio.ensure_future(use(agents, resume_from="c1"))
        await asyncio.sleep(0.01)

        assert process.closed
        assert place.files.is_dir()
        assert not coming.done()
    await coming


async def test_what_the_process_has_written_is_remembered(agents: Agents) -> None:
    """As long as it is there, nobody has to look at the disk."""
    work = make_work(last_entry="e2")
    before = agents.remembers(work)
    async with agents.borrow(work) as stay:
        assert stay is not None
        agents.told(WORKSPACE, ["e2"])
        agents.told(WORKSPACE, [])
    known = agents.remembers(work)
    other = agents.remembers(make_work(last_entry="e3"))
    await agents.delete(WORKSPACE)

    assert [False, True, False, False] == [before, known, other, agents.remembers(work)]
