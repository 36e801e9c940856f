"""Tests of the Docker backend with an engine: agents that outlive an executor, and what is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from services.chassis.tasks import Tasks
from services.executor.backends.docker import Docker
from services.executor.channel import Exit, ExitReason, Launch
from services.executor.channels.docker.container import INSTANCE, WORKSPACE
from services.executor.channels.docker.engine import Engine
from services.executor.place import Place
from services.executor.workspaces import Workspaces
from tests.contract.channels import containers
from tests.unit.executor.docker.test_channel import Hearer, left, way
from tests.unit.executor.fakes import until

pytestmark = pytest.mark.docker

READER = ("perl", "-e", "$| = 1; print qq(begun\\n); while (<STDIN>) { print qq(read $_) }")


@asynccontextmanager
async def backend(engine: Engine, *, interval: float = 60) -> AsyncIterator[Docker]:
    """An executor's Docker backend; leaving it is the executor's end, without a word."""
    async with (
        Tasks() as tasks,
        Docker(
            disabled=False,
            host=engine.host,
            setting=containers.SETTING,
            patience=timedelta(seconds=10),
            interval=timedelta(seconds=interval),
            tasks=tasks,
        ) as docker,
    ):
        assert "" == docker.unavailable
        yield docker


async def begin(docker: Docker, place: Place) -> Hearer:
    """Start an agent that repeats what it reads."""
    hearer = Hearer()
    await docker.channel(Launch(place=place, tenant="t", argv=READER, environment={})).open(hearer)
    async with asyncio.timeout(10):
        await until(lambda: hearer.lines)
    return hearer


async def states(engine: Engine) -> list[str]:
    """Return the states of the containers there are."""
    found = await engine.list(INSTANCE, containers.INSTANCE)
    return [str(one["State"]) for one in found]


async def given_up(docker: Docker) -> None:
    """Wait until the engine was told in vain to remove all containers."""
    assert docker._containers is not None
    live = docker._containers._live
    async with asyncio.timeout(10):
        await until(lambda: all(channel.left_behind for channel in live))


async def workspaces(engine: Engine) -> list[str]:
    """Return whose containers there are."""
    found = await engine.list(INSTANCE, containers.INSTANCE)
    return sorted(str(one["Labels"][WORKSPACE]) for one in found)


@pytest.fixture
async def places(tmp_path: Path) -> list[Place]:
    """What two agents have."""
    workspaces = Workspaces(root=tmp_path)
    return [await workspaces.make(name) for name in ("abcdefgh", "hgfedcba")]


async def test_agent_outlives_its_executor(engine: Engine, places: list[Place]) -> None:
    """The next one finds it, hears all it has said, and goes on with it."""
    async with backend(engine) as docker:
        for place in places:
            await begin(docker, place)
    async with backend(engine) as docker:
        assert {"abcdefgh", "hgfedcba"} == set(await docker.survivors())
        await docker.reap(["abcdefgh"])
        hearer = Hearer()
        channel = docker.adopt(places[0])
        await channel.open(hearer)
        await channel.write(b"hello")
        await channel.close_input()

        assert Exit(0, ExitReason.EXITED) == await hearer.end()
        assert [b"begun", b"read hello"] == hearer.lines
    assert 0 == await left(engine)


async def test_what_nobody_wants_is_removed(engine: Engine, places: list[Place]) -> None:
    """Running, ended or never started; agents of this executor and of others are left alone."""
    async with backend(engine) as docker:
        await begin(docker, places[0])
    await engine.create(
        f"moorline-{containers.INSTANCE}-never",
        {"Image": containers.IMAGE, "Labels": {INSTANCE: containers.INSTANCE}},
    )
    other = f"moorline-{containers.INSTANCE}-other"
    await engine.create(other, {"Image": containers.IMAGE, "Labels": {INSTANCE: "of another"}})
    try:
        async with backend(engine) as docker:
            await docker.reap(await docker.survivors() and ())
            hearer = await begin(docker, places[1])
            await docker.reap(())

            assert ["running"] == await states(engine)
            assert hearer.ended is None
            assert 1 == len(await engine.list(INSTANCE, "of another"))
    finally:
        await engine.remove(other)


async def test_killed_agents_are_gone_when_the_executor_is(
    engine: Engine, places: list[Place]
) -> None:
    """It waits for the engine, although nobody waits for the kill."""
    async with backend(engine) as docker:
        hearer = Hearer()
        launch = Launch(place=places[0], tenant="t", argv=READER, environment={})
        channel = docker.channel(launch)
        await channel.open(hearer)
        killing = asyncio.ensure_future(channel.kill())
        await asyncio.sleep(0)
        killing.cancel()

    assert 0 == await left(engine)


async def test_engine_that_is_gone_keeps_nothing_from_working(engine: Engine) -> None:
    """Whoever asks is told that there is nothing."""
    async with backend(engine) as docker:
        assert docker._engine is not None
        await docker._engine.close()

        assert () == await docker.survivors()
        await docker.reap(())


async def test_agent_out_of_sight_is_ended_before_its_next_turn(
    engine: Engine, places: list[Place], tmp_path: Path
) -> None:
    """Two of them would write one conversation; one of another agent is in nobody's way."""
    async with way(tmp_path) as (cut, through), backend(through) as docker:
        lost = [await begin(docker, place) for place in places]
        cut.cut()
        for hearer in lost:
            await hearer.end()
        await given_up(docker)
        cut.cut_off = False
        before = await workspaces(engine)
        await begin(docker, places[0])

        assert ["abcdefgh", "hgfedcba"] == before == await workspaces(engine)


async def test_agents_that_nobody_could_look_for_are_ended_before_the_next(
    engine: Engine, places: list[Place], tmp_path: Path
) -> None:
    """An engine that did not answer when the executor started has kept what ran before."""
    async with backend(engine) as docker:
        for place in places:
            await begin(docker, place)
    async with way(tmp_path) as (cut, through), backend(through) as docker:
        cut.cut()
        await docker.reap(await docker.survivors())
        cut.cut_off = False
        await begin(docker, places[0])

        assert ["abcdefgh"] == await workspaces(engine)


async def test_agent_out_of_sight_is_ended_soon(
    engine: Engine, places: list[Place], tmp_path: Path
) -> None:
    """Also when the engine was gone for so short that nobody has noticed."""
    async with way(tmp_path) as (cut, through), backend(through, interval=1) as docker:
        await docker.reap(())
        hearer = await begin(docker, places[0])
        cut.cut()
        await hearer.end()
        await given_up(docker)
        cut.cut_off = False
        assert 0 == await left(engine)
