"""The files that a Firestore database is set up with, against what the store does."""

from __future__ import annotations

import json
import re
import urllib.error
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.session.store import Create, Delete, Update
from services.session.stores.firestore_batch import Batch
from services.session.stores.sqlite import SqliteStore
from tests.contract.store.limits import DEPLOYED, LimitedStore, LimitExceededError, overrides
from tests.emulator import PROJECT, EmulatorMissingError, FirestoreEmulator, emulator

DOCUMENTS = f"/v1/projects/{PROJECT}/databases/(default)/documents"


@pytest.fixture(scope="module")
def ruled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FirestoreEmulator]:
    """An emulator that applies the rules that are deployed."""
    folder = tmp_path_factory.mktemp("rules")
    try:
        with emulator(folder, rules=DEPLOYED / "firestore.rules") as running:
            yield running
    except EmulatorMissingError as error:
        pytest.skip(str(error))


def status(server: FirestoreEmulator, method: str, path: str, token: str, body: Any = None) -> int:
    """The HTTP status of a REST call."""
    try:
        server.request(method, path, token=token, body=body)
    except urllib.error.HTTPError as error:
        return error.code
    return 200


@pytest.mark.firestore
@pytest.mark.timeout(60)
class TestRules:
    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("GET", "/users/ada", None),
            ("GET", "/users/ada/agents", None),
            ("GET", "/users/ada/agents/a/log/0000000001", None),
            ("GET", "/keys", None),
            ("POST", "/users?documentId=eve", {"fields": {}}),
            ("PATCH", "/users/ada", {"fields": {"owner": {"stringValue": "eve"}}}),
            ("DELETE", "/users/ada", None),
            ("POST", ":runQuery", {"structuredQuery": {"from": [{"collectionId": "work"}]}}),
        ],
    )
    def test_nobody_but_the_service_reads_or_writes(
        self, ruled: FirestoreEmulator, method: str, path: str, body: Any
    ) -> None:
        """A caller without an account is refused whatever it asks for."""
        assert 403 == status(ruled, method, DOCUMENTS + path, "", body)

    def test_the_service_reads_and_writes(self, ruled: FirestoreEmulator) -> None:
        """Rules do not apply to its account."""
        path = f"{DOCUMENTS}/users/ada"

        assert 200 == status(ruled, "PATCH", path, "owner", {"fields": {}})
        assert 200 == status(ruled, "GET", path, "owner")
        assert 200 == status(ruled, "DELETE", path, "owner")


class TestIndexes:
    def test_every_field_is_exempt_but_those_that_queries_use(self) -> None:
        """What no query uses is no index entry, and no hot spot."""
        indexed = {name: override["indexes"] for name, override in overrides().items()}
        descending = [{"order": "DESCENDING", "queryScope": "COLLECTION"}]

        read_from_their_end = ("log", "order", "transcript")
        assert {(name, "id"): descending for name in read_from_their_end} == {
            name: indexes for name, indexes in indexed.items() if indexes
        }

    def test_every_field_of_a_document_is_named_for_every_collection(self) -> None:
        """A field that a later release adds is not indexed by oversight."""
        writes = [Create("keys/a", {}, datetime.now(UTC)), Create("work/a", {})]
        batch = Batch(root="r/documents", writes=writes, parts={})
        with_expiry, without = (set(write.update.fields) for write in batch.request.writes)
        collections = {collection for collection, _ in overrides()}

        assert {"id", "json", "write"} == without == with_expiry - {"expire"}
        assert {(name, field) for name in collections for field in without} == set(overrides()) - {
            ("keys", "expire")
        }

    def test_only_keys_expire(self) -> None:
        """History goes when its user deletes it, and not before."""
        policies = [name for name, override in overrides().items() if override.get("ttl")]

        assert [("keys", "expire")] == policies

    def test_the_commands_find_the_files(self) -> None:
        """`firebase.json` names both."""
        configuration = json.loads((DEPLOYED / "firebase.json").read_text())["firestore"]

        assert all((DEPLOYED / name).is_file() for name in configuration.values())

    def test_documents_in_parts_are_in_a_declared_collection(self) -> None:
        """Parts are documents too."""
        large = Create("work/a", {"text": "x" * 300_000})
        batch = Batch(root="r/documents", writes=[large], parts={})
        names = [write.update.name for write in batch.request.writes]

        assert ["r/documents/work/a", "r/documents/work/a/more/1"] == names
        assert ("more", "json") in overrides()


class TestLimits:
    async def test_a_query_that_is_not_declared_is_refused(self, tmp_path: Path) -> None:
        """Of a collection, or of its end."""
        async with LimitedStore(SqliteStore(path=tmp_path / "a.db")) as store:
            await store.read("users/ada/agents/a/log", reverse=True)
            await store.read("users/ada/agents")
            with pytest.raises(LimitExceededError):
                await store.read("users/ada/agents", reverse=True)
            with pytest.raises(LimitExceededError):
                await store.read("users/ada/thoughts")
            with pytest.raises(LimitExceededError):
                await store.commit([Create("users/ada/thoughts/a", {})])

    async def test_too_much_for_one_commit_is_refused(self, tmp_path: Path) -> None:
        """By the number of writes, by their size, and twice the same document."""
        large = [Create(f"work/{n}", {"text": "x" * 1_000_000}) for n in range(4)]
        many = [Delete(f"work/{n}") for n in range(501)]
        async with LimitedStore(SqliteStore(path=tmp_path / "a.db")) as store:
            for writes in (large, many, [*many[:1], *many[:1]]):
                with pytest.raises(LimitExceededError):
                    await store.commit(writes)
            await store.commit(large[:3])
            await store.commit(many[:500])

    async def test_too_many_writes_to_one_document_are_refused(self, tmp_path: Path) -> None:
        """Beyond a burst it takes one a second; others are not concerned."""
        now = 0.0
        async with LimitedStore(SqliteStore(path=tmp_path / "a.db"), clock=lambda: now) as store:
            committed = await store.commit([Create("work/a", {})])
            for _ in range(100):
                now += 1.0
                committed = await store.commit([Update("work/a", {}, committed.versions[0])])
            for _ in range(29):
                committed = await store.commit([Update("work/a", {}, committed.versions[0])])
            with pytest.raises(LimitExceededError):
                await store.commit([Update("work/a", {}, committed.versions[0])])
            await store.commit([Create("work/b", {})])

        assert 1 == store.writes["work/b"]


def test_the_sentences_for_operators_name_the_role_that_is_documented() -> None:
    """What an error tells to do is what the instructions tell."""
    text = (DEPLOYED / "README.md").read_text()

    assert re.search(r"`roles/datastore\.user`", text)
