"""Tests of what Firestore's errors are taken for, against a server that refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.api_core import exceptions
from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.failures import Failure
from services.session.store import Create, Delete, StoreConflict, Update
from services.session.stores.firestore import FirestoreStore
from services.session.stores.firestore_batch import Batch
from services.session.stores.firestore_errors import Target, advice
from services.session.stores.firestore_values import Mark, Stored, stored
from tests.contract.store.scripted_firestore import Refusal, ScriptedFirestore

Code = grpc.StatusCode

REFUSED = (Code.PERMISSION_DENIED, "Missing or insufficient permissions.")
LOST = (Code.UNAVAILABLE, "Stream removed")
UNSENT = (Code.UNAVAILABLE, "failed to connect to all addresses; last error: ...")
SECONDS = 1_000


@pytest.fixture
async def server() -> AsyncIterator[ScriptedFirestore]:
    """A server that a test tells how to answer."""
    async with ScriptedFirestore() as server:
        yield server


@pytest.fixture
async def store(server: ScriptedFirestore) -> AsyncIterator[FirestoreStore]:
    """A store on that server."""
    async with opened(server) as store:
        yield store


def opened(
    server: ScriptedFirestore, *, deadline: float = 15, attempt: float = 10
) -> FirestoreStore:
    """A store on a server, not open yet."""
    return FirestoreStore(project="mine", emulator=server.host, deadline=deadline, attempt=attempt)


class TestOpening:
    @pytest.mark.parametrize(
        ("refusal", "words"),
        [
            (REFUSED, ["403", "roles/datastore.user", "project mine", "GOOGLE_CLOUD_PROJECT"]),
            (
                (Code.PERMISSION_DENIED, "The API has not been used in project mine before."),
                ["switched off", "firestore.googleapis.com"],
            ),
            (
                (Code.NOT_FOUND, "The database (default) does not exist for project mine."),
                ["no database (default)", "create it", "MOORLINE_STORE"],
            ),
            (
                (Code.FAILED_PRECONDITION, "The API is not available in Datastore Mode."),
                ["native mode"],
            ),
            ((Code.UNAUTHENTICATED, "Bad token."), ["gcloud auth application-default login"]),
            ((Code.RESOURCE_EXHAUSTED, "Quota exceeded."), ["quota", "project mine"]),
            ((Code.INVALID_ARGUMENT, "What?"), ["InvalidArgument", "report"]),
        ],
    )
    async def test_what_waiting_does_not_help_is_one_sentence(
        self, server: ScriptedFirestore, refusal: Refusal, words: list[str]
    ) -> None:
        """That says what to do; the process need not start."""
        server.always = refusal

        with pytest.raises(Failure) as raised:
            await opened(server).__aenter__()

        assert "STORE_UNAVAILABLE" == raised.value.reason_name
        assert raised.value.message.endswith(".")
        assert "\n" not in raised.value.message
        for word in words:
            assert word in raised.value.message

    async def test_a_database_that_is_away_is_waited_for(
        self, server: ScriptedFirestore, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It opens, and the log says what to look at."""
        server.always = LOST
        async with opened(server, attempt=0.5) as store:
            (record,) = caplog.records
            assert "FIRESTORE_EMULATOR_HOST" in record.__dict__["advice"]
            server.always = None

            assert datetime.fromtimestamp(SECONDS, UTC) == await store.now()

    async def test_every_call_names_the_database(
        self, server: ScriptedFirestore, store: FirestoreStore
    ) -> None:
        """As the service routes by it, and an administrator to an emulator."""
        await store.get("things/a")

        name = "projects/mine/databases/(default)"
        assert name == server.metadata["google-cloud-resource-prefix"]
        assert "Bearer owner" == server.metadata["authorization"]


