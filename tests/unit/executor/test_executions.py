"""Tests of `services.executor.executions`."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from moorline.errors.v1 import errors_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.chassis.metrics import Metrics
from services.executor.agent_process import Result
from services.executor.backend import Link
from services.executor.execution import Execution
from services.executor.executions import Executions, Forgotten
from tests.unit.executor.conftest import MakeExecutions
from tests.unit.executor.fake_processes import FakeProcess, FakeProcesses, FakeProxy
from tests.unit.executor.fakes import WORKSPACE, FakeBackend, make_work, outcome, until

STORE_UNAVAILABLE = errors_pb2.ERROR_REASON_STORE_UNAVAILABLE
CANCELLED = transcript_pb2.TurnOutcome.STATE_CANCELLED


def start(executions: Executions, name: str = "e1", workspace: str = WORKSPACE) -> Execution:
    """Create an execution."""
    execution = executions.create(make_work(execution_id=name, workspace=workspace))
    assert isinstance(execution, Execution)
    return execution


async def running(processes: FakeProcesses, name: str) -> FakeProcess:
    """Wait until a process has an execution's turn."""
    await until(lambda: [one for one in processes.made if one.begun[-1:] == [name]])
    return next(one for one in processes.made if one.begun[-1:] == [name])


async def test_repeated_create_returns_the_first(executions: Executions) -> None:
    """An id makes one execution."""
    first = start(executions)
    again = executions.create(make_work("other", execution_id="e1"))

    assert first is again is executions.get("e1")


async def test_unknown_execution_is_not_found(executions: Executions) -> None:
    """Acknowledging it is no error all the same."""
    executions.acknowledge("nope", 1)
    with pytest.raises(Failure) as caught:
        executions.get("nope")

    assert "RESOURCE_NOT_FOUND" == caught.value.reason_name


async def test_cancelled_execution_that_is_not_there_yet_never_begins(
    executions: Executions, processes: FakeProcesses
) -> None:
    """Whoever gave it up runs the turn elsewhere; a late creation must not run it here, too."""
    with pytest.raises(Failure) as caught:
        executions.cancel("e1", grace=None)

    late = executions.create(make_work(execution_id="e1"))

    assert isinstance(late, Forgotten)
    assert "RESOURCE_NOT_FOUND" == caught.value.reason_name
    with pytest.raises(Failure):
        executions.get("e1")
    assert [] == processes.made


async def test_new_execution_ends_the_one_in_its_workspace(
    executions: Executions, processes: FakeProcesses
) -> None:
    """It waits for that one's end."""
    first = start(executions, "e1")
    await running(processes, "e1")
    second = start(executions, "e2")
    third = start(executions, "e3")
    process = await running(processes, "e3")
    process.end(Result.FINISHED)
    await third.over()

    assert CANCELLED == outcome(first).state == outcome(second).state
    assert transcript_pb2.TurnOutcome.STATE_FINISHED == outcome(third).state


async def test_capacity_is_limited(executions: Executions, processes: FakeProcesses) -> None:
    """Who comes too many is told to come again, and may when one has ended."""
    for number in range(3):
        start(executions, f"e{number}", f"workspace{number}")
    with pytest.raises(Failure) as caught:
        start(executions, "e4", "workspace4")
    process = await running(processes, "e0")
    process.end(Result.FINISHED)
    await executions.get("e0").over()
    start(executions, "e4", "workspace4")

    assert "EXECUTOR_CAPACITY" == caught.value.reason_name
    assert caught.value.retry_delay


async def test_unavailable_backend_is_refused(executions: Executions, backend: FakeBackend) -> None:
    """So is one nobody knows; the error names it."""
    with pytest.raises(Failure) as unknown:
        executions.create(make_work(backend="mainframe"))
    backend.unavailable = "Switched off."
    with pytest.raises(Failure) as unavailable:
        executions.create(make_work())

    assert "BACKEND_UNAVAILABLE" == unknown.value.reason_name
    assert {"backend": "mainframe"} == unknown.value.metadata
    assert "Switched off." in unavailable.value.message


async def test_acknowledged_outcome_is_forgotten(
    executions: Executions, processes: FakeProcesses
) -> None:
    """The id is recognised all the same, so that a late repetition starts nothing."""
    execution = start(executions)
    (await running(processes, "e1")).end(Result.FINISHED)
    await execution.over()
    executions.acknowledge("e1", 0)
    kept = executions.get("e1")
    executions.acknowledge("e1", 1)
    executions.acknowledge("e1", 1)
    with pytest.raises(Failure) as caught:
        executions.get("e1")

    assert kept is execution
    assert "RESOURCE_NOT_FOUND" == caught.value.reason_name
    forgotten = Forgotten("e1", "simulation", WORKSPACE, acknowledged=True)
    assert forgotten == executions.create(make_work())


async def test_outcome_nobody_acknowledges_is_forgotten_in_the_end(
    make_executions: MakeExecutions, processes: FakeProcesses
) -> None:
    """It is lost until its id is forgotten too, much later: tools may have run."""
    # Known without an outcome for 144 times as long: here for as long as the test takes.
    executions = make_executions(capacity=1, retention=timedelta(seconds=0.1))
    execution = start(executions)
    (await running(processes, "e1")).end(Result.FINISHED)
    await execution.over()
    await until(lambda: isinstance(executions.create(make_work()), Forgotten))
    with pytest.raises(Failure) as caught:
        executions.get("e1")
    brief = make_executions(capacity=1, retention=timedelta(seconds=0.002))
    execution = start(brief, "e2")
    (await running(processes, "e2")).end(Result.FINISHED)
    await execution.over()
    await until(lambda: brief.create(make_work(execution_id="e2")) is not execution)
    await until(lambda: isinstance(brief.create(make_work(execution_id="e2")), Execution))

    assert "EXECUTION_LOST" == caught.value.reason_name


