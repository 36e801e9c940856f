"""The stores that must hold to the contract.

To add one: give it a name in `STORES` and a function that returns it unopened,
on the same data each time it is called within a test.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from services.session.store import Store
from services.session.stores.sqlite import SqliteStore

MakeStore = Callable[[], Store]

STORES: dict[str, Callable[[Path], Store]] = {
    "sqlite": lambda folder: SqliteStore(path=folder / "data" / "store.db"),
}


@pytest.fixture(params=STORES)
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    """Returns the store under test, not open, on the same data at each call."""
    return lambda: STORES[request.param](tmp_path)


@pytest.fixture
async def store(make_store: MakeStore) -> AsyncIterator[Store]:
    """The store under test, open."""
    async with make_store() as store:
        yield store


@pytest.fixture
def root() -> str:
    """A document path of this test's own, for a database that tests share."""
    return f"tests/{uuid.uuid4().hex}"