class TestCommit:
    @pytest.mark.parametrize("code", [Code.ABORTED, Code.INTERNAL, Code.UNKNOWN, Code.CANCELLED])
    async def test_what_passes_is_asked_again(
        self, server: ScriptedFirestore, store: FirestoreStore, code: grpc.StatusCode
    ) -> None:
        """Until it succeeds."""
        server.refusals["Commit"] = [(code, "once"), (code, "twice")]

        committed = await store.commit([Create("things/a", {})])

        assert 3 == server.calls["Commit"]
        assert ("1000.000000000~0",) == committed.versions

    async def test_what_does_not_pass_is_asked_once(
        self,
        server: ScriptedFirestore,
        store: FirestoreStore,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """The caller hears the kind, the operator what to do, once."""
        for _ in range(2):
            server.refusals["Commit"] = [REFUSED]
            with pytest.raises(Failure) as raised:
                await store.commit([Create("things/a", {})])

        assert 2 == server.calls["Commit"]
        assert "PermissionDenied" in raised.value.message
        assert "mine" not in raised.value.message
        (record,) = caplog.records
        assert "roles/datastore.user" in record.__dict__["advice"]

    async def test_a_database_that_is_gone_is_no_conflict(
        self, server: ScriptedFirestore, store: FirestoreStore
    ) -> None:
        """Although it answers with the status of a missing document."""
        server.refusals["Commit"] = [
            (Code.NOT_FOUND, "The database (default) does not exist for project mine.")
        ]

        with pytest.raises(Failure):
            await store.commit([Create("things/a", {})])

    async def test_a_conflict_is_named_although_it_has_passed(
        self, server: ScriptedFirestore, store: FirestoreStore
    ) -> None:
        """When no document explains it any more, the first condition is taken."""
        server.refusals["Commit"] = [(Code.ALREADY_EXISTS, "Document already exists")]

        with pytest.raises(StoreConflict) as conflict:
            await store.commit([Delete("things/b"), Create("things/a", {})])

        assert "things/a" == conflict.value.path

    async def test_a_conflict_that_cannot_be_looked_at_is_in_doubt(
        self, server: ScriptedFirestore, store: FirestoreStore
    ) -> None:
        """The database answered, and then no more."""
        server.refusals["Commit"] = [(Code.ALREADY_EXISTS, "Document already exists")]
        server.refusals["BatchGetDocuments"] = [REFUSED]

        with pytest.raises(Failure):
            await store.commit([Create("things/a", {})])

    @pytest.mark.parametrize(("first", "doubtful"), [(LOST, True), (UNSENT, False)])
    async def test_only_what_may_have_happened_leaves_doubt(
        self, server: ScriptedFirestore, store: FirestoreStore, first: Refusal, doubtful: bool
    ) -> None:
        """What was never sent was not made: a conflict after it is somebody else's."""
        server.refusals["Commit"] = [first, (Code.ALREADY_EXISTS, "Document already exists")]

        with pytest.raises(Failure if doubtful else StoreConflict):
            await store.commit([Create("things/a", {})])

    async def test_a_pause_ends_by_the_deadline(self, server: ScriptedFirestore) -> None:
        """However short the errors take."""
        async with opened(server, deadline=2) as store, asyncio.timeout(15):
            server.always = LOST
            with pytest.raises(Failure):
                await store.read("things")

        assert server.calls["RunQuery"] > 2


def test_words_for_a_real_project() -> None:
    """They name the account that is refused, and the host that is not reached."""
    target = Target("firestore.example", "mine", "(default)", "me@mine.example", emulated=False)

    away: Any = exceptions.ServiceUnavailable
    refused: Any = exceptions.PermissionDenied

    assert "me@mine.example" in advice(refused("no"), target)
    assert "HTTPS" in advice(away("no"), target)
    plugin = away("Getting metadata from plugin failed with error: ...")
    assert "cannot be renewed" in advice(plugin, target)


class TestBatch:
    def test_a_large_document_takes_several_writes(self) -> None:
        """Each write's own result is found among them."""
        batch = Batch(
            root="r/documents",
            writes=[
                Delete("a/small"),
                Create("a/large", {"text": "x" * 500_000}),
                Update("a/shrinks", {}, "7.000000005~2"),
                Delete("a/gone", "8.000000000~1"),
            ],
            parts={"a/small": 1},
        )

        sent = [
            f"-{write.delete}" if write.delete else f"+{write.update.name}"
            for write in batch.request.writes
        ]
        assert [
            "-r/documents/a/small",
            "-r/documents/a/small/more/1",
            "+r/documents/a/large",
            "+r/documents/a/large/more/1",
            "+r/documents/a/large/more/2",
            "+r/documents/a/shrinks",
            "-r/documents/a/shrinks/more/1",
            "-r/documents/a/shrinks/more/2",
            "-r/documents/a/gone",
            "-r/documents/a/gone/more/1",
        ] == sent
        conditions = [write.current_document for write in batch.request.writes]
        assert [2, 5, 8] == [n for n, found in enumerate(conditions) if found.ByteSize()]

    def test_traces_of_another_commit_are_not_its_own(self) -> None:
        """A document that carries another nonce says nothing."""
        batch = Batch(root="r/documents", writes=[Create("a/b", {})], parts={})
        mine = Stored("a/b", Mark(batch.nonce, 0), Timestamp(seconds=7), "")
        other = Stored("a/b", Mark("other", 0), Timestamp(seconds=7), "")

        assert batch.found([other]) is None
        assert (found := batch.found([other, mine])) is not None
        assert (mine.version,) == found.versions

    def test_a_mark_reads_what_it_wrote(self) -> None:
        """And takes a document without one for a whole one."""
        assert Mark("n", 3) == Mark.read(str(Mark("n", 3)))
        assert Mark("", 0) == Mark.read("")

    def test_a_document_without_text_is_one_not_asked_for(self) -> None:
        """Only its mark was read."""
        message = Batch(root="r/documents", writes=[Create("a/b", {})], parts={})
        update = message.request.writes[0].update
        del update.fields["json"]

        assert "" == stored("r/documents", update).text
