"""The channels the contract suite runs over.

Another one joins by a factory in `FACTORIES`; it starts a process that understands the simulated
agent's scripts, in a workspace it is given.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from services.chassis.tasks import Tasks
from services.executor.channel import Channel, Launch
from services.executor.channels.docker.channel import DockerChannel
from services.executor.channels.process.channel import ProcessChannel, Start
from services.executor.channels.process.tree import Mark, Trees
from services.executor.channels.simulation.channel import SimulationChannel
from services.executor.channels.simulation.ticker import Ticker
from services.executor.claude_code import frames as claude_code_frames
from services.executor.workspaces import Workspaces
from tests.contract.channels import containers, program
from tests.contract.channels.reader import Reader

ROOT = Path(__file__).parents[3]

Factory = Callable[[Launch], AbstractAsyncContextManager[Channel]]


@asynccontextmanager
async def simulation(launch: Launch) -> AsyncIterator[Channel]:
    """A simulated process."""
    async with Tasks() as tasks:
        yield SimulationChannel(launch=launch, seed=0, ticker=Ticker(), tasks=tasks)


@asynccontextmanager
async def process(launch: Launch) -> AsyncIterator[Channel]:
    """A process of this machine."""
    async with Tasks() as tasks:
        start = Start(
            # Of this run alone: what is marked is looked for on the whole machine.
            mark=Mark(instance=f"contract-{os.getpid()}", workspace=launch.place.workspace),
            program=Path(sys.executable),
            arguments=("-m", program.__name__, *launch.argv),
            environment={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
            directory=launch.place.files,
            folders=(),
        )
        trees = Trees(proc=Path("/proc"))
        yield ProcessChannel(start=start, trees=trees, tasks=tasks, roots=set())


@asynccontextmanager
async def docker(launch: Launch) -> AsyncIterator[Channel]:
    """A container."""
    async with containers.engine() as engine, Tasks() as tasks:
        channel = DockerChannel(
            engine=engine,
            container=f"moorline-contract-{secrets.token_hex(4)}",
            workspace=launch.place.workspace,
            configuration=containers.python(launch, program.__name__),
            prepare=None,
            tasks=tasks,
        )
        yield channel
        await channel.kill()


FACTORIES: dict[str, Factory] = {"simulation": simulation, "process": process, "docker": docker}


@pytest.fixture(params=FACTORIES)
def factory(request: pytest.FixtureRequest) -> Factory:
    """Makes channels of one kind."""
    return FACTORIES[request.param]


@pytest.fixture
async def launch(tmp_path: Path) -> Launch:
    """What to start: the command line that production uses."""
    place = await Workspaces(root=tmp_path).make("abcdefgh")
    argv = claude_code_frames.command_line(
        directory=str(place.files),
        terms=claude_code_frames.Terms(instructions="", rules=(), max_steps=0, fallback_model=""),
        mode="default",
        model="",
        session_id="6d2b7a52-0f2c-4a55-9c39-7a3a7a9d8f11",
        resume="",
    )
    return Launch(place=place, tenant="", argv=argv, environment={})


@pytest.fixture
async def reader(factory: Factory, launch: Launch) -> AsyncIterator[Reader]:
    """Reads an open channel."""
    async with factory(launch) as channel:
        reader = Reader(channel)
        await channel.open(reader)
        reader.hold()
        yield reader
        await channel.kill()


@pytest.fixture
def channel(reader: Reader) -> Channel:
    """An open channel; what it prints is held until it is read."""
    return reader.channel
