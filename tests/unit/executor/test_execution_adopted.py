"""Tests of `services.executor.execution`: what an executor leaves to the next one."""

from __future__ import annotations

import dataclasses

from moorline.errors.v1 import errors_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.executor.agent_process import Result
from services.executor.backend import Link
from services.executor.notes import Notes
from services.executor.queue import FairQueue
from tests.unit.executor.fake_processes import (
    FakeProcesses,
    FakeProxy,
    FakeSnapshots,
)
from tests.unit.executor.fakes import (
    FakeBackend,
    outcome,
)
from tests.unit.executor.stage import Stage, started

Outcome = transcript_pb2.TurnOutcome


async def test_turn_of_a_real_agent_is_noted_before_its_prompt(
    stage: Stage, backend: FakeBackend, proxy: FakeProxy, notes: Notes
) -> None:
    """And what its meter counts is noted as it comes; a simulated one leaves nothing."""
    simulated, process = await stage.start()
    before = await notes.read()
    process.end(Result.FINISHED)
    await simulated.over()
    backend.link = Link.SOCKET
    execution, process = await stage.start(workspace="workspace2")
    proxy.meters[0].count(3)
    (note,) = await notes.read()
    process.end(Result.FINISHED)
    await execution.over()

    assert [] == before
    assert (execution.work, (b"3",)) == (note.work, note.records)
    assert execution.create_time_ns == note.create_time_ns
    assert execution.noted


async def test_adopted_execution_goes_on_where_it_was(
    stage: Stage,
    backend: FakeBackend,
    proxy: FakeProxy,
    snapshots: FakeSnapshots,
    queue: FairQueue,
) -> None:
    """In the same process, with what was counted, what was there before, and its slot."""
    backend.link = Link.SOCKET
    stage.provisions = dataclasses.replace(stage.provisions, limited=["simulation"])
    queue.take("")
    note = dataclasses.replace(started(10), records=(b"7",))
    execution, process = await stage.start(adopted=note)
    await execution.taken_up()
    process.end(Result.FINISHED)
    await execution.over()

    assert ["e1"] == process.adopted
    assert [] == process.begun
    assert [] == snapshots.taken
    assert [b"7"] == proxy.meters[0].recalled
    assert note.create_time_ns == execution.create_time_ns
    assert 10 <= outcome(execution).duration.seconds < 60
    assert not execution.lost


async def test_time_of_an_adopted_execution_goes_on(stage: Stage, backend: FakeBackend) -> None:
    """Its limit counts from its first start."""
    backend.link = Link.SOCKET
    execution, _ = await stage.start(adopted=started(100))
    await execution.over()

    assert errors_pb2.ERROR_REASON_TURN_TIMEOUT == outcome(execution).error.reason


async def test_execution_that_cannot_be_adopted_is_lost(
    stage: Stage, processes: FakeProcesses, backend: FakeBackend
) -> None:
    """Whoever waits for it hears at once."""
    backend.link = Link.SOCKET
    processes.open_failure = Failure(errors_pb2.ERROR_REASON_EXECUTION_LOST, "Gone.")
    execution = stage.make(adopted=started(1))
    await execution.run()
    await execution.taken_up()

    assert execution.lost
