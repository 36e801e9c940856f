"""Tests of `services.executor.execution`."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from datetime import timedelta
from typing import Any

import pytest

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import executions_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.chassis.tasks import Tasks
from services.executor.agent_process import Budget, Ending, Result
from services.executor.backend import Link
from services.executor.execution import Execution
from services.executor.notes import Note, Notes
from services.executor.provisions import Limits, Provisions
from services.executor.queue import FairQueue
from tests.unit.executor.fake_processes import (
    FakeProcess,
    FakeProcesses,
    FakeProxy,
    FakeSnapshots,
)
from tests.unit.executor.fakes import (
    FakeBackend,
    follow,
    items,
    kinds,
    make_work,
    outcome,
    until,
)

Outcome = transcript_pb2.TurnOutcome


class Stage:
    """Runs executions and remembers how they ended."""

    def __init__(self, *, provisions: Provisions, processes: FakeProcesses, limits: Limits) -> None:
        self.ended: list[tuple[Execution, Ending | None]] = []
        self.provisions = provisions
        self._processes = processes
        self._limits = limits

    def make(self, *, adopted: Note | None = None, **changed: Any) -> Execution:
        """Return an execution that is not started."""
        return Execution(
            work=make_work(**changed),
            limits=self._limits,
            provisions=self.provisions,
            adopted=adopted,
            ended=lambda execution, ending: self.ended.append((execution, ending)),
        )

    async def start(self, **changed: Any) -> tuple[Execution, FakeProcess]:
        """Return an execution whose turn has begun, and its process."""
        execution = self.make(**changed)
        before = len(self._processes.made)
        self.provisions.tasks.spawn(execution.run(), name="execution")
        await until(lambda: len(self._processes.made) > before and self._processes.made[-1].ending)
        return execution, self._processes.made[-1]


@pytest.fixture
def stage(provisions: Provisions, processes: FakeProcesses, limits: Limits) -> Stage:
    """A stage with ample limits."""
    return Stage(provisions=provisions, processes=processes, limits=limits)


def impatient(provisions: Provisions, processes: FakeProcesses, **changed: timedelta) -> Stage:
    """Return a stage with some limits of its own."""
    values = {
        "timeout": timedelta(minutes=1),
        "stall": timedelta(minutes=1),
        "grace": timedelta(seconds=0.02),
    }
    limits = Limits(**(values | changed))
    return Stage(provisions=provisions, processes=processes, limits=limits)


async def test_finished_turn_has_an_outcome_with_usage(stage: Stage) -> None:
    """The outcome carries usage, duration and the conversation."""
    execution, process = await stage.start()
    running = execution.state
    process.end(Result.FINISHED)
    await execution.over()
    told = outcome(execution)
    (update,), _ = execution.book.follow(after=0, mark=lambda: None).take(1)

    assert executions_pb2.Execution.STATE_RUNNING == running
    assert executions_pb2.Execution.STATE_ENDED == execution.state
    assert Outcome.STATE_FINISHED == told.state == execution.outcome
    assert 1 == told.usage.input_tokens
    assert told.duration.nanos > 0
    assert "c1" == update.event.conversation == execution.conversation
    assert 1 == len(stage.ended)


@pytest.mark.parametrize(
    ("result", "tools", "state"),
    [
        (Result.FAILED, 0, Outcome.STATE_FAILED),
        (Result.FAILED, 1, Outcome.STATE_FAILED),
        (Result.DIED, 0, Outcome.STATE_FAILED),
        (Result.DIED, 1, Outcome.STATE_LOST),
    ],
)
async def test_failure_becomes_the_outcome(
    stage: Stage, result: Result, tools: int, state: Outcome.State.ValueType
) -> None:
    """It is lost when a tool was running whose effect nobody knows."""
    execution, process = await stage.start()
    failure = Failure(errors_pb2.ERROR_REASON_AGENT_CRASHED, "It died.", exitCode="1")
    process.end(result, failure=failure, tools_running=tools)
    await execution.over()
    told = outcome(execution)

    assert state == told.state
    assert failure.to_error() == told.error


@pytest.mark.parametrize("obeys", [True, False])
async def test_cancelled_turn_ends_in_time(stage: Stage, obeys: bool) -> None:
    """An agent that does not obey is killed; the turn counts as cancelled either way."""
    execution, process = await stage.start()
    process.obeys = obeys
    execution.stop(cause=None, grace=None)
    execution.stop(cause=None, grace=timedelta(hours=1))
    await execution.over()
    execution.stop(cause=None, grace=None)

    assert Outcome.STATE_CANCELLED == outcome(execution).state
    assert not outcome(execution).HasField("error")
    assert (1, not obeys) == (process.interrupts, process.killed)


async def test_turn_that_finishes_while_it_is_stopped_is_finished(stage: Stage) -> None:
    """What was done counts."""
    execution, process = await stage.start()
    process.obeys = False
    execution.stop(cause=None, grace=timedelta(hours=1))
    process.end(Result.FINISHED)
    await execution.over()

    assert Outcome.STATE_FINISHED == outcome(execution).state


async def test_cancel_before_the_start_runs_nothing(
    stage: Stage, processes: FakeProcesses, tasks: Tasks
) -> None:
    """No process gets the prompt."""
    execution = stage.make()
    execution.stop(cause=None, grace=None)
    await execution.run()

    assert Outcome.STATE_CANCELLED == outcome(execution).state
    assert [] == processes.made


async def test_cancel_while_a_process_is_handed_over(
    stage: Stage, processes: FakeProcesses, tasks: Tasks
) -> None:
    """A process that was opened in the same moment does not get the prompt."""
    processes.opening = asyncio.Event()
    execution = stage.make()
    tasks.spawn(execution.run(), name="execution")
    await until(lambda: processes.made)
    processes.opening.set()
    # The process is woken; its opening ends before the stop can break it off.
    execution.stop(cause=None, grace=None)
    await execution.over()

    assert Outcome.STATE_CANCELLED == outcome(execution).state
    assert [] == processes.made[0].begun


async def test_cancel_while_the_process_starts(
    stage: Stage, processes: FakeProcesses, tasks: Tasks
) -> None:
    """Nobody waits for a process that is not needed any more."""
    processes.opening = asyncio.Event()
    execution = stage.make()
    tasks.spawn(execution.run(), name="execution")
    await until(lambda: processes.made)
    state = execution.state
    execution.stop(cause=None, grace=None)
    await execution.over()

    assert executions_pb2.Execution.STATE_STARTING == state
    assert "" == execution.conversation
    assert Outcome.STATE_CANCELLED == outcome(execution).state


async def test_process_that_cannot_start_fails_the_turn(
    stage: Stage, processes: FakeProcesses
) -> None:
    """Its failure is the outcome's error."""
    processes.open_failure = Failure(errors_pb2.ERROR_REASON_AGENT_STALLED, "No answer.")
    execution = stage.make()
    await execution.run()

    assert Outcome.STATE_FAILED == outcome(execution).state
    assert errors_pb2.ERROR_REASON_AGENT_STALLED == outcome(execution).error.reason
    assert [(execution, None)] == stage.ended


