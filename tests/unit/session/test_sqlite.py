"""Tests of `services.session.stores.sqlite` beyond the contract, and of `measured`."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from services.chassis.failures import Failure
from services.chassis.metrics import Metrics
from services.session.store import Create, StoreConflict
from services.session.stores.measured import MeasuredStore
from services.session.stores.sqlite import SqliteStore
from tests.unit.session.fakes import FaultyStore, store_unavailable


class Clock:
    """A wall clock in the test's hands, which can be made to fail in the midst of a commit."""

    def __init__(self) -> None:
        self.seconds = 1_000.0
        self.errors: list[Exception] = []

    def __call__(self) -> float:
        """Return its seconds."""
        if self.errors:
            raise self.errors.pop()
        return self.seconds


async def refused(store: SqliteStore, path: str) -> str:
    """Return why a commit is refused, which must not take long."""
    async with asyncio.timeout(10):
        with pytest.raises(Failure) as raised:
            await store.commit([Create(path, {})])
    return raised.value.reason_name


async def test_a_file_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    """In one sentence with the path."""
    (tmp_path / "file").write_text("")

    with pytest.raises(Failure) as raised:
        await SqliteStore(path=tmp_path / "file" / "store.db").__aenter__()

    assert "STORE_UNAVAILABLE" == raised.value.reason_name
    assert str(tmp_path) in raised.value.message


async def test_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    """It is left as it is."""
    (tmp_path / "store.db").write_text("not a database" * 100)

    with pytest.raises(Failure):
        await SqliteStore(path=tmp_path / "store.db").__aenter__()


@pytest.mark.parametrize(("first", "last"), [(3, 1000), (9, 10)])
async def test_a_damaged_database_says_so(tmp_path: Path, first: int, last: int) -> None:
    """At once, not when the damaged page is read first."""
    path = tmp_path / "store.db"
    async with SqliteStore(path=path) as store:
        await store.commit([Create(f"things/{n:03}", {"text": "x" * 500}) for n in range(100)])
    whole = path.read_bytes()
    spoiled = whole[first * 4096 : last * 4096]
    path.write_bytes(whole[: first * 4096] + b"\x5a" * len(spoiled) + whole[last * 4096 :])

    with pytest.raises(Failure) as raised:
        await SqliteStore(path=path).__aenter__()

    assert "STORE_UNAVAILABLE" == raised.value.reason_name
    assert str(path) in raised.value.message


async def test_a_database_that_takes_long_to_check_is_opened(tmp_path: Path) -> None:
    """The check is given up: a start must not take as long as reading everything."""
    path = tmp_path / "store.db"
    async with SqliteStore(path=path) as store:
        await store.commit([Create(f"things/{n:03}", {"text": "x" * 500}) for n in range(400)])

    async with SqliteStore(path=path, check_seconds=0.0) as store:
        assert 400 == len(await store.read("things"))


async def test_a_database_of_somebody_elses_says_so(tmp_path: Path) -> None:
    """It has a table of the same name with other columns."""
    path = tmp_path / "store.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE documents (words TEXT)")
    other.close()

    with pytest.raises(Failure) as raised:
        await SqliteStore(path=path).__aenter__()

    assert "STORE_UNAVAILABLE" == raised.value.reason_name


async def test_a_store_that_is_not_open_is_unavailable(tmp_path: Path) -> None:
    """Reading before it is opened fails with a typed reason."""
    store = SqliteStore(path=tmp_path / "store.db")
    with pytest.raises(Failure) as raised:
        await store.get("things/a")

    assert "STORE_UNAVAILABLE" == raised.value.reason_name
    assert "STORE_UNAVAILABLE" == await refused(store, "things/a")


async def test_a_store_that_was_closed_refuses_commits(tmp_path: Path) -> None:
    """None waits for a thread that has ended."""
    async with SqliteStore(path=tmp_path / "store.db") as store:
        await store.commit([Create("things/a", {})])

    assert "STORE_UNAVAILABLE" == await refused(store, "things/b")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError(), sqlite3.InternalError()])
async def test_whatever_fails_fails_only_the_commits_at_hand(
    tmp_path: Path, error: Exception
) -> None:
    """Nothing of them is written, and the next ones are made."""
    clock = Clock()
    async with SqliteStore(path=tmp_path / "store.db", clock=clock) as store:
        await store.commit([Create("things/a", {})])
        clock.errors = [error]

        assert "STORE_UNAVAILABLE" == await refused(store, "things/b")
        await store.commit([Create("things/c", {})])

        assert ["a", "c"] == [document.id for document in await store.read("things")]


async def test_a_database_that_is_gone_fails_every_commit_until_it_is_back(
    tmp_path: Path,
) -> None:
    """Each at once; no empty one is made in its place."""
    clock = Clock()
    path = tmp_path / "store.db"
    async with SqliteStore(path=path, clock=clock) as store:
        await store.commit([Create("things/a", {})])
        path.rename(tmp_path / "elsewhere.db")
        clock.errors = [MemoryError()]

        for name in ("things/b", "things/c", "things/d"):
            assert "STORE_UNAVAILABLE" == await refused(store, name)
        assert not path.exists()
        (tmp_path / "elsewhere.db").rename(path)
        await store.commit([Create("things/e", {})])

        assert ["a", "e"] == [document.id for document in await store.read("things")]


