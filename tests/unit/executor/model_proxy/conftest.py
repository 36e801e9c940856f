"""A proxy between an agent and a provider; everything holds on both loops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import pytest
import uvloop

from services.chassis.metrics import Metrics
from services.executor.agent_process import Budget
from services.executor.backend import Link, View
from services.executor.model_proxy import prices
from services.executor.model_proxy.key import Key
from services.executor.model_proxy.meter import Meter
from services.executor.model_proxy.proxy import Access, ModelProxy
from services.executor.model_proxy.upstream import Upstream
from services.executor.place import Place
from services.executor.workspaces import Workspaces
from tests.unit.executor.model_proxy.provider import Agent, Provider


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run each test on both loops, but for the one that takes long."""
    if item.path.stem == "test_cli_costs":
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    """The provider."""
    async with Provider().serve() as provider:
        yield provider


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """The file with the key."""
    file = tmp_path / "key"
    file.write_text("sk-operator\n")
    return file


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    """What the agent has."""
    return await Workspaces(root=tmp_path / "workspaces").make("abcdefgh")


@pytest.fixture
def view(place: Place) -> View:
    """Where the agent sees it."""
    return View(files=str(place.files), state=str(place.state), run=str(place.run))


@pytest.fixture
def silence() -> float:
    """Seconds that the provider may say nothing; tests of its silence have fewer."""
    return 30


@pytest.fixture
async def proxy(
    provider: Provider, key_file: Path, metrics: Metrics, silence: float
) -> AsyncIterator[ModelProxy]:
    """A proxy."""
    async with make_proxy(provider.url, key_file, metrics, silence=silence) as proxy:
        yield proxy


def write(file: Path, text: str) -> None:
    """Write a small file, in a test that may wait."""
    file.write_text(text)


def make_proxy(
    url: str, key_file: Path, metrics: Metrics, *, bearer: bool = False, silence: float = 30
) -> ModelProxy:
    """Return a proxy not yet open, which bears so many seconds of silence."""
    key = Key(str(key_file))
    return ModelProxy(
        upstream=Upstream(url=url, key=key, bearer=bearer, silence=timedelta(seconds=silence)),
        key=key,
        prices=prices.load(""),
        metrics=metrics,
    )


@pytest.fixture
def meter(proxy: ModelProxy) -> Meter:
    """What counts for the agent, in a turn without a budget."""
    meter = proxy.meter()
    meter.begin(Budget())
    return meter


@pytest.fixture
async def access(
    proxy: ModelProxy, meter: Meter, place: Place, view: View
) -> AsyncIterator[Access]:
    """The agent's way in, by TCP."""
    access = await proxy.admit(meter, link=Link.TCP, place=place, view=view)
    yield access
    await access.close()


@pytest.fixture
async def agent(access: Access) -> AsyncIterator[Agent]:
    """The agent."""
    agent = Agent(access)
    async with agent.session:
        yield agent
