"""Tests of `services.session.transcripts.mirror`: what is stored of a transcript, and how."""

from __future__ import annotations

import asyncio

import pytest

from moorline.executor.v1 import executions_pb2
from services.session.store import Create
from services.session.stores.firestore_batch import COMMIT_BYTES, Batch
from services.session.transcripts.mirror import PIECE_BYTES, Mirror, lost_part
from services.session.transcripts.piece import Piece
from tests.unit.session.fakes import FaultyStore, store_unavailable
from tests.unit.session.log_writing import NAME, Writer
from tests.unit.session.service import until


def part(
    *entries: str, file: str = "", conversation: str = "c1", last: str = ""
) -> executions_pb2.TranscriptPart:
    """Return a part; the id of its last entry is what that begins with, if nothing is said."""
    return executions_pb2.TranscriptPart(
        conversation=conversation, file=file, entries=entries, last_entry=last or entries[-1][:8]
    )


async def write(mirror: Mirror, store: FaultyStore, *parts: executions_pb2.TranscriptPart) -> int:
    """Store parts as one commit does; return how many documents that took."""
    documents = mirror.write(parts)
    await store.inner.commit([Create(path, fields) for path, fields in documents.items()])
    return len(documents)


async def pieces(mirror: Mirror, conversation: str = "c1", first: int = 1) -> list[Piece]:
    """Return the stored pieces of a conversation."""
    return [one async for one in mirror.archive.pieces(conversation, first=first)]


async def entries(mirror: Mirror, conversation: str = "c1") -> dict[str, list[str]]:
    """Return what is stored of a conversation, by file."""
    found: dict[str, list[str]] = {}
    for piece in await pieces(mirror, conversation):
        for one in piece.parts:
            found.setdefault(one.file, []).extend(one.entries)
    return found


@pytest.fixture
def mirror(store: FaultyStore) -> Mirror:
    """An agent's transcript, nothing so far."""
    return Mirror(store=store, agent=NAME, log="log")


