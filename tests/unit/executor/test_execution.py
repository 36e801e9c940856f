"""Tests of `services.executor.execution`."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import executions_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.chassis.tasks import Tasks
from services.executor.agent_process import Result
from services.executor.provisions import Provisions
from tests.unit.executor.fake_processes import FakeProcesses, FakeSnapshots
from tests.unit.executor.fakes import follow, items, outcome, take, until
from tests.unit.executor.stage import Stage, impatient

Outcome = transcript_pb2.TurnOutcome


async def test_finished_turn_has_an_outcome_with_usage(stage: Stage) -> None:
    """The outcome carries usage, duration and the conversation."""
    execution, process = await stage.start()
    running = execution.state
    process.end(Result.FINISHED)
    await execution.over()
    told = outcome(execution)
    (update,), _ = take(follow(execution.book), 1)

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


async def test_process_is_not_killed_for_a_turn_that_it_has_ended(
    stage: Stage, snapshots: FakeSnapshots
) -> None:
    """However long the rest of the execution takes: by then it may have the next turn."""
    snapshots.may_tell.clear()
    execution, process = await stage.start()
    process.obeys = False
    execution.stop(cause=None, grace=timedelta(seconds=0.02))
    process.end(Result.INTERRUPTED, tools_succeeded=1)
    await asyncio.sleep(0.05)
    snapshots.may_tell.set()
    await execution.over()

    assert Outcome.STATE_CANCELLED == outcome(execution).state
    assert not process.killed


async def test_process_is_not_interrupted_for_a_turn_that_it_has_ended(
    stage: Stage, snapshots: FakeSnapshots
) -> None:
    """It would be the next turn that is."""
    snapshots.may_tell.clear()
    execution, process = await stage.start()
    process.end(Result.FINISHED, tools_succeeded=1)
    await asyncio.sleep(0.01)
    execution.stop(cause=None, grace=None)
    await asyncio.sleep(0.01)
    snapshots.may_tell.set()
    await execution.over()

    assert Outcome.STATE_FINISHED == outcome(execution).state
    assert 0 == process.interrupts


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


async def test_decision_changes_nothing_once_the_agent_has_ended(
    stage: Stage, snapshots: FakeSnapshots
) -> None:
    """The process knows nothing of it any more, though the outcome is still to come."""
    snapshots.may_tell.clear()
    decision = transcript_pb2.PermissionDecision(permission_id="p", allowed=True)
    execution, process = await stage.start()
    process.end(Result.FINISHED, tools_succeeded=1)
    await execution.answer(decision)
    await until(lambda: snapshots.compared)
    await execution.answer(decision)
    snapshots.may_tell.set()
    await execution.over()

    assert [] == process.answered
