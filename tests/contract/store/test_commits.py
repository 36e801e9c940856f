"""What every store's commits must do; the semantics the session service is built on."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from services.session.store import Create, Delete, Store, StoreConflict, Update
from tests.contract.store.looking import current, ids


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

    async def test_an_update_without_a_change_is_a_new_version(
        self, store: Store, root: str
    ) -> None:
        """A lease that is renewed with the same fields is renewed."""
        created = await store.commit([Create(f"{root}/things/a", {"n": 1})])

        updated = await store.commit([Update(f"{root}/things/a", {"n": 1}, created.versions[0])])

        document = await current(store, f"{root}/things/a")
        assert created.versions[0] != updated.versions[0] == document.version
        assert created.time < updated.time == document.update_time

    async def test_a_version_of_somebody_else_is_refused(self, store: Store, root: str) -> None:
        """What no store gave is at least not the current version."""
        await store.commit([Create(f"{root}/things/a", {})])

        for write in (
            Update(f"{root}/things/a", {}, "a version"),
            Update(f"{root}/things/a", {}, ""),
            Delete(f"{root}/things/a", "a version"),
        ):
            with pytest.raises(StoreConflict):
                await store.commit([write])

    async def test_what_may_expire_is_kept_until_then(self, store: Store, root: str) -> None:
        """The time at which it may go is none of its fields."""
        expire = await store.now() + timedelta(days=1)

        created = await store.commit([Create(f"{root}/things/a", {"n": 1}, expire)])
        assert {"n": 1} == (await current(store, f"{root}/things/a")).fields
        await store.commit([Update(f"{root}/things/a", {"n": 2}, created.versions[0], expire)])

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

    async def test_a_conflict_names_the_document(self, store: Store, root: str) -> None:
        """The one whose condition failed, of whatever kind it was."""
        writes = [
            (await store.commit([Create(f"{root}/things/{n}", {})])).versions[0] for n in range(3)
        ]
        changed = await store.commit([Update(f"{root}/things/1", {}, writes[1])])
        await store.commit([Delete(f"{root}/things/2")])
        good = Update(f"{root}/things/0", {}, writes[0])

        for bad in (
            Create(f"{root}/things/0", {}),
            Update(f"{root}/things/1", {}, writes[1]),
            Delete(f"{root}/things/1", writes[1]),
            Update(f"{root}/things/2", {}, writes[2]),
            Delete(f"{root}/things/2", writes[2]),
        ):
            others = [good] if bad.path != good.path else []
            with pytest.raises(StoreConflict) as conflict:
                await store.commit([*others, bad, Create(f"{root}/things/new", {})])
            assert bad.path == conflict.value.path

        await store.commit([good, Delete(f"{root}/things/1", changed.versions[0])])

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
