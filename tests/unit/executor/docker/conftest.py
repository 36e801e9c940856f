"""Fixtures of the tests that need a Docker engine; they skip themselves by name without one."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from services.chassis.tasks import Tasks
from services.executor.channel import Launch
from services.executor.channels.docker.channel import DockerChannel
from services.executor.channels.docker.container import INSTANCE
from services.executor.channels.docker.engine import Engine
from services.executor.place import Place
from services.executor.workspaces import Workspaces
from tests.contract.channels import containers
from tests.unit.jumping import Factories, loops

Contain = Callable[..., DockerChannel]


def pytest_asyncio_loop_factories(item: pytest.Item) -> Factories:
    """Let the time of tests jump whose engine answers in their own loop, at once or never."""
    return loops(jumping=item.path.stem == "test_backend")


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    """The engine of this machine; what a test leaves in it is removed."""
    async with containers.engine() as engine:
        yield engine
        for one in await engine.list(INSTANCE, containers.INSTANCE):
            await engine.remove(one["Id"])


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    """What the test's agent has."""
    return await Workspaces(root=tmp_path).make("abcdefgh")


@pytest.fixture
def contain(engine: Engine, place: Place, tasks: Tasks) -> Contain:
    """Returns a channel to a container that runs some words, with parts of its setup changed."""

    def new(*argv: str, through: Engine = engine, **host: Any) -> DockerChannel:
        launch = Launch(place=place, tenant="t", argv=argv, environment={})
        configuration = containers.configuration(launch)
        configuration["HostConfig"] |= host
        return DockerChannel(
            engine=through,
            container=f"moorline-test-{secrets.token_hex(4)}",
            workspace=place.workspace,
            configuration=configuration,
            prepare=None,
            tasks=tasks,
        )

    return new


@pytest.fixture
def adopt(engine: Engine, place: Place, tasks: Tasks) -> Callable[[str], DockerChannel]:
    """Returns a channel to a container that runs already."""

    def survivor(name: str) -> DockerChannel:
        return DockerChannel(
            engine=engine,
            container=name,
            workspace=place.workspace,
            configuration=None,
            prepare=None,
            tasks=tasks,
        )

    return survivor
