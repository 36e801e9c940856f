"""The stores that must hold to the contract.

To add one: give it a name in `STORES` and a function that returns it unopened,
on the same data each time it is called within a test. What needs a server asks
pytest for it by the name of a fixture.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from services.session.store import Store
from services.session.stores.firestore import FirestoreStore
from services.session.stores.sqlite import SqliteStore
from tests.emulator import PROJECT, FirestoreEmulator

MakeStore = Callable[[], Store]


def _sqlite(request: pytest.FixtureRequest) -> MakeStore:
    folder: Path = request.getfixturevalue("tmp_path")
    return lambda: SqliteStore(path=folder / "data" / "store.db")


def _firestore(request: pytest.FixtureRequest) -> MakeStore:
    emulator: FirestoreEmulator = request.getfixturevalue("firestore_emulator")
    # An attempt that a busy machine makes late leaves doubt where a test expects a conflict.
    return lambda: FirestoreStore(project=PROJECT, emulator=emulator.host, deadline=60, attempt=30)


STORES: dict[str, Callable[[pytest.FixtureRequest], MakeStore]] = {
    "sqlite": _sqlite,
    "firestore": _firestore,
}


@pytest.fixture(
    params=[
        pytest.param(name, marks=[pytest.mark.firestore] if name == "firestore" else [])
        for name in STORES
    ]
)
def make_store(request: pytest.FixtureRequest) -> MakeStore:
    """Returns the store under test, not open, on the same data at each call."""
    return STORES[request.param](request)


@pytest.fixture
async def store(make_store: MakeStore) -> AsyncIterator[Store]:
    """The store under test, open."""
    async with make_store() as store:
        yield store


@pytest.fixture
def root() -> str:
    """A document path of this test's own, for a database that tests share."""
    return f"tests/{uuid.uuid4().hex}"
