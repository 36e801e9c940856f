"""What every store must do; the semantics the session service is built on."""

from __future__ import annotations

import asyncio
from datetime import UTC, timedelta

import pytest

from services.session.store import Create, Delete, Document, Store, StoreConflict, Update
from tests.contract.store.conftest import MakeStore


async def current(store: Store, path: str) -> Document:
    """Return a document that must exist."""
    document = await store.get(path)
    assert document is not None
    return document


async def ids(store: Store, collection: str, **bounds: object) -> list[str]:
    """Return the ids that a read of a collection finds."""
    return [document.id for document in await store.read(collection, **bounds)]  # type: ignore[arg-type]


class TestGet:
    async def test_what_was_created_is_read_back(self, store: Store, root: str) -> None:
        """Fields come back as they were, of every JSON kind."""
        fields = {
            "text": "안녕, \u0000 \U0001f600",
            "number": 2**53,
            "negative": -1,
            "fraction": 0.5,
            "yes": True,
            "nothing": None,
            "list": [1, "two", {"three": 3}],
            "map": {"a": {"b": []}},
        }

        await store.commit([Create(f"{root}/things/a", fields)])

        document = await current(store, f"{root}/things/a")
        assert fields == document.fields
        assert f"{root}/things/a" == document.path
        assert "a" == document.id

    async def test_a_missing_document_is_none(self, store: Store, root: str) -> None:
        """Absence is an answer, not a failure."""
        assert await store.get(f"{root}/things/a") is None

    async def test_large_values_are_kept(self, store: Store, root: str) -> None:
        """A document may be as large as the largest segment and more."""
        text = "가" * 200_000

        await store.commit([Create(f"{root}/things/a", {"text": text})])

        assert text == (await current(store, f"{root}/things/a")).fields["text"]


