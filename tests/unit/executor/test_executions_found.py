"""Tests of `services.executor.executions`: what is there already, here or of an executor before."""

from __future__ import annotations

import time
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import pytest

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import executions_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.executor.agent_process import Result
from services.executor.backend import Link
from services.executor.execution import Execution
from services.executor.executions import Executions
from services.executor.notes import Note, Notes
from services.executor.workspaces import Workspaces
from tests.unit.executor.conftest import MakeExecutions
from tests.unit.executor.fake_processes import FakeProcesses
from tests.unit.executor.fakes import WORKSPACE, FakeBackend, make_work, outcome, take, until
from tests.unit.executor.test_executions import running, start

CANCELLED = transcript_pb2.TurnOutcome.STATE_CANCELLED


@pytest.mark.parametrize(
    ("changed", "needed"),
    [
        ({}, False),
        ({"last_entry": "here"}, False),
        ({"last_entry": "gone"}, True),
        ({"last_entry": "gone", "background": True}, False),
    ],
)
async def test_newest_part_of_the_transcript_must_be_here(
    executions: Executions, changed: dict[str, Any], needed: bool
) -> None:
    """Otherwise the agent would go on with an older conversation."""
    expected = pytest.raises(Failure, match="restore it") if needed else nullcontext()
    with expected:
        await executions.check_transcript(make_work(**changed))


async def test_transcript_is_not_looked_for_when_it_is_known(
    make_executions: MakeExecutions, processes: FakeProcesses
) -> None:
    """The process that is there has written it, or the call is a repetition."""
    executions = make_executions(has_entry=lambda *_: False)
    execution = start(executions)
    process = await running(processes, "e1")
    part = executions_pb2.TranscriptPart(last_entry="e1")
    process.book.append_transcript(part)
    await executions.check_transcript(make_work(last_entry="gone"))
    process.end(Result.FINISHED)
    await execution.over()

    await executions.check_transcript(make_work(execution_id="e2", last_entry="e1"))


async def test_transcript_is_not_looked_for_in_a_backend_that_cannot_run(
    executions: Executions,
) -> None:
    """That is told instead."""
    with pytest.raises(Failure) as caught:
        await executions.check_transcript(make_work(backend="mainframe", last_entry="gone"))

    assert "BACKEND_UNAVAILABLE" == caught.value.reason_name


async def test_vacated_workspace_has_nothing_running(
    executions: Executions, processes: FakeProcesses
) -> None:
    """What ran there is ended."""
    async with executions.vacated("workspace2") as place:
        assert place.files.is_dir()
    execution = start(executions)
    process = await running(processes, "e1")
    async with executions.vacated(WORKSPACE):
        assert CANCELLED == outcome(execution).state
        assert process.closed


def note(**changed: Any) -> Note:
    """Return the note of an execution that has just begun."""
    now = time.time_ns()
    return Note(work=make_work(**changed), create_time_ns=now, begin_time_ns=now)


async def test_adopted_execution_is_known_by_its_name(
    executions: Executions, backend: FakeBackend, processes: FakeProcesses
) -> None:
    """A repeated call finds it, and so does who follows it further than it has come."""
    backend.link = Link.SOCKET
    adopted = await executions.adopt(note())
    execution = executions.get("e1")
    again = executions.create(make_work())
    cursor = execution.book.follow(after=7, mark=lambda: None)
    processes.made[0].end(Result.FINISHED)
    await execution.over()
    (update,), _ = take(cursor)

    assert adopted
    assert execution is again
    assert ["e1"] == processes.made[0].adopted
    assert 8 == update.event.sequence


async def test_execution_that_cannot_be_adopted_is_lost(
    executions: Executions, backend: FakeBackend, processes: FakeProcesses
) -> None:
    """It has run, so that it must not be taken for one that never began."""
    backend.link = Link.SOCKET
    processes.open_failure = Failure(errors_pb2.ERROR_REASON_EXECUTION_LOST, "Gone.")
    adopted = await executions.adopt(note())
    with pytest.raises(Failure) as caught:
        executions.get("e1")

    assert not adopted
    assert "EXECUTION_LOST" == caught.value.reason_name


async def test_lost_execution_is_remembered_as_long_as_its_note(
    make_executions: MakeExecutions, notes: Notes, workspaces: Workspaces
) -> None:
    """A later executor has to know it, too; then it is forgotten with the note."""
    executions = make_executions()
    await notes.write(await workspaces.make(WORKSPACE), note())
    executions.remember_lost(note())
    with pytest.raises(Failure) as caught:
        executions.get("e1")
    kept = await notes.read()
    later = make_executions(retention=timedelta(seconds=0.002))
    later.remember_lost(note())
    await until(lambda: isinstance(later.create(make_work()), Execution))

    assert "EXECUTION_LOST" == caught.value.reason_name
    assert 1 == len(kept)
    assert [] == await notes.read()


async def test_note_is_removed_when_the_outcome_is_stored(
    executions: Executions, backend: FakeBackend, processes: FakeProcesses, notes: Notes
) -> None:
    """Before, an executor that comes after this one would have to tell the outcome again."""
    backend.link = Link.SOCKET
    execution = start(executions)
    (await running(processes, "e1")).end(Result.FINISHED)
    await execution.over()
    executions.acknowledge("e1", 0)
    before = await notes.read()
    executions.acknowledge("e1", 1)

    assert 1 == len(before)
    assert [] == await notes.read()
