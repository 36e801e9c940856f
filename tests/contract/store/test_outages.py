"""The Firestore store while the database is away, hangs, or loses its answers."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from services.chassis.failures import Failure
from services.session.store import Create, Delete, StoreConflict, Update
from services.session.stores.firestore import FirestoreStore
from tests.contract.store.looking import current
from tests.emulator import PROJECT, EmulatorMissingError, FirestoreEmulator, emulator
from tests.proxy import FaultProxy

pytestmark = [pytest.mark.firestore, pytest.mark.timeout(60)]

DEADLINE = 1.0
ATTEMPT = 0.4
LATE = 5.0
"""How late a busy machine may be: with the deadline, still sooner than the product's own."""
SOON = 10.0
"""How long what comes back may take, on a busy machine."""


@pytest.fixture(scope="module")
def own_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FirestoreEmulator]:
    """An emulator that these tests may pause and kill."""
    try:
        with emulator(tmp_path_factory.mktemp("outages")) as running:
            yield running
    except EmulatorMissingError as error:
        pytest.skip(str(error))


@pytest.fixture
async def proxy(own_emulator: FirestoreEmulator) -> AsyncIterator[FaultProxy]:
    """The way to the emulator."""
    async with FaultProxy(target=own_emulator.host) as proxy:
        yield proxy


@pytest.fixture
async def store(proxy: FaultProxy) -> AsyncIterator[FirestoreStore]:
    """A store that goes that way, and gives up soon."""
    async with FirestoreStore(
        project=PROJECT, emulator=proxy.host, deadline=DEADLINE, attempt=ATTEMPT
    ) as store:
        # The first calls of a fresh emulator take longer than these tests wait.
        await settle(store)
        yield store
        proxy.heal()


@pytest.fixture
async def other(own_emulator: FirestoreEmulator) -> AsyncIterator[FirestoreStore]:
    """A store with a way of its own, for looks at what there is."""
    async with FirestoreStore(
        project=PROJECT, emulator=own_emulator.host, deadline=15, attempt=10
    ) as store:
        yield store


async def settle(store: FirestoreStore) -> float:
    """Return after how many seconds every kind of call succeeds again."""
    began = time.monotonic()
    while True:
        try:
            await store.commit([Delete("work/none")])
            await store.get("work/none")
            await store.read("work")
        except Failure:
            await asyncio.sleep(0)
        else:
            return time.monotonic() - began


async def outcome(call: Awaitable[Any]) -> tuple[str, float]:
    """How a call ended, and after how many seconds."""
    began = time.monotonic()
    try:
        await call
    except Failure as failure:
        name = failure.reason_name if failure.retry_delay else "final"
        return name, time.monotonic() - began
    return "ok", time.monotonic() - began


Fault = Callable[[FaultProxy, FirestoreEmulator], None]
FAULTS: dict[str, tuple[Fault, Fault]] = {
    "refused": (lambda proxy, _: proxy.refuse(), lambda proxy, _: proxy.heal()),
    "black hole": (lambda proxy, _: proxy.hang(), lambda proxy, _: proxy.heal()),
    "hung": (lambda _, server: server.pause(), lambda _, server: server.resume()),
    "unheard": (lambda proxy, _: proxy.drop_answers(), lambda proxy, _: proxy.heal()),
}


class TestOutages:
    @pytest.mark.parametrize("fault", FAULTS)
    async def test_every_call_fails_in_time_and_recovers(
        self,
        store: FirestoreStore,
        proxy: FaultProxy,
        own_emulator: FirestoreEmulator,
        root: str,
        fault: str,
    ) -> None:
        """By the deadline, typed and with a delay; after the fault calls succeed soon."""
        begin, end = FAULTS[fault]
        begin(proxy, own_emulator)
        try:
            outcomes = await asyncio.gather(
                outcome(store.commit([Create(f"{root}/things/a", {})])),
                outcome(store.get(f"{root}/things/a")),
                outcome(store.read(f"{root}/things")),
                outcome(store.now()),
            )
        finally:
            end(proxy, own_emulator)

        assert {"STORE_UNAVAILABLE"} == {reason for reason, _ in outcomes}
        assert all(seconds < DEADLINE + LATE for _, seconds in outcomes)
        assert await settle(store) < SOON

    async def test_a_database_that_was_killed_comes_back_empty(
        self, proxy: FaultProxy, own_emulator: FirestoreEmulator, root: str
    ) -> None:
        """A call made while it is away succeeds when it returns before the deadline."""
        async with FirestoreStore(project=PROJECT, emulator=proxy.host, deadline=40) as store:
            await store.commit([Create(f"{root}/things/a", {})])
            own_emulator.kill()
            commit = asyncio.ensure_future(store.commit([Create(f"{root}/things/b", {})]))
            await asyncio.to_thread(own_emulator.start)
            began = time.monotonic()

            await commit

            assert time.monotonic() - began < SOON
            assert ["b"] == [document.id for document in await store.read(f"{root}/things")]

    def test_its_own_deadlines_keep_the_promise(self) -> None:
        """Whoever asked the gateway shall hear of an outage within 8 s."""
        defaults = inspect.signature(FirestoreStore).parameters

        assert defaults["deadline"].default <= 7
        assert defaults["attempt"].default <= 2

    async def test_closing_waits_no_longer_than_a_call(
        self, proxy: FaultProxy, own_emulator: FirestoreEmulator, root: str
    ) -> None:
        """A commit that hangs ends as any other does, and then the store is closed."""
        began = time.monotonic()
        async with FirestoreStore(
            project=PROJECT, emulator=proxy.host, deadline=DEADLINE, attempt=ATTEMPT
        ) as store:
            await settle(store)
            proxy.hang()
            commit = asyncio.ensure_future(outcome(store.commit([Create(f"{root}/things/a", {})])))
            await asyncio.sleep(0)
            began = time.monotonic()

        assert time.monotonic() - began < DEADLINE + LATE
        assert "STORE_UNAVAILABLE" == (await commit)[0]