class TestCommit:
    async def test_create_refuses_an_existing_document(self, store: Store, root: str) -> None:
        """The first create stands, the second tells which document was there."""
        await store.commit([Create(f"{root}/things/a", {"n": 1})])

        with pytest.raises(StoreConflict) as conflict:
            await store.commit([Create(f"{root}/things/a", {"n": 2})])

        assert f"{root}/things/a" == conflict.value.path
        assert {"n": 1} == (await current(store, f"{root}/things/a")).fields

    async def test_update_replaces_all_fields_at_its_version(self, store: Store, root: str) -> None:
        """Nothing of the old fields stays, and the version changes."""
        created = await store.commit([Create(f"{root}/things/a", {"n": 1, "old": True})])

        updated = await store.commit([Update(f"{root}/things/a", {"n": 2}, created.versions[0])])

        document = await current(store, f"{root}/things/a")
        assert {"n": 2} == document.fields
        assert updated.versions[0] == document.version
        assert created.versions[0] != document.version

    async def test_update_refuses_another_version(self, store: Store, root: str) -> None:
        """Of two writers that read the same, one wins."""
        created = await store.commit([Create(f"{root}/things/a", {"n": 1})])
        await store.commit([Update(f"{root}/things/a", {"n": 2}, created.versions[0])])

        with pytest.raises(StoreConflict):
            await store.commit([Update(f"{root}/things/a", {"n": 3}, created.versions[0])])

        assert {"n": 2} == (await current(store, f"{root}/things/a")).fields

    async def test_update_refuses_a_missing_document(self, store: Store, root: str) -> None:
        """An update never creates."""
        created = await store.commit([Create(f"{root}/things/a", {})])
        await store.commit([Delete(f"{root}/things/a")])

        with pytest.raises(StoreConflict):
            await store.commit([Update(f"{root}/things/a", {}, created.versions[0])])

    async def test_a_version_is_not_used_again_after_a_delete(
        self, store: Store, root: str
    ) -> None:
        """A writer that holds the version of a deleted document cannot write the new one."""
        first = await store.commit([Create(f"{root}/things/a", {"n": 1})])
        await store.commit([Delete(f"{root}/things/a", first.versions[0])])
        await store.commit([Create(f"{root}/things/a", {"n": 1})])

        with pytest.raises(StoreConflict):
            await store.commit([Update(f"{root}/things/a", {"n": 9}, first.versions[0])])

    async def test_delete_at_a_version_refuses_another(self, store: Store, root: str) -> None:
        """A conditional delete is a compare-and-set too."""
        first = await store.commit([Create(f"{root}/things/a", {})])
        await store.commit([Update(f"{root}/things/a", {"n": 1}, first.versions[0])])

        with pytest.raises(StoreConflict):
            await store.commit([Delete(f"{root}/things/a", first.versions[0])])

        assert await store.get(f"{root}/things/a") is not None

    async def test_delete_without_a_version_is_repeatable(self, store: Store, root: str) -> None:
        """Removing what is not there succeeds and has no version."""
        await store.commit([Create(f"{root}/things/a", {})])

        first = await store.commit([Delete(f"{root}/things/a")])
        await store.commit([Delete(f"{root}/things/a")])

        assert ("",) == first.versions
        assert await store.get(f"{root}/things/a") is None

    async def test_a_commit_is_all_or_nothing(self, store: Store, root: str) -> None:
        """One failed condition undoes every write of its commit."""
        await store.commit([Create(f"{root}/things/b", {})])

        with pytest.raises(StoreConflict) as conflict:
            await store.commit(
                [
                    Create(f"{root}/things/a", {}),
                    Create(f"{root}/things/b", {}),
                    Create(f"{root}/things/c", {}),
                ]
            )

        assert f"{root}/things/b" == conflict.value.path
        assert ["b"] == await ids(store, f"{root}/things")

    async def test_versions_come_in_the_order_of_writes(self, store: Store, root: str) -> None:
        """Each write's version is the document's; a delete's is empty."""
        await store.commit([Create(f"{root}/things/b", {})])

        committed = await store.commit(
            [
                Create(f"{root}/things/a", {}),
                Delete(f"{root}/things/b"),
                Create(f"{root}/things/c", {}),
            ]
        )

        assert (
            (await current(store, f"{root}/things/a")).version,
            "",
            (await current(store, f"{root}/things/c")).version,
        ) == committed.versions

    async def test_of_fifty_concurrent_creates_one_wins(self, store: Store, root: str) -> None:
        """However many writers meet, exactly one creates the document."""
        results = await asyncio.gather(
            *(store.commit([Create(f"{root}/things/a", {"n": n})]) for n in range(50)),
            return_exceptions=True,
        )

        winners = [n for n, result in enumerate(results) if not isinstance(result, Exception)]
        losers = [result for result in results if isinstance(result, StoreConflict)]
        assert 1 == len(winners)
        assert 49 == len(losers)
        assert {"n": winners[0]} == (await current(store, f"{root}/things/a")).fields

    async def test_a_conflict_does_not_fail_its_neighbours(self, store: Store, root: str) -> None:
        """Commits that share a transaction succeed or fail each for itself."""
        await store.commit([Create(f"{root}/things/taken", {})])

        results = await asyncio.gather(
            *(
                store.commit(
                    [
                        Create(f"{root}/things/{n}", {}),
                        *([Create(f"{root}/things/taken", {})] if n % 2 else []),
                    ]
                )
                for n in range(10)
            ),
            return_exceptions=True,
        )

        failed = [n for n, result in enumerate(results) if isinstance(result, StoreConflict)]
        assert [1, 3, 5, 7, 9] == failed
        assert ["0", "2", "4", "6", "8", "taken"] == await ids(store, f"{root}/things")

    async def test_concurrent_updates_lose_nothing(self, store: Store, root: str) -> None:
        """Compare-and-set counts right, whoever comes first."""
        path = f"{root}/things/counter"
        await store.commit([Create(path, {"n": 0})])

        async def increment() -> None:
            while True:
                document = await current(store, path)
                try:
                    await store.commit(
                        [Update(path, {"n": document.fields["n"] + 1}, document.version)]
                    )
                except StoreConflict:
                    continue
                return

        await asyncio.gather(*(increment() for _ in range(8)))

        assert {"n": 8} == (await current(store, path)).fields