async def test_turn_that_takes_too_long_times_out(
    provisions: Provisions, processes: FakeProcesses
) -> None:
    """The shorter of the caller's time and ours counts."""
    stage = impatient(provisions, processes)
    execution, process = await stage.start(timeout=timedelta(seconds=0.02))
    await execution.over()
    told = outcome(execution)

    assert 1 == process.interrupts
    assert Outcome.STATE_FAILED == told.state
    assert errors_pb2.ERROR_REASON_TURN_TIMEOUT == told.error.reason
    assert "1" == told.error.metadata["seconds"]


async def test_silent_agent_is_stalled(provisions: Provisions, processes: FakeProcesses) -> None:
    """An agent that talks is left alone until it falls silent."""
    stage = impatient(provisions, processes, stall=timedelta(seconds=0.02))
    execution, process = await stage.start()
    await asyncio.sleep(0.05)
    talking = process.interrupts
    process.quiet = timedelta(seconds=5)
    await execution.over()

    assert 0 == talking
    assert errors_pb2.ERROR_REASON_AGENT_STALLED == outcome(execution).error.reason


async def test_agent_that_stops_by_itself_has_failed(stage: Stage) -> None:
    """Nobody asked it to."""
    execution, process = await stage.start()
    process.end(Result.INTERRUPTED)
    await execution.over()

    assert errors_pb2.ERROR_REASON_AGENT_FAILED == outcome(execution).error.reason


async def test_bug_still_gives_an_outcome(stage: Stage, tasks: Tasks) -> None:
    """No turn stays without an end, whatever breaks."""
    execution, process = await stage.start()
    assert process.ending is not None
    process.ending.set_exception(ZeroDivisionError())
    await execution.over()

    assert errors_pb2.ERROR_REASON_INTERNAL == outcome(execution).error.reason
    assert "e1" == outcome(execution).error.metadata["errorId"]


async def test_decision_reaches_the_agent(stage: Stage) -> None:
    """Before there is a process, and after the end, it changes nothing."""
    decision = transcript_pb2.PermissionDecision(permission_id="p", allowed=True, reason="r")
    early = stage.make(execution_id="e0")
    await early.answer(decision)
    execution, process = await stage.start()
    await execution.answer(decision)
    with pytest.raises(Failure):
        await execution.answer(transcript_pb2.PermissionDecision(permission_id="unknown"))
    process.end(Result.FINISHED)
    await execution.over()
    await execution.answer(decision)

    assert [decision] == process.answered
    assert 1 == len(items(execution.book))


def started(seconds_ago: float, **changed: Any) -> Note:
    """Return the note of an execution that was begun some time ago."""
    begin = time.time_ns() - round(seconds_ago * 1e9)
    return Note(work=make_work(**changed), create_time_ns=begin, begin_time_ns=begin)


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
        updates, _ = cursor.take(1 << 20)
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


async def test_execution_waits_for_a_slot(stage: Stage, queue: FairQueue) -> None:
    """Its place is told; the time it waits is not its own, and it can be cancelled."""
    stage.provisions = dataclasses.replace(stage.provisions, limited=["simulation"])
    queue.take("")
    waiting = stage.make(timeout=timedelta(seconds=0.3))
    cancelled = stage.make(execution_id="e2", workspace="workspace2")
    for execution in (waiting, cancelled):
        stage.provisions.tasks.spawn(execution.run(), name="execution")
    cursor = follow(waiting.book)
    await until(lambda: cursor.take(1 << 20)[0])
    cancelled.stop(cause=None, grace=None)
    await cancelled.over()
    await asyncio.sleep(0.3)
    state = waiting.state
    queue.give_back("")
    await until(lambda: waiting.state == executions_pb2.Execution.STATE_RUNNING)
    (update,), _ = cursor.take(1 << 20)
    await asyncio.sleep(0.1)
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
    assert 10 == outcome(execution).duration.seconds
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
