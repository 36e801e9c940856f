"""What every store's reads must do, and how it tells the time."""

from __future__ import annotations

import asyncio
from datetime import UTC, timedelta

from services.session.store import Create, Store, Update
from tests.contract.store.conftest import MakeStore
from tests.contract.store.looking import current, ids


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

    async def test_a_document_tells_when_it_was_read(self, store: Store, root: str) -> None:
        """By the database's clock, and not before any commit that returned."""
        await store.commit([Create(f"{root}/things/a", {})])
        later = await store.commit([Create(f"{root}/things/b", {})])

        got = await current(store, f"{root}/things/a")
        listed = await store.read(f"{root}/things")

        assert got.update_time < later.time <= got.read_time
        assert all(got.read_time <= document.read_time for document in listed)
        assert timedelta(0) == got.read_time.utcoffset()


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


class TestCancelling:
    async def test_a_cancelled_call_is_cancelled(self, store: Store, root: str) -> None:
        """At once, and the calls after it work."""
        await store.commit([Create(f"{root}/things/a", {})])
        calls = [
            asyncio.ensure_future(call)
            for call in (
                store.commit([Create(f"{root}/things/b", {})]),
                store.get(f"{root}/things/a"),
                store.read(f"{root}/things"),
            )
        ]
        await asyncio.sleep(0)
        for call in calls:
            call.cancel()

        results = await asyncio.gather(*calls, return_exceptions=True)

        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        assert await store.get(f"{root}/things/a") is not None
        await store.commit([Create(f"{root}/things/c", {})])


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