class TestLostAnswers:
    @pytest.fixture
    async def store(self, proxy: FaultProxy) -> AsyncIterator[FirestoreStore]:
        """A store that gives up late: what is lost is asked for again in time."""
        async with FirestoreStore(
            project=PROJECT, emulator=proxy.host, deadline=15, attempt=10
        ) as store:
            yield store
            proxy.heal()

    async def lose(
        self,
        proxy: FaultProxy,
        call: Awaitable[Any],
        made: Callable[[], Awaitable[bool]] | None = None,
    ) -> Any:
        """Make a call whose first answer is lost.

        Args:
            proxy: What loses it.
            call: The call.
            made: Tells whether the call has had its effect, which is waited for.
        """
        proxy.drop_answers()
        task = asyncio.ensure_future(call)
        # Not enough: what was lost may be of the connection, before anything was answered.
        await proxy.answer_lost()
        while made is not None and not await made():
            pass
        proxy.heal()
        return await task

    async def test_a_commit_that_was_made_is_told_so(
        self, store: FirestoreStore, other: FirestoreStore, proxy: FaultProxy, root: str
    ) -> None:
        """With the versions that the documents have, also of large ones."""
        gone = await store.commit([Create(f"{root}/things/gone", {})])
        made = await store.commit([Create(f"{root}/things/changed", {})])

        async def seen() -> bool:
            return await other.get(f"{root}/things/a") is not None

        committed = await self.lose(
            proxy,
            store.commit(
                [
                    # At its version, so that nothing is read before.
                    Delete(f"{root}/things/gone", gone.versions[0]),
                    Create(f"{root}/things/a", {"text": "x" * 300_000}),
                    Update(f"{root}/things/changed", {"n": 1}, made.versions[0]),
                ]
            ),
            seen,
        )

        large = await current(store, f"{root}/things/a")
        changed = await current(store, f"{root}/things/changed")
        assert ("", large.version, changed.version) == committed.versions
        assert large.update_time == committed.time
        assert await store.get(f"{root}/things/gone") is None

    async def test_many_of_them_are_made_once(
        self, store: FirestoreStore, other: FirestoreStore, proxy: FaultProxy, root: str
    ) -> None:
        """A counter that is set by compare-and-set counts right."""
        path = f"{root}/things/counter"
        committed = await store.commit([Create(path, {"n": 0})])
        for n in range(1, 6):

            async def counted(n: int = n) -> bool:
                return (await current(other, path)).fields == {"n": n}

            committed = await self.lose(
                proxy, store.commit([Update(path, {"n": n}, committed.versions[0])]), counted
            )

        assert {"n": 5} == (await current(store, path)).fields

    async def test_a_commit_that_lost_against_another_is_no_success(
        self, store: FirestoreStore, other: FirestoreStore, proxy: FaultProxy, root: str
    ) -> None:
        """Nor is it told as a conflict, as it may have been made before the other."""
        path = f"{root}/things/a"
        made = await store.commit([Create(path, {"n": 0})])
        proxy.drop_answers()
        commit = asyncio.ensure_future(store.commit([Update(path, {"n": 1}, made.versions[0])]))
        await proxy.answer_lost()
        found = await current(other, path)
        while found.version == made.versions[0]:
            found = await current(other, path)
        await other.commit([Update(path, {"n": 2}, found.version)])
        proxy.heal()

        with pytest.raises(Failure) as raised:
            await commit

        assert "STORE_UNAVAILABLE" == raised.value.reason_name
        with pytest.raises(StoreConflict):
            await store.commit([Update(path, {"n": 1}, made.versions[0])])
        assert {"n": 2} == (await current(store, path)).fields

    async def test_a_delete_whose_answer_is_lost_is_in_doubt(
        self, store: FirestoreStore, other: FirestoreStore, proxy: FaultProxy, root: str
    ) -> None:
        """At a version it leaves no trace of who made it; at any, it is made again."""
        path = f"{root}/things/a"
        made = await store.commit([Create(path, {}), Create(f"{root}/things/b", {})])

        async def gone() -> bool:
            return await other.get(path) is None

        with pytest.raises(Failure):
            await self.lose(proxy, store.commit([Delete(path, made.versions[0])]), gone)
        await self.lose(proxy, store.commit([Delete(f"{root}/things/b")]))

        assert [] == await store.read(f"{root}/things")

    async def test_reads_are_asked_again(
        self, store: FirestoreStore, proxy: FaultProxy, root: str
    ) -> None:
        """Of a document and of a collection."""
        await store.commit([Create(f"{root}/things/a", {"n": 1})])

        document = await self.lose(proxy, store.get(f"{root}/things/a"))
        documents = await self.lose(proxy, store.read(f"{root}/things"))

        assert {"n": 1} == document.fields == documents[0].fields
