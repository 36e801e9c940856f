"""An executor with one backend, a model provider that follows scripts, and agents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import pytest

from tests.contract.agents.executors import Agent, Executor, serve
from tests.contract.agents.kinds import KINDS, Kind
from tests.standin.server import StandIn

KEY = "sk-of-the-operator"


SECONDS = 60
"""A test may take; a cold program on a busy machine needs a while."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of this folder more time than others have, unless they say how much.

    Those in containers, which mostly wait, are marked: they can run beside all others.
    """
    here = Path(__file__).parent
    for item in items:
        if item.path.parent != here:
            continue
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(SECONDS))
        if isinstance(item, pytest.Function) and "docker" in item.name:
            item.add_marker(pytest.mark.contained)


class Serve(Protocol):
    """Runs another executor of the kind under test."""

    def __call__(self, folder: str, **settings: str) -> AbstractAsyncContextManager[Executor]:
        """Run it while inside; settings by variable without prefix."""
        ...


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """The backend under test."""
    chosen = KINDS[request.param]
    if missing := chosen.missing():
        pytest.skip(f"{chosen.name}: {missing}")
    return chosen


@pytest.fixture
async def provider() -> AsyncIterator[StandIn]:
    """The model provider."""
    async with StandIn(key=KEY).serve() as provider:
        yield provider


@pytest.fixture
def serving(kind: Kind, provider: StandIn, tmp_path: Path) -> Serve:
    """Runs executors."""
    key = tmp_path / "key"
    key.write_text(f"{KEY}\n")

    def start(folder: str, **settings: str) -> AbstractAsyncContextManager[Executor]:
        chosen = {
            "MODEL_KEY_FILE": str(key),
            "MODEL_UPSTREAM": provider.url,
            **settings,
        }
        named = {f"MOORLINE_{name}": value for name, value in chosen.items()}
        root = tmp_path / folder
        return serve(root=root, backend=kind.name, settings={**kind.settings, **named})

    return start


@pytest.fixture
async def executor(serving: Serve) -> AsyncIterator[Executor]:
    """An executor."""
    async with serving("workspaces") as executor:
        yield executor


@pytest.fixture
def agent(executor: Executor) -> Agent:
    """An agent that asks before it changes anything."""
    return executor.agent()
