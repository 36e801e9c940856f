"""Fixtures: the three real services, and connections to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.system.stack import Stack, running
from tests.system.wire import Wire, open_wire


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder starts the three services, and gets the time that takes."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.system)
            if item.get_closest_marker("timeout") is None:
                # Longer than the guards within, which say what is missing.
                item.add_marker(pytest.mark.timeout(90))


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One platform for every test that leaves it as it found it."""
    with running(tmp_path_factory.mktemp("shared") / "data") as stack:
        yield stack


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Stack]:
    """A platform for one test that kills parts of it."""
    with running(tmp_path / "data") as stack:
        yield stack


@pytest.fixture
async def wire(stack: Stack) -> AsyncIterator[Wire]:
    """A connection of the development user."""
    async with open_wire(stack.url, stack.token) as wire:
        yield wire


async def key_for(wire: Wire, user: str, **request: object) -> str:
    """A new API key of a user."""
    reply = await wire.call("createKey", {"parent": f"users/{user}", **request})
    return str(reply["secret"])
