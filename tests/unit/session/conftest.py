"""Fixtures of the session service's unit tests: a real store, a fake executor."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from services.chassis.tasks import Tasks
from services.session.history import History
from services.session.limits import Limits
from services.session.store import Store
from services.session.stores.firestore import FirestoreStore
from services.session.stores.sqlite import SqliteStore
from tests.contract.store.limits import LimitedStore
from tests.emulator import FirestoreEmulator
from tests.unit.jumping import Factories, loops
from tests.unit.session.fakes import FakeExecutor, FakeExecutors, FaultyStore
from tests.unit.session.following import World, make_world
from tests.unit.session.log_writing import NAME, Writer
from tests.unit.session.service import Service
from tests.unit.session.shared import Pod, Pods

ALONE = {"test_late", "test_patience"}
"""Where nothing but the own loop is waited for, unless a test has a store in a file."""


def pytest_asyncio_loop_factories(item: pytest.Function) -> Factories:
    """Let time jump where no thread is waited for: with a database in memory, or without any."""
    alone = "pods" in item.fixturenames or item.path.stem in ALONE
    return loops(jumping=alone and "store" not in item.fixturenames)


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    """The owner of a test's tasks."""
    async with Tasks() as tasks:
        yield tasks


@pytest.fixture
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[FaultyStore]:
    """A store that can be told to fail: a file, or an emulator with `--store=firestore`."""
    chosen: Store
    if request.config.getoption("--store") == "firestore":
        emulator: FirestoreEmulator = request.getfixturevalue("firestore_emulator")
        # A project of its own is a database of its own.
        project = f"test-{uuid.uuid4().hex[:12]}"
        chosen = FirestoreStore(project=project, emulator=emulator.host)
    else:
        chosen = SqliteStore(path=tmp_path / "store.db")
    async with chosen as inner:
        yield FaultyStore(LimitedStore(inner, others=["things"]))


@pytest.fixture
def executor() -> FakeExecutor:
    """An executor in the test's hands."""
    return FakeExecutor()


@pytest.fixture
def other() -> FakeExecutor:
    """Another executor, for the tests that let it take something."""
    return FakeExecutor()


@pytest.fixture
def executors(executor: FakeExecutor, other: FakeExecutor) -> FakeExecutors:
    """Both executors, at `e1:1` and `e2:1`; the other one is not willing."""
    executors = FakeExecutors(executor, other)
    executors.unwilling.add("e2:1")
    return executors


@pytest.fixture
def both_willing(executors: FakeExecutors) -> None:
    """Both executors take what they are given."""
    executors.unwilling.clear()


@pytest.fixture
def limits() -> Limits:
    """Limits that no test reaches by accident, however busy the machine."""
    return Limits()


@pytest.fixture
def make_service(
    store: FaultyStore, executors: FakeExecutors, limits: Limits
) -> Callable[[], Service]:
    """Returns a new service on the same store and executors at each call."""
    return lambda: Service(store=store, executors=executors, limits=limits)


@pytest.fixture
async def service(make_service: Callable[[], Service]) -> AsyncIterator[Service]:
    """A service that runs, with one agent of Ada's."""
    async with make_service() as service:
        await service.create_agent()
        yield service


@pytest.fixture
async def world(store: FaultyStore, tasks: Tasks) -> World:
    """An agent without a history."""
    return await make_world(store, tasks)


@pytest.fixture
async def pods(executors: FakeExecutors, limits: Limits) -> AsyncIterator[Pods]:
    """Makes processes that share a database."""
    async with Pods(executors=executors, limits=limits) as pods:
        yield pods


@pytest.fixture
async def first(pods: Pods) -> Pod:
    """A process that owns Ada, who has an agent."""
    pod = await pods.start("one:1")
    await pod.create_agent()
    return pod


@pytest.fixture
async def second(pods: Pods, first: Pod) -> Pod:
    """Another one."""
    return await pods.start("two:2")


@pytest.fixture
def writer(store: FaultyStore, tasks: Tasks) -> Writer:
    """A writer on an empty log."""
    return Writer(store, tasks)


@pytest.fixture
def history(store: FaultyStore) -> History:
    """The log's reading end."""
    return History(store=store, agent=NAME, log="log")