async def test_a_broken_database_is_unavailable_and_recovers(tmp_path: Path) -> None:
    """Commits and reads fail with a typed reason, without a word of the user's."""
    path = tmp_path / "store.db"
    async with SqliteStore(path=path) as store:
        await store.commit([Create("things/a", {})])
        with sqlite3.connect(path) as other:
            other.execute("ALTER TABLE documents RENAME TO elsewhere")
        for call in (store.commit([Create("things/b", {})]), store.get("things/a")):
            with pytest.raises(Failure) as raised:
                await call
            assert "STORE_UNAVAILABLE" == raised.value.reason_name
            assert raised.value.retry_delay
        with sqlite3.connect(path) as other:
            other.execute("ALTER TABLE elsewhere RENAME TO documents")
        other.close()

        await store.commit([Create("things/b", {})])

        assert 2 == len(await store.read("things"))


async def test_a_locked_database_is_unavailable(tmp_path: Path) -> None:
    """A commit that cannot begin fails; nothing is half written."""
    path = tmp_path / "store.db"
    async with SqliteStore(path=path, lock_seconds=0.01) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Failure):
            await store.commit([Create("things/a", {})])
        other.execute("ROLLBACK")
        other.close()

        assert await store.get("things/a") is None


async def test_a_file_that_another_process_uses_says_so(tmp_path: Path) -> None:
    """Two would fence each other all the time; the second waits for the first to end."""
    path = tmp_path / "store.db"
    async with SqliteStore(path=path):
        with pytest.raises(Failure) as raised:
            await SqliteStore(path=path, lock_seconds=0.05).__aenter__()
        waiting = asyncio.ensure_future(SqliteStore(path=path).__aenter__())
        await asyncio.sleep(0.05)
        assert not waiting.done()

    assert f"{path} cannot be opened: another process uses it" == raised.value.message
    await (await waiting).__aexit__(None, None, None)


async def test_fields_that_are_no_json_fail(tmp_path: Path) -> None:
    """And take nothing with them."""
    async with SqliteStore(path=tmp_path / "store.db") as store:
        with pytest.raises(Failure):
            await store.commit([Create("things/a", {}), Create("things/b", {"x": object()})])

        assert await store.get("things/a") is None


async def test_time_stands_still_while_the_clock_is_behind(tmp_path: Path) -> None:
    """A clock that was set back makes no version twice, also not after a restart."""
    clock = Clock()
    path = tmp_path / "store.db"
    async with SqliteStore(path=path, clock=clock) as store:
        first = await store.commit([Create("things/a", {})])
    clock.seconds = 10.0

    async with SqliteStore(path=path, clock=clock) as store:
        second = await store.commit([Create("things/b", {})])

        assert first.time < second.time
        assert second.time == await store.now()


async def test_a_cancelled_commit_may_still_happen(tmp_path: Path) -> None:
    """The caller's end does not disturb the others."""
    async with SqliteStore(path=tmp_path / "store.db") as store:
        task = asyncio.ensure_future(store.commit([Create("things/a", {})]))
        await asyncio.sleep(0)
        task.cancel()
        await store.commit([Create("things/b", {})])

        assert ["a", "b"] == [document.id for document in await store.read("things")]


async def test_one_document_waits_for_no_reading_of_many(tmp_path: Path) -> None:
    """Whoever begins a turn asks for one, and others may read a long history meanwhile."""
    done = threading.Event()
    async with SqliteStore(path=tmp_path / "store.db") as store:
        await store.commit([Create("things/a", {"n": 1})])
        store._reads.submit(done.wait)
        found = await store.get("things/a")
        missing = await store.get("things/b")
        done.set()

    assert {"n": 1} == (found.fields if found is not None else None)
    assert missing is None


async def test_many_commits_share_transactions(tmp_path: Path) -> None:
    """A thousand at once are made, each for itself."""
    async with SqliteStore(path=tmp_path / "store.db") as store:
        committed = await asyncio.gather(
            *(store.commit([Create(f"things/{n}", {"n": n})]) for n in range(1000))
        )

        assert 1000 == len({commit.versions for commit in committed})
        assert 1000 == len(await store.read("things"))


async def test_operations_are_counted_and_timed(store: FaultyStore) -> None:
    """By what they were and how they ended."""
    metrics = Metrics(service="session")
    name = "moorline_store_operations_total"

    def count(operation: str, result: str) -> float | None:
        return metrics.registry.get_sample_value(name, {"operation": operation, "result": result})

    async with MeasuredStore(inner=store, metrics=metrics) as measured:
        await measured.commit([Create("things/a", {})])
        with pytest.raises(StoreConflict):
            await measured.commit([Create("things/a", {})])
        store.before = [store_unavailable()]
        with pytest.raises(Failure):
            await measured.commit([Create("things/b", {})])
        assert await measured.get("things/a") is not None
        assert 1 == len(await measured.read("things", after="0", before="b", reverse=True))
        assert await store.now() <= await measured.now()
        store.held.clear()
        task = asyncio.ensure_future(measured.commit([]))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert [1, 1, 1, 1] == [
        count("commit", result) for result in ("ok", "conflict", "unavailable", "cancelled")
    ]
    assert [1, 1] == [count("get", "ok"), count("read", "ok")]
    durations = "moorline_store_operation_duration_seconds_count"
    assert 4 == metrics.registry.get_sample_value(durations, {"operation": "commit"})
    documents = "moorline_store_documents_total"
    assert [1, 3] == [
        metrics.registry.get_sample_value(documents, {"operation": operation})
        for operation in ("write", "read")
    ]
