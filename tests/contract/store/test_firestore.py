"""What `services.session.stores.firestore` does beyond the contract, on a real emulator."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.chassis.failures import Failure
from services.session.store import Create, Delete, StoreConflict, Update
from services.session.stores.firestore import FirestoreStore
from tests.contract.store.looking import current
from tests.emulator import PROJECT, FirestoreEmulator

pytestmark = pytest.mark.firestore

DOCUMENTS = f"/v1/projects/{PROJECT}/databases/(default)/documents"
MOST_BYTES = 256 * 1024


@pytest.fixture
async def store(firestore_emulator: FirestoreEmulator) -> AsyncIterator[FirestoreStore]:
    """A store on the emulator that tests share."""
    async with patient(firestore_emulator) as store:
        yield store


def patient(emulator: FirestoreEmulator) -> FirestoreStore:
    """A store that is not open; it leaves no doubt because a busy machine was late."""
    return FirestoreStore(project=PROJECT, emulator=emulator.host, deadline=60, attempt=30)


def stored(emulator: FirestoreEmulator, collection: str) -> list[dict[str, Any]]:
    """The documents of a collection as the database has them."""
    page = emulator.request("GET", f"{DOCUMENTS}/{collection}?pageSize=300")
    return list(page.get("documents", []))


def everything(emulator: FirestoreEmulator, path: str) -> Iterator[dict[str, Any]]:
    """A document's parts, if it has some."""
    yield from stored(emulator, f"{path}/more")


class TestParts:
    async def test_no_document_is_larger_than_it_may_be(
        self, store: FirestoreStore, firestore_emulator: FirestoreEmulator, root: str
    ) -> None:
        """A prompt of 100,000 characters is cut, whatever its characters."""
        for name, character in (("korean", "가"), ("control", "\u0001"), ("emoji", "\U0001f600")):
            await store.commit([Create(f"{root}/things/{name}", {"text": character * 100_000})])
            documents = [
                *stored(firestore_emulator, f"{root}/things"),
                *everything(firestore_emulator, f"{root}/things/{name}"),
            ]

            assert len(documents) > 1
            for document in documents:
                text = document["fields"]["json"]["stringValue"]
                assert len(text.encode()) + len(document["name"]) + 200 < MOST_BYTES

    async def test_a_small_document_is_one(
        self, store: FirestoreStore, firestore_emulator: FirestoreEmulator, root: str
    ) -> None:
        """Readable in the console, and without parts."""
        await store.commit([Create(f"{root}/things/a", {"text": "안녕"})])

        (document,) = stored(firestore_emulator, f"{root}/things")

        assert '{"text":"안녕"}' == document["fields"]["json"]["stringValue"]
        assert [] == list(everything(firestore_emulator, f"{root}/things/a"))

    async def test_parts_go_when_the_document_shrinks(
        self, store: FirestoreStore, firestore_emulator: FirestoreEmulator, root: str
    ) -> None:
        """Those that the new fields do not need are removed in the same commit."""
        path = f"{root}/things/a"
        committed = await store.commit([Create(path, {"text": "x" * 800_000})])
        assert 3 == len(list(everything(firestore_emulator, path)))

        committed = await store.commit(
            [Update(path, {"text": "x" * 300_000}, committed.versions[0])]
        )
        assert 1 == len(list(everything(firestore_emulator, path)))
        await store.commit([Update(path, {}, committed.versions[0])])

        assert [] == list(everything(firestore_emulator, path))

    @pytest.mark.parametrize("known", [True, False])
    async def test_parts_go_with_the_document(
        self, store: FirestoreStore, firestore_emulator: FirestoreEmulator, root: str, known: bool
    ) -> None:
        """Whether it is deleted at a version or at any."""
        path = f"{root}/things/a"
        committed = await store.commit([Create(path, {"text": "x" * 800_000})])

        await store.commit([Delete(path, committed.versions[0] if known else None)])

        assert [] == list(everything(firestore_emulator, path))
        await store.commit([Create(path, {"text": "y"})])
        assert {"text": "y"} == (await current(store, path)).fields

    async def test_parts_of_another_write_are_not_mixed_in(
        self, store: FirestoreStore, firestore_emulator: FirestoreEmulator, root: str
    ) -> None:
        """A document whose parts were damaged from outside is unavailable, not wrong."""
        path = f"{root}/things/a"
        await store.commit([Create(path, {"text": "x" * 300_000})])
        firestore_emulator.request("DELETE", f"{DOCUMENTS}/{path}/more/1")
        impatient = FirestoreStore(
            project=PROJECT, emulator=firestore_emulator.host, deadline=0.3, attempt=0.2
        )

        async with impatient:
            for reading in (impatient.get(path), impatient.read(f"{root}/things")):
                with pytest.raises(Failure) as raised:
                    await reading
                assert "STORE_UNAVAILABLE" == raised.value.reason_name


