"""Tests of `services.executor.notes`."""

from __future__ import annotations

import dataclasses
import resource
from datetime import timedelta

import pytest

from moorline.executor.v1 import executions_pb2
from services.chassis.failures import Failure
from services.executor.agent_process import Budget
from services.executor.notes import Note, Notes
from services.executor.workspaces import Workspaces
from tests.unit.executor.fakes import WORKSPACE, make_work

NOTE = Note(
    work=make_work(
        "Grüße",
        instructions="be brief",
        permission_mode=executions_pb2.Execution.PERMISSION_MODE_PLAN,
        resume_from="c1",
        timeout=timedelta(seconds=1.5),
        model="m",
        allowed_rules=("Edit", "Bash(npm test:*)"),
        max_steps=3,
        budget=Budget(turn=1, agent=None, month=0),
        tenant="t",
        last_entry="e",
    ),
    create_time_ns=1,
    begin_time_ns=2,
)


async def test_note_is_read_as_it_was_written(notes: Notes, workspaces: Workspaces) -> None:
    """Every field, and what the meter has recorded since."""
    place = await workspaces.make(WORKSPACE)
    await notes.write(place, dataclasses.replace(NOTE, records=(b"0",)))
    notes.record(place, b"1")
    notes.record(place, b"2")

    assert [dataclasses.replace(NOTE, records=(b"0", b"1", b"2"))] == await notes.read()


async def test_record_that_was_cut_short_is_left_out(notes: Notes, workspaces: Workspaces) -> None:
    """The executor died while it wrote it."""
    place = await workspaces.make(WORKSPACE)
    await notes.write(place, NOTE)
    notes.record(place, b"1")
    with (place.notes / "execution.jsonl").open("ab") as file:
        file.write(b"2")

    assert [dataclasses.replace(NOTE, records=(b"1",))] == await notes.read()


async def test_new_note_takes_the_place_of_the_old_one(
    notes: Notes, workspaces: Workspaces
) -> None:
    """With what was recorded; the old one's end removes nothing any more."""
    place = await workspaces.make(WORKSPACE)
    await notes.write(place, NOTE)
    notes.record(place, b"1")
    second = dataclasses.replace(NOTE, work=dataclasses.replace(NOTE.work, execution_id="e2"))
    await notes.write(place, second)
    notes.remove(WORKSPACE, "e1")
    kept = await notes.read()
    notes.remove(WORKSPACE, "e2")
    notes.remove(WORKSPACE, "e2")

    assert [second] == kept
    assert [] == await notes.read()


async def test_note_that_cannot_be_read_does_not_hide_others(
    notes: Notes, workspaces: Workspaces
) -> None:
    """Nor does a workspace that has none."""
    await workspaces.make("workspace1")
    await notes.write(await workspaces.make("workspace2"), NOTE)
    broken = await workspaces.make("workspace3")
    (broken.notes / "execution.jsonl").write_bytes(b"{")
    locked = await workspaces.make("workspace4")
    (locked.notes / "execution.jsonl").mkdir()

    assert [NOTE] == await notes.read()


async def test_record_without_a_place_is_no_failure(notes: Notes, workspaces: Workspaces) -> None:
    """The workspace was deleted meanwhile."""
    notes.record(workspaces.place(WORKSPACE), b"1")

    assert [] == await notes.read()


async def test_record_without_a_note_makes_none(notes: Notes, workspaces: Workspaces) -> None:
    """What is consumed in the background, when no execution is under way, is not noted."""
    place = await workspaces.make(WORKSPACE)
    await notes.write(place, NOTE)
    notes.remove(WORKSPACE, NOTE.work.execution_id)
    notes.record(place, b"[1]")
    notes.remove(WORKSPACE, NOTE.work.execution_id)

    assert [] == list(place.notes.iterdir())


async def test_full_disk_is_told(notes: Notes, workspaces: Workspaces) -> None:
    """By a reason that somebody can do something about."""
    place = await workspaces.make(WORKSPACE)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The nearest to a full disk that a process can make for itself.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(Failure) as caught:
            await notes.write(place, NOTE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert "QUOTA_EXCEEDED" == caught.value.reason_name
    assert [] == await notes.read()
