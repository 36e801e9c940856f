"""Tests of `services.executor.execution`: files, costs, slots and work in the background."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import executions_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.executor import execution as execution_module
from services.executor.agent_process import Budget, Result
from services.executor.backend import Link
from services.executor.provisions import Provisions
from services.executor.queue import FairQueue
from tests.unit.executor.fake_processes import (
    FakeProcesses,
    FakeProxy,
    FakeSnapshots,
)
from tests.unit.executor.fakes import (
    FakeBackend,
    follow,
    items,
    kinds,
    outcome,
    take,
    until,
)
from tests.unit.executor.stage import Stage, impatient

Outcome = transcript_pb2.TurnOutcome


async def test_outcome_tells_what_goes_on_and_who_answered(stage: Stage) -> None:
    """As far as the process knows."""
    execution, process = await stage.start()
    process.end(Result.FINISHED, background=2, model="m")
    await execution.over()

    assert (2, "m") == (outcome(execution).background_tasks, outcome(execution).model)


@pytest.mark.parametrize(
    ("ending", "told"),
    [
        ({"tools_succeeded": 1}, True),
        ({"tools_failed": 1}, True),
        ({"tools_running": 1}, True),
        ({"background": 1}, True),
        ({}, False),
    ],
)
async def test_changed_files_stand_right_before_the_outcome(
    stage: Stage, snapshots: FakeSnapshots, ending: dict[str, int], told: bool
) -> None:
    """Compared with what was there before the prompt; who used no tool changed none."""
    snapshots.changed.changes.add(path="a")
    execution, process = await stage.start()
    taken = list(snapshots.taken)
    process.end(Result.FINISHED, **ending)
    await execution.over()

    assert ["abcdefgh"] == taken
    assert ["file_changes"] * told + ["turn_outcome"] == kinds(execution.book)
    assert not told or snapshots.changed == items(execution.book)[0].file_changes


async def test_work_in_the_background_may_have_changed_files(
    stage: Stage, snapshots: FakeSnapshots
) -> None:
    """Though the turn itself used no tool, and nothing goes on any more."""
    snapshots.changed.omitted_files = 1
    first, process = await stage.start()
    process.background = 1
    process.end(Result.FINISHED)
    await first.over()
    execution = stage.make(execution_id="e2", resume_from="c1")
    stage.provisions.tasks.spawn(execution.run(), name="execution")
    await until(lambda: process.begun == ["e1", "e2"])
    process.background = 0
    process.end(Result.FINISHED)
    await execution.over()

    assert ["turn_outcome"] == kinds(first.book)
    assert ["file_changes", "turn_outcome"] == kinds(execution.book)


async def test_nothing_is_said_of_no_changes(stage: Stage) -> None:
    """A tool that only reads."""
    execution, process = await stage.start()
    process.end(Result.FINISHED, tools_succeeded=1)
    await execution.over()

    assert ["turn_outcome"] == kinds(execution.book)


async def test_metered_turn_costs_what_the_meter_says(
    stage: Stage, backend: FakeBackend, proxy: FakeProxy
) -> None:
    """Not what the program says; it is told while it runs, a few times a second."""
    backend.link = Link.SOCKET
    budget = Budget(turn=100)
    execution, process = await stage.start(budget=budget)
    meter = proxy.meters[0]
    meter.count(1)
    meter.count(2)
    cursor = follow(execution.book)
    told: list[int] = []

    def costs() -> list[int]:
        updates, _ = take(cursor)
        told.extend(one.progress.usage.cost_usd_micros for one in updates)
        return told

    await until(costs)
    meter.count(4)
    process.end(Result.FINISHED)
    await execution.over()
    meter.count(8)

    assert [3] == told
    assert [budget] == meter.budgets
    assert transcript_pb2.Usage(cost_usd_micros=7) == outcome(execution).usage


@pytest.mark.parametrize(
    ("result", "state", "reason"),
    [
        (Result.FINISHED, Outcome.STATE_FINISHED, errors_pb2.ERROR_REASON_UNSPECIFIED),
        (Result.FAILED, Outcome.STATE_FAILED, errors_pb2.ERROR_REASON_BUDGET_EXHAUSTED),
        (Result.DIED, Outcome.STATE_FAILED, errors_pb2.ERROR_REASON_AGENT_CRASHED),
    ],
)
async def test_turn_without_budget_fails_for_it(
    stage: Stage,
    backend: FakeBackend,
    proxy: FakeProxy,
    result: Result,
    state: Outcome.State.ValueType,
    reason: errors_pb2.ErrorReason.ValueType,
) -> None:
    """Unless it had finished before it needed more, or something else ended it."""
    backend.link = Link.SOCKET
    execution, process = await stage.start()
    proxy.meters[0].exhausted = "month"
    process.end(result, failure=Failure(errors_pb2.ERROR_REASON_AGENT_CRASHED, "no"))
    await execution.over()

    assert (state, reason) == (outcome(execution).state, outcome(execution).error.reason)
    if result is Result.FAILED:
        assert {"budget": "month"} == dict(outcome(execution).error.metadata)


async def test_execution_waits_for_a_slot(
    stage: Stage, queue: FairQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place is told; the time it waits is not its own, and it can be cancelled."""
    stage.provisions = dataclasses.replace(stage.provisions, limited=["simulation"])
    queue.take("")
    waiting = stage.make(timeout=timedelta(minutes=1))
    cancelled = stage.make(execution_id="e2", workspace="workspace2")
    for execution in (waiting, cancelled):
        stage.provisions.tasks.spawn(execution.run(), name="execution")
    cursor = follow(waiting.book)
    await until(lambda: take(cursor)[0])
    cancelled.stop(cause=None, grace=None)
    await cancelled.over()
    later = SimpleNamespace(time_ns=time.time_ns, monotonic=lambda: time.monotonic() + 3600)
    monkeypatch.setattr(execution_module, "time", later)
    state = waiting.state
    queue.give_back("")
    await until(lambda: waiting.state == executions_pb2.Execution.STATE_RUNNING)
    (update,), _ = take(cursor)
    await asyncio.sleep(0.01)
    ended = waiting.book.ended
    waiting.stop(cause=None, grace=None)
    await waiting.over()

    assert executions_pb2.Execution.STATE_STARTING == state
    assert Outcome.STATE_CANCELLED == outcome(cancelled).state
    assert update.HasField("progress")
    assert 0 == update.progress.queue_position
    assert not ended


