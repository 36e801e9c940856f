"""Tests of `services.executor.surroundings` and its door: what is told of an executor."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from moorline.diagnosis.v1 import diagnosis_pb2
from services.chassis.tasks import Tasks
from services.executor import surroundings as surroundings_module
from services.executor.backend import Backend, Link
from services.executor.backends.cloud_run import CloudRun
from services.executor.backends.simulation import Simulation
from services.executor.surroundings import Look, Surroundings, disk_check

Check = diagnosis_pb2.Check


def failing(subject: diagnosis_pb2.Check.Subject.ValueType) -> Look:
    """Return a look that finds a failure."""

    async def run() -> Sequence[diagnosis_pb2.Check]:
        return [Check(subject=subject, state=Check.STATE_FAILED, detail="broken", remedy="mend it")]

    return Look(subject, run)


BROKEN = [failing(subject) for subject in (Check.SUBJECT_ENGINE, Check.SUBJECT_PROGRAM)]
NO_KEY = failing(Check.SUBJECT_KEY)


@pytest.fixture
def simulation(tasks: Tasks) -> Backend:
    """A backend that needs nothing."""
    return Simulation(seed=0, tasks=tasks)


def surroundings(
    tmp_path: Path, *backends: Backend, looks: Sequence[Look] = (), default: str = ""
) -> Surroundings:
    """Return the surroundings of an executor whose first backend is the default."""
    return Surroundings(
        backends={backend.name: backend for backend in backends},
        default_backend=default or backends[0].name,
        workspaces=tmp_path / "not" / "there",
        looks=looks,
    )


def states(checks: Sequence[diagnosis_pb2.Check]) -> dict[str, str]:
    """Return what was found, in short."""
    return {
        Check.Subject.Name(check.subject).removeprefix("SUBJECT_"): Check.State.Name(
            check.state
        ).removeprefix("STATE_")
        for check in checks
    }


async def test_what_nobody_has_chosen_is_no_failure(tmp_path: Path, simulation: Backend) -> None:
    """Without Docker, program and key the simulation works; what is wrong is told all the same."""
    looks = [*BROKEN, NO_KEY]

    checks = await surroundings(tmp_path, simulation, CloudRun(), looks=looks).look()

    assert {
        "EXECUTOR": "GOOD",
        "ENGINE": "WARNING",
        "PROGRAM": "WARNING",
        "KEY": "UNUSED",
        "DISK": "GOOD",
    } == states(checks)
    assert "Agents can run by: simulation." == checks[0].detail


async def test_what_was_chosen_must_work(tmp_path: Path, simulation: Backend) -> None:
    """The default backend, and a key once something needs a model."""
    backend: Any = SimpleNamespace(name="docker", unavailable="no engine", link=Link.SOCKET)

    checks = await surroundings(tmp_path, backend, simulation, looks=[*BROKEN, NO_KEY]).look()

    assert {
        "EXECUTOR": "FAILED",
        "ENGINE": "FAILED",
        "PROGRAM": "WARNING",
        "KEY": "FAILED",
        "DISK": "GOOD",
    } == states(checks)
    assert "no engine" in checks[0].detail
    assert "MOORLINE_DEFAULT_BACKEND" in checks[0].remedy


async def test_a_key_is_needed_by_any_backend_that_works(
    tmp_path: Path, simulation: Backend
) -> None:
    """An agent may choose it."""
    backend: Any = SimpleNamespace(name="docker", unavailable="", link=Link.SOCKET)

    checks = await surroundings(tmp_path, simulation, backend, looks=[NO_KEY]).look()

    assert "FAILED" == states(checks)["KEY"]


async def test_what_says_nothing_is_given_up(
    tmp_path: Path, simulation: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest is told in time."""
    monkeypatch.setattr(surroundings_module, "_SECONDS", 0.05)

    async def hang() -> Sequence[diagnosis_pb2.Check]:
        await asyncio.Event().wait()
        return []

    async def answer() -> Sequence[diagnosis_pb2.Check]:
        return [Check(subject=Check.SUBJECT_ENGINE, state=Check.STATE_GOOD)]

    looks = [Look(Check.SUBJECT_UPSTREAM, hang), Look(Check.SUBJECT_ENGINE, answer)]
    backend: Any = SimpleNamespace(name="docker", unavailable="", link=Link.SOCKET)
    found = states(await surroundings(tmp_path, simulation, backend, looks=looks).look())
    # A thread looks at the disk, in its own time.
    del found["DISK"]

    assert {"EXECUTOR": "GOOD", "UPSTREAM": "FAILED", "ENGINE": "GOOD"} == found


@pytest.mark.parametrize(
    ("free", "state"), [(3 << 30, "GOOD"), (1 << 30, "WARNING"), (1 << 20, "FAILED")]
)
def test_room_that_runs_out_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: str
) -> None:
    """Before agents fail for want of it."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))

    check = disk_check(tmp_path)

    assert {"DISK": state} == states([check])
    assert bool(check.remedy) == (state != "GOOD")


def test_a_folder_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the folder's name."""
    monkeypatch.setattr("os.access", lambda path, mode: False)

    check = disk_check(tmp_path / "missing")

    assert {"DISK": "FAILED"} == states([check])
    assert str(tmp_path) in check.detail
    assert "missing" not in check.detail