class TestWrite:
    async def test_parts_of_a_commit_share_a_piece(
        self, mirror: Mirror, store: FaultyStore
    ) -> None:
        """Entries come back in order, file by file; the newest entry is the main file's."""
        count = await write(
            mirror, store, part("e1"), part("e2"), part("s1", file="agents/a"), part("e3")
        )

        assert 1 == count
        assert {"": ["e1", "e2", "e3"], "agents/a": ["s1"]} == await entries(mirror)
        assert ("c1", "e3", 1) == (mirror.conversation, mirror.last_entry, mirror.first)

    async def test_the_newest_entry_is_one_of_the_main_file(
        self, mirror: Mirror, store: FaultyStore
    ) -> None:
        """Whatever a sub-agent writes after it, and although some entries have no id."""
        await write(mirror, store, part("e1"))
        unnamed = part("e2")
        unnamed.last_entry = ""
        await write(mirror, store, unnamed, part("s1", file="agents/a"))

        assert "e1" == mirror.newest("c1")
        assert "" == mirror.newest("c2")
        assert "" == mirror.newest("")

    async def test_a_large_piece_is_two(self, mirror: Mirror, store: FaultyStore) -> None:
        """But a single part is never cut."""
        half = "x" * (PIECE_BYTES // 2 - 50)

        assert 2 == await write(mirror, store, part(half), part(half), part("e" * 1000))
        assert 2 == await write(mirror, store, part("y" * 2 * PIECE_BYTES), part("e5"))
        assert 5 == len((await entries(mirror))[""])

    async def test_the_largest_part_fits_a_commit(self, mirror: Mirror) -> None:
        """Whatever is in it, as Firestore takes it."""
        worst = part('"' * (512 * 1024))
        documents = mirror.write([worst])
        [(path, fields)] = documents.items()

        batch = Batch(
            root="projects/p/databases/d/documents", writes=[Create(path, fields)], parts={}
        )

        assert batch.size < COMMIT_BYTES / 2

    async def test_nothing_is_no_document(self, mirror: Mirror) -> None:
        """Most commits have no part of a transcript."""
        assert {} == mirror.write([])


class TestAnotherConversation:
    async def test_it_has_pieces_of_its_own(self, mirror: Mirror, store: FaultyStore) -> None:
        """Also within one commit."""
        await write(mirror, store, part("e1"))
        count = await write(mirror, store, part("e2"), part("n1", conversation="c2"))

        assert 2 == count
        assert {"": ["e1", "e2"]} == await entries(mirror)
        assert {"": ["n1"]} == await entries(mirror, "c2")
        assert ("c2", "n1", 3) == (mirror.conversation, mirror.last_entry, mirror.first)

    async def test_a_lost_one_is_not_gone_on_with(self, mirror: Mirror, store: FaultyStore) -> None:
        """Also by whoever loads it later; what was stored is of no use from then on."""
        await write(mirror, store, part("e1"))
        await write(mirror, store, lost_part())
        again = Mirror(store=store, agent=NAME, log="log")
        await again.load()

        for one in (mirror, again):
            assert ("", "", 2) == (one.conversation, one.last_entry, one.first)
            assert "" == one.newest("c1")

    async def test_what_is_of_no_use_is_cleared_away(
        self, mirror: Mirror, store: FaultyStore
    ) -> None:
        """Not more than a little at a time; the next turn goes on with it."""
        for number in range(205):
            await write(mirror, store, part(f"e{number}"))
        await mirror.clear()
        assert 205 == len(await pieces(mirror))
        await write(mirror, store, part("n1", conversation="c2"))

        await mirror.clear()
        assert 5 == len(await pieces(mirror))
        await mirror.clear()

        assert [] == await pieces(mirror)
        assert {"": ["n1"]} == await entries(mirror, "c2")

    async def test_what_is_clear_is_not_looked_at_again(
        self, mirror: Mirror, store: FaultyStore
    ) -> None:
        """A look is paid for."""
        await write(mirror, store, part("e1"), part("n1", conversation="c2"))
        await mirror.clear()
        store.unreadable.append(AssertionError())  # type: ignore[arg-type]

        await mirror.clear()

        assert 1 == len(store.unreadable)

    async def test_two_who_clear_at_once_do_no_harm(
        self, mirror: Mirror, store: FaultyStore
    ) -> None:
        """One of them finds that the other was faster."""
        await write(mirror, store, part("e1"), part("n1", conversation="c2"))
        other = Mirror(store=store, agent=NAME, log="log")
        await other.load()
        store.held.clear()
        both = asyncio.gather(mirror.clear(), other.clear())
        await until(lambda: len(store.commits) == 2)
        store.held.set()
        await both

        assert {"": ["n1"]} == await entries(mirror, "c2")
        assert [] == await pieces(mirror)


class TestLoad:
    async def test_the_next_owner_goes_on(self, mirror: Mirror, store: FaultyStore) -> None:
        """With what the newest piece tells."""
        await write(mirror, store, part("e0", conversation="c0"))
        await write(mirror, store, part("e1"))
        await write(mirror, store, part("s1", file="agents/a"))

        again = Mirror(store=store, agent=NAME, log="log")
        await again.load()
        await write(again, store, part("e2"))

        assert ("c1", "e2", 2) == (again.conversation, again.last_entry, again.first)
        assert {"": ["e1", "e2"], "agents/a": ["s1"]} == await entries(again)

    async def test_another_history_of_the_same_name_is_none_of_it(
        self, mirror: Mirror, store: FaultyStore
    ) -> None:
        """Pieces written late, for an agent that is gone, are never found."""
        await write(mirror, store, part("e1"))
        later = Mirror(store=store, agent=NAME, log="later")

        await later.load()

        assert "" == later.conversation
        assert {} == await entries(later)

    async def test_a_long_transcript_is_read_in_pages(
        self, mirror: Mirror, store: FaultyStore
    ) -> None:
        """From its first piece on, however many there are."""
        await write(mirror, store, part("e0", conversation="c0"))
        for number in range(20):
            await write(mirror, store, part(f"e{number}"))

        found = await pieces(mirror, first=mirror.first)

        assert list(range(2, 22)) == [piece.number for piece in found]


class TestInTheLog:
    async def test_a_part_is_stored_with_its_cursor(
        self, writer: Writer, store: FaultyStore, mirror: Mirror
    ) -> None:
        """In one commit, whatever else is in it; a part is no event."""
        writer.mirror = mirror
        log = await writer.open()

        await log.append("t1", [], part=part("e1"), cursors={"x": 1})
        await log.append("t1", [], part=part("e2"), cursors={"x": 2}, urgent=False)

        assert [2, 2] == [len(writes) for writes in store.commits]
        assert {"x": 2} == writer.cursors
        assert [] == writer.published
        assert {"": ["e1", "e2"]} == await entries(mirror)

    async def test_a_fenced_writer_stores_nothing(
        self, writer: Writer, store: FaultyStore, mirror: Mirror
    ) -> None:
        """Who is the owner no more adds nothing to a transcript either."""
        writer.mirror = mirror
        zombie = await writer.open()
        owner = await Writer(store, writer.tasks, mirror=mirror).open()
        await owner.append("t1", [], part=part("e1"))

        late = zombie.append("t1", [], part=part("e2"))
        await asyncio.wait([late])

        assert late.exception() is not None
        assert {"": ["e1"]} == await entries(mirror)

    async def test_a_part_whose_answer_is_lost_is_stored_once(
        self, writer: Writer, store: FaultyStore, mirror: Mirror
    ) -> None:
        """The same commit again finds itself."""
        writer.mirror = mirror
        log = await writer.open()
        store.after.append(store_unavailable())

        await log.append("t1", [], part=part("e1"))
        await log.append("t1", [], part=part("e2"))

        assert {"": ["e1", "e2"]} == await entries(mirror)