async def test_execution_in_the_background_has_no_prompt(stage: Stage) -> None:
    """It needs no slot; to cancel it ends neither the work nor the process."""
    first, process = await stage.start()
    process.end(Result.FINISHED, background=1)
    await first.over()
    stage.provisions = dataclasses.replace(stage.provisions, limited=["simulation"])
    stage.provisions.queue.take("")
    execution = stage.make(execution_id="e2", background=True, resume_from="c1")
    stage.provisions.tasks.spawn(execution.run(), name="execution")
    await until(lambda: process.attended)
    execution.stop(cause=None, grace=None)
    await execution.over()

    assert ["e1"] == process.begun
    assert Outcome.STATE_FINISHED == outcome(execution).state
    assert process.alive


@pytest.mark.parametrize("stopped", [True, False])
async def test_execution_in_the_background_that_finds_nothing_is_finished(
    stage: Stage, processes: FakeProcesses, stopped: bool
) -> None:
    """The process ended meanwhile, or nobody wants to hear of it."""
    execution = stage.make(background=True)
    if stopped:
        execution.stop(cause=None, grace=None)
    await execution.run()

    assert Outcome.STATE_FINISHED == outcome(execution).state
    assert [] == processes.made


async def test_work_in_the_background_that_takes_too_long_is_ended(
    provisions: Provisions, processes: FakeProcesses
) -> None:
    """To let it go on unattended would be no end."""
    stage = impatient(provisions, processes)
    first, process = await stage.start()
    process.end(Result.FINISHED, background=1)
    await first.over()
    execution = stage.make(
        execution_id="e2", background=True, resume_from="c1", timeout=timedelta(seconds=0.02)
    )
    await execution.run()

    assert process.killed
    assert Outcome.STATE_FAILED == outcome(execution).state
    assert errors_pb2.ERROR_REASON_TURN_TIMEOUT == outcome(execution).error.reason
