"""Tests of `services.executor.backends`."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.chassis.failures import Failure
from services.chassis.tasks import Tasks
from services.executor.backend import Backend
from services.executor.backends.cloud_run import CloudRun
from services.executor.backends.simulation import Simulation
from services.executor.channel import Launch
from services.executor.workspaces import Workspaces
from tests.unit.executor.fakes import FakeReceiver

PLACE = Workspaces(root=Path("/nowhere")).place("abcdefgh")
LAUNCH = Launch(place=PLACE, tenant="", argv=(), environment={})


async def test_simulation_is_available(tasks: Tasks) -> None:
    """It needs nothing, and gives a channel that opens."""
    backend = Simulation(seed=0, tasks=tasks)
    channel = backend.channel(LAUNCH)
    await channel.open(FakeReceiver())
    await channel.kill()

    assert ("simulation", "") == (backend.name, backend.unavailable)


def test_backend_that_cannot_run_says_why() -> None:
    """It refuses with its reason."""
    backend: Backend = CloudRun()
    with pytest.raises(Failure) as caught:
        backend.channel(LAUNCH)

    assert "BACKEND_UNAVAILABLE" == caught.value.reason_name
    assert {"backend": backend.name} == caught.value.metadata
    assert backend.unavailable in caught.value.message
