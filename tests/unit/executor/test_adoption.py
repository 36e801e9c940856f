"""Tests of `services.executor.adoption`."""

from __future__ import annotations

import time

import pytest

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.executor import adoption
from services.executor.backend import Link
from services.executor.execution import Execution
from services.executor.executions import Executions
from services.executor.notes import Note, Notes
from services.executor.workspaces import Workspaces
from tests.unit.executor.fake_processes import FakeProcesses
from tests.unit.executor.fakes import FakeBackend, make_work


async def leave(notes: Notes, workspaces: Workspaces, name: str, **changed: str) -> None:
    """Leave a note as an executor that was killed does."""
    now = time.time_ns()
    work = make_work(execution_id=name, workspace=f"workspace-{name}".replace("-", ""), **changed)
    place = await workspaces.make(work.workspace)
    await notes.write(place, Note(work=work, create_time_ns=now, begin_time_ns=now))


async def start(backend: FakeBackend, notes: Notes, executions: Executions) -> None:
    """Do what an executor does first."""
    await adoption.adopt(backends=[backend], notes=notes, executions=executions)


def found(executions: Executions, name: str) -> str:
    """Return what a call to get an execution is answered."""
    try:
        return type(executions.get(name)).__name__
    except Failure as failure:
        return failure.reason_name


async def test_survivor_with_a_note_goes_on(
    backend: FakeBackend,
    notes: Notes,
    workspaces: Workspaces,
    executions: Executions,
    processes: FakeProcesses,
) -> None:
    """One without is ended, and a note without a survivor is an execution that is lost."""
    backend.link = Link.SOCKET
    backend.left = ["workspacee1", "workspacee3"]
    await leave(notes, workspaces, "e1")
    await leave(notes, workspaces, "e2")
    await start(backend, notes, executions)

    assert Execution.__name__ == found(executions, "e1")
    assert "EXECUTION_LOST" == found(executions, "e2")
    assert ["workspacee1"] == backend.kept == processes.survivors


@pytest.mark.parametrize(("link", "name"), [(Link.TCP, "simulation"), (Link.SOCKET, "other")])
async def test_survivor_that_cannot_go_on_is_ended(
    backend: FakeBackend,
    notes: Notes,
    workspaces: Workspaces,
    executions: Executions,
    link: Link,
    name: str,
) -> None:
    """Its way to the model is lost, or its agent has moved to another backend."""
    backend.link = link
    backend.left = ["workspacee1"]
    await leave(notes, workspaces, "e1", backend=name)
    await start(backend, notes, executions)

    assert "EXECUTION_LOST" == found(executions, "e1")
    assert [] == backend.kept


async def test_survivor_that_is_gone_when_it_is_adopted_is_lost(
    backend: FakeBackend,
    notes: Notes,
    workspaces: Workspaces,
    executions: Executions,
    processes: FakeProcesses,
) -> None:
    """It has ended in the last moment."""
    backend.link = Link.SOCKET
    backend.left = ["workspacee1"]
    processes.open_failure = Failure(errors_pb2.ERROR_REASON_EXECUTION_LOST, "Gone.")
    await leave(notes, workspaces, "e1")
    await start(backend, notes, executions)

    assert "EXECUTION_LOST" == found(executions, "e1")


async def test_nothing_is_left(backend: FakeBackend, notes: Notes, executions: Executions) -> None:
    """What a simulation ran is not known: it has told all that it did."""
    await start(backend, notes, executions)

    assert "RESOURCE_NOT_FOUND" == found(executions, "e1")
    assert [] == backend.kept