class TestRead:
    async def test_documents_come_in_the_order_of_their_ids(self, store: Store, root: str) -> None:
        """Order is that of the characters' numbers, not of creation or of a language."""
        names = ["b", "a", "10", "9", "B", "_", "a0", "~"]
        await store.commit([Create(f"{root}/things/{name}", {}) for name in names])

        assert sorted(names) == await ids(store, f"{root}/things")

    async def test_bounds_are_exclusive(self, store: Store, root: str) -> None:
        """`after` and `before` leave their own ids out."""
        await store.commit([Create(f"{root}/things/{n:03d}", {}) for n in range(6)])

        assert ["002", "003"] == await ids(store, f"{root}/things", after="001", before="004")

    async def test_a_bound_need_not_exist(self, store: Store, root: str) -> None:
        """A bound is a place in the order, not a document."""
        await store.commit([Create(f"{root}/things/{n:03d}", {}) for n in range(3)])

        assert ["001", "002"] == await ids(store, f"{root}/things", after="000.5")

    async def test_reverse_begins_with_the_greatest(self, store: Store, root: str) -> None:
        """With a limit it gives the last documents."""
        await store.commit([Create(f"{root}/things/{n:03d}", {}) for n in range(6)])

        found = await ids(store, f"{root}/things", before="005", limit=2, reverse=True)

        assert ["004", "003"] == found

    async def test_limit_gives_the_first(self, store: Store, root: str) -> None:
        """A page continues after the last id of the page before."""
        await store.commit([Create(f"{root}/things/{n:03d}", {}) for n in range(5)])

        first = await ids(store, f"{root}/things", limit=3)
        second = await ids(store, f"{root}/things", after=first[-1], limit=3)

        assert ["000", "001", "002"] == first
        assert ["003", "004"] == second

    async def test_only_documents_directly_in_the_collection_are_found(
        self, store: Store, root: str
    ) -> None:
        """Neither those below nor those of a collection with a similar name."""
        await store.commit(
            [
                Create(f"{root}/things/a", {}),
                Create(f"{root}/things/a/parts/b", {}),
                Create(f"{root}/thing/c", {}),
                Create(f"{root}/things2/d", {}),
            ]
        )

        assert ["a"] == await ids(store, f"{root}/things")

    async def test_a_read_sees_every_commit_that_returned(self, store: Store, root: str) -> None:
        """No read is stale, by get or by read."""
        for n in range(20):
            await store.commit([Create(f"{root}/things/{n:03d}", {"n": n})])

            assert await store.get(f"{root}/things/{n:03d}") is not None
            assert n + 1 == len(await store.read(f"{root}/things"))


class TestTime:
    async def test_time_never_goes_back(self, store: Store, root: str) -> None:
        """Each commit's time is later than the one before, and `now` is not behind it."""
        times = []
        for n in range(10):
            committed = await store.commit([Create(f"{root}/things/{n}", {})])
            times.append(committed.time)

        assert sorted(set(times)) == times
        assert times[-1] <= await store.now()

    async def test_a_document_knows_when_it_was_written(self, store: Store, root: str) -> None:
        """The time is the commit's, aware and in UTC."""
        committed = await store.commit([Create(f"{root}/things/a", {})])

        document = await current(store, f"{root}/things/a")

        assert committed.time == document.update_time
        assert timedelta(0) == document.update_time.utcoffset()
        assert UTC == document.update_time.tzinfo


class TestReopening:
    async def test_what_was_committed_survives(self, make_store: MakeStore, root: str) -> None:
        """Fields, versions and time are the same for the next process."""
        async with make_store() as store:
            committed = await store.commit([Create(f"{root}/things/a", {"n": 1})])

        async with make_store() as store:
            document = await current(store, f"{root}/things/a")
            assert {"n": 1} == document.fields
            assert committed.versions[0] == document.version
            assert committed.time <= await store.now()
            later = await store.commit([Update(document.path, {"n": 2}, document.version)])
            assert committed.time < later.time

    async def test_commits_asked_for_are_made_before_it_closes(
        self, make_store: MakeStore, root: str
    ) -> None:
        """Closing waits for commits in flight."""
        async with make_store() as store:
            commits = [
                asyncio.ensure_future(store.commit([Create(f"{root}/things/{n}", {})]))
                for n in range(10)
            ]
            await asyncio.sleep(0)

        await asyncio.gather(*commits)
        async with make_store() as store:
            assert 10 == len(await store.read(f"{root}/things"))