class TestLimits:
    async def test_a_commit_that_is_too_large_is_not_sent(
        self, store: FirestoreStore, root: str
    ) -> None:
        """By its bytes or by its writes; it is a mistake of ours, not of the database."""
        large = [Create(f"{root}/things/{n}", {"text": "x" * 1_000_000}) for n in range(4)]
        many = [Create(f"{root}/things/{n}", {}) for n in range(501)]

        for writes in (large, many):
            with pytest.raises(ValueError, match="a commit has"):
                await store.commit(writes)

        assert [] == await store.read(f"{root}/things")
        await store.commit(large[:3])
        await store.commit(many[3:500])

    async def test_a_whole_page_of_large_documents_is_read(
        self, store: FirestoreStore, root: str
    ) -> None:
        """As a client that resumes far behind needs them."""
        for n in range(32):
            await store.commit([Create(f"{root}/things/{n:02}", {"text": str(n % 10) * 260_000})])

        found = await store.read(f"{root}/things", limit=32)

        assert [str(n % 10) for n in range(32)] == [
            document.fields["text"][0] for document in found
        ]


class TestManyProcesses:
    async def test_what_one_commits_the_others_read(
        self, firestore_emulator: FirestoreEmulator, root: str
    ) -> None:
        """At once, and each writes on where another left off."""
        async with patient(firestore_emulator) as first, patient(firestore_emulator) as second:
            created = await first.commit([Create(f"{root}/things/a", {"n": 1})])
            document = await current(second, f"{root}/things/a")
            await second.commit([Update(document.path, {"n": 2}, document.version)])

            with pytest.raises(StoreConflict):
                await first.commit([Update(document.path, {"n": 3}, created.versions[0])])
            assert {"n": 2} == (await current(first, document.path)).fields

    async def test_of_eight_that_take_a_lease_one_gets_it(
        self, firestore_emulator: FirestoreEmulator, root: str
    ) -> None:
        """Each round, however often they meet."""
        stores = [patient(firestore_emulator) for _ in "ab"]
        async with stores[0], stores[1]:
            committed = await stores[0].commit([Create(f"{root}/leases/a", {"epoch": 0})])
            version = committed.versions[0]
            for epoch in range(1, 11):
                results = await asyncio.gather(
                    *(
                        stores[n % 2].commit(
                            [Update(f"{root}/leases/a", {"epoch": epoch, "n": n}, version)]
                        )
                        for n in range(8)
                    ),
                    return_exceptions=True,
                )
                won = [result for result in results if not isinstance(result, BaseException)]
                lost = [result for result in results if isinstance(result, StoreConflict)]
                assert (1, 7) == (len(won), len(lost)), results
                version = won[0].versions[0]

    async def test_another_database_is_another_world(
        self, store: FirestoreStore, firestore_emulator: FirestoreEmulator, root: str
    ) -> None:
        """The id of the database is part of every path."""
        await store.commit([Create(f"{root}/things/a", {})])

        other = FirestoreStore(project=PROJECT, database="other", emulator=firestore_emulator.host)
        async with other:
            assert await other.get(f"{root}/things/a") is None


async def test_a_store_that_is_not_open_is_unavailable(
    firestore_emulator: FirestoreEmulator,
) -> None:
    """Before it is opened, and after it was closed."""
    store = FirestoreStore(project=PROJECT, emulator=firestore_emulator.host)
    with pytest.raises(Failure):
        await store.get("things/a")
    async with store:
        assert await store.get("things/a") is None

    with pytest.raises(Failure) as raised:
        await store.commit([Create("things/a", {})])
    assert "STORE_UNAVAILABLE" == raised.value.reason_name


def test_only_those_who_use_it_pay_for_it() -> None:
    """The client library is not even imported for a store in a file."""
    script = "import services.session.__main__, sys; print('google.cloud' in sys.modules)"
    root = Path(__file__).parents[3]

    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True
    )

    assert "False" == done.stdout.strip()