async def test_deleting_a_workspace_ends_what_runs_there(
    executions: Executions, processes: FakeProcesses, tmp_path: Path
) -> None:
    """Its files are gone when the call returns; an absent workspace is fine."""
    execution = start(executions)
    process = await running(processes, "e1")
    process.obeys = False
    await executions.delete_workspace(WORKSPACE)
    await executions.delete_workspace("neverwas")

    assert CANCELLED == outcome(execution).state
    assert process.killed
    assert not (tmp_path / "workspaces" / WORKSPACE).exists()


async def test_draining_refuses_what_is_new(
    executions: Executions, processes: FakeProcesses
) -> None:
    """What runs goes on to its end, and a repeated call still finds it."""
    execution = start(executions)
    process = await running(processes, "e1")
    executions.drain()
    with pytest.raises(Failure) as caught:
        start(executions, "e2", "workspace2")
    again = executions.create(make_work())
    executions.check_serving()
    process.end(Result.FINISHED)
    await execution.over()

    assert execution is again
    assert "DRAINING" == caught.value.reason_name
    assert transcript_pb2.TurnOutcome.STATE_FINISHED == outcome(execution).state


async def test_all_is_over_when_the_outcomes_are_stored(
    executions: Executions, processes: FakeProcesses
) -> None:
    """An end alone is not enough: a session may still have to read it."""
    start(executions)
    start(executions, "e2", "workspace2")
    over = asyncio.ensure_future(executions.over(patience=timedelta(minutes=1)))
    for name in ("e1", "e2"):
        (await running(processes, name)).end(Result.FINISHED)
        await executions.get(name).over()
    executions.acknowledge("e1", 1)
    await asyncio.sleep(0.01)
    early = over.done()
    executions.acknowledge("e2", 1)
    async with asyncio.timeout(10):
        await over

    assert not early


async def test_outcomes_nobody_stores_are_not_waited_for_long(
    executions: Executions, processes: FakeProcesses
) -> None:
    """Whoever made the execution may be gone; while it runs it is waited for all the same."""
    execution = start(executions)
    over = asyncio.ensure_future(executions.over(patience=timedelta(seconds=0.01)))
    process = await running(processes, "e1")
    await asyncio.sleep(0.05)
    early = over.done()
    process.end(Result.FINISHED)
    async with asyncio.timeout(10):
        await over

    assert not early
    assert not execution.book.acknowledged


async def test_closing_wakes_the_followers(
    executions: Executions, processes: FakeProcesses
) -> None:
    """They find out why; what ran is ended."""
    execution = start(executions)
    forgotten = start(executions, "e2", "workspace2")
    (await running(processes, "e2")).end(Result.FINISHED)
    await forgotten.over()
    executions.acknowledge("e2", 1)
    news = asyncio.Event()
    execution.book.follow(after=0, mark=news.set)
    executions.check_serving()
    executions.close()
    woken = news.is_set()
    with pytest.raises(Failure) as caught:
        executions.check_serving()
    await executions.kill()

    assert woken
    assert "DRAINING" == caught.value.reason_name
    assert execution.book.ended


async def test_executions_are_counted(
    executions: Executions, processes: FakeProcesses, metrics: Metrics
) -> None:
    """What runs, what ended and how, and the tools that were used."""
    execution = start(executions)
    process = await running(processes, "e1")
    value = metrics.registry.get_sample_value
    before = value("moorline_turns_in_progress", {"backend": "simulation"})
    process.end(Result.FINISHED, tools_succeeded=2, tools_failed=1)
    await execution.over()

    assert 1 == before
    assert 0 == value("moorline_turns_in_progress", {"backend": "simulation"})
    ended = {"backend": "simulation", "outcome": "finished"}
    assert 1 == value("moorline_executions_total", ended)
    assert 1 == value("moorline_execution_duration_seconds_count")
    assert 2 == value("moorline_tool_calls_total", {"outcome": "succeeded"})
    assert 1 == value("moorline_tool_calls_total", {"outcome": "failed"})


async def test_cancelled_for_a_reason_it_fails_with_it(
    executions: Executions, processes: FakeProcesses
) -> None:
    """Whoever cancels it may know better than that somebody wished it."""
    execution = start(executions)
    await running(processes, "e1")
    executions.cancel("e1", grace=None, cause=Failure(STORE_UNAVAILABLE, "No store."))
    await execution.over()

    assert transcript_pb2.TurnOutcome.STATE_FAILED == outcome(execution).state
    assert STORE_UNAVAILABLE == outcome(execution).error.reason


async def test_backend_without_a_way_to_the_model_is_refused(
    executions: Executions, backend: FakeBackend, proxy: FakeProxy
) -> None:
    """One that needs no model does not care."""
    proxy.unavailable = "There is no key."
    start(executions)
    backend.link = Link.TCP
    with pytest.raises(Failure) as caught:
        start(executions, "e2")

    assert "There is no key." in caught.value.message
