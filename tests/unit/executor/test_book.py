"""Tests of `services.executor.book`."""

from __future__ import annotations

import asyncio
import random

import pytest

from moorline.executor.v1 import executions_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.executor.book import BYTES_LIMIT, ITEMS_LIMIT, Block, Book, Cursor
from tests.unit.executor import fakes
from tests.unit.executor.fakes import follow

PLENTY = 1 << 30


def message(block_id: str = "b1", text: str = "hi") -> transcript_pb2.Item:
    """Return a complete message."""
    said = transcript_pb2.AgentMessage(block_id=block_id, text=text)
    return transcript_pb2.Item(agent_message=said)


def thought(block_id: str) -> transcript_pb2.Item:
    """Return a complete thought."""
    return transcript_pb2.Item(agent_thought=transcript_pb2.AgentThought(block_id=block_id))


def end() -> transcript_pb2.Item:
    """Return an outcome."""
    return transcript_pb2.Item(turn_outcome=transcript_pb2.TurnOutcome())


def write(book: Book, block_id: str, text: str) -> None:
    """Append to a piece, which is begun when it is new."""
    block = book.blocks.get(block_id) or book.open(block_id, thought=False)
    block.write(text, len(text.encode()))


def shown(updates: list[executions_pb2.ExecutionUpdate]) -> list[str]:
    """Return updates in short."""
    short = []
    for update in updates:
        match update.WhichOneof("update"):
            case "event":
                transcript = "t" if update.event.HasField("transcript") else ""
                short.append(f"{transcript}#{update.event.sequence}")
            case "delta":
                sign = "=" if update.delta.snapshot else "+"
                short.append(f"{update.delta.block_id}{sign}{update.delta.text}")
            case "progress":
                told = update.progress
                short.append(f"?{told.queue_position}/{told.usage.output_tokens}")
            case _:
                short.append(f"-{update.message_discarded.block_id}")
    return short


def take(cursor: Cursor, budget: int = PLENTY) -> tuple[list[str], bool]:
    """Take updates in short."""
    updates, more = fakes.take(cursor, budget)
    return shown(updates), more


def test_items_are_numbered_from_one() -> None:
    """Numbers have no hole and carry the time and the conversation."""
    book = Book()

    book.append(message("b1"))
    book.append(end(), conversation="c")
    (first, second), _ = fakes.take(follow(book))

    assert [1, 2] == [first.event.sequence, second.event.sequence]
    assert first.event.create_time.seconds > 0
    assert "c" == second.event.conversation


def test_late_reader_gets_items_then_open_text_as_snapshot() -> None:
    """Who comes late gets everything, the text still being written in one piece."""
    book = Book()
    book.append(message("b1"))
    write(book, "b2", "one ")
    write(book, "b2", "two")

    assert (["#1", "b2=one two"], False) == take(follow(book))


def test_reader_gets_only_what_is_new() -> None:
    """After the snapshot come fragments, merged when several waited."""
    book = Book()
    cursor = follow(book)
    write(book, "b", "a")
    first = take(cursor)
    write(book, "b", "b")
    write(book, "b", "c")

    assert (["b=a"], False) == first
    assert (["b+bc"], False) == take(cursor)
    assert ([], False) == take(cursor)


def test_item_takes_the_place_of_its_piece() -> None:
    """A recorded piece is not open any more, and is not discarded."""
    book = Book()
    cursor = follow(book)
    write(book, "b1", "x")
    take(cursor)
    book.append(message("b1"))

    assert {} == book.blocks
    assert (["#1"], False) == take(cursor)


def test_thought_closes_its_piece() -> None:
    """Thoughts are pieces as well, and say so."""
    book = Book()
    book.open("t", thought=True).write("hm", 2)
    (delta,), _ = fakes.take(follow(book))
    book.append(thought("t"))

    assert delta.delta.thought
    assert {} == book.blocks


def test_discarded_piece_is_told_to_those_who_saw_it() -> None:
    """Who never saw a piece is not bothered with its end."""
    book = Book()
    saw, blind = follow(book), follow(book)
    write(book, "b", "x")
    take(saw)
    book.discard("b")
    book.discard("b")

    assert (["-b"], False) == take(saw)
    assert ([], False) == take(blind)


def test_part_of_the_transcript_is_numbered_and_acknowledged_like_an_item() -> None:
    """What the agent's transcript has grown by stands among the items, in order."""
    book = Book()
    part = executions_pb2.TranscriptPart(conversation="c", entries=["{}"], last_entry="e")

    book.append(message())
    book.append_transcript(part)
    book.append(end())
    (_, update, _), _ = fakes.take(follow(book))

    assert part == update.event.transcript
    assert ["#1", "t#2", "#3"] == take(follow(book))[0]
    book.acknowledge(2)
    assert ["#3"] == take(follow(book, after=2))[0]


def test_newest_progress_is_the_first_news() -> None:
    """Steps in between are passed over, and what was told before stays."""
    book = Book()
    cursor = follow(book)

    book.progress(queue_position=2)
    book.progress(queue_position=1)
    book.progress(usage=transcript_pb2.Usage(output_tokens=7))
    book.append(message())

    assert ["?1/7", "#1"] == take(cursor)[0]
    assert [] == take(cursor)[0]
    book.progress(queue_position=0)
    assert ["?0/7"] == take(cursor)[0]
    assert ["?0/7", "#1"] == take(follow(book))[0]


def test_progress_is_not_told_after_the_outcome() -> None:
    """Who comes to an ended execution reads what it became."""
    book = Book()
    book.progress(queue_position=0)
    book.append(end())

    assert ["#1"] == take(follow(book))[0]


def test_position_lets_a_reader_go_on_without_gap() -> None:
    """Following from a number gives exactly the items after it."""
    book = Book()
    for number in range(5):
        book.append(message(f"b{number}"))

    assert (["#4", "#5"], False) == take(book.follow(after=3, mark=lambda: None))


@pytest.mark.parametrize("after", [1, 4])
def test_position_outside_the_book_is_refused(after: int) -> None:
    """Neither what is forgotten nor what is to come can be followed."""
    book = Book()
    for number in range(3):
        book.append(message(f"b{number}"))
    book.acknowledge(2)

    with pytest.raises(Failure) as caught:
        book.follow(after=after, mark=lambda: None)

    assert "SEQUENCE_UNKNOWN" == caught.value.reason_name
    assert "3" == caught.value.metadata["headSequence"]


def test_budget_splits_items() -> None:
    """A take stays near its budget, makes progress, and says that more waits."""
    book = Book()
    for number in range(3):
        book.append(message(f"b{number}"))
    write(book, "open", "x")
    cursor = follow(book)

    assert (["#1"], True) == take(cursor, 1)
    assert (["#2"], True) == take(cursor, 1)
    assert (["#3"], True) == take(cursor, 1)
    assert (["open=x"], False) == take(cursor, 1)


def test_cursor_is_done_after_the_outcome() -> None:
    """Nothing follows an outcome."""
    book = Book()
    cursor = follow(book)
    take(cursor)
    before = cursor.done
    book.append(end())
    take(cursor)

    assert (False, True) == (before, cursor.done)


def test_publish_marks_readers_until_they_close() -> None:
    """A closed cursor hears nothing, however often it is closed."""
    book = Book()
    marks: list[str] = []
    cursor = book.follow(after=0, mark=lambda: marks.append("x"))
    book.publish()
    cursor.close()
    cursor.close()
    book.publish()

    assert ["x"] == marks


def test_acknowledged_items_are_forgotten() -> None:
    """Repeated, old and future numbers are no error."""
    book = Book()
    book.append(message("b1"))
    book.append(end())

    book.acknowledge(0)
    book.acknowledge(1)
    book.acknowledge(1)
    before = book.acknowledged
    book.acknowledge(99)

    assert (False, True) == (before, book.acknowledged)
    assert 2 == book.last


def test_reader_behind_an_acknowledgement_goes_on_after_it() -> None:
    """Its pieces that were closed meanwhile are taken back, so that none stays open."""
    book = Book()
    cursor = follow(book)
    write(book, "b1", "x")
    take(cursor)
    book.append(message("b1"))
    book.append(message("b2"))
    book.acknowledge(1)

    assert (["#2", "-b1"], False) == take(cursor)


@pytest.mark.parametrize(
    ("count", "text"), [(ITEMS_LIMIT, ""), (5, "x" * (BYTES_LIMIT // 5))], ids=["items", "bytes"]
)
async def test_full_book_holds_its_writer_until_acknowledged(count: int, text: str) -> None:
    """Both bounds hold the writer back, and an acknowledgement lets several go on."""
    book = Book()
    for number in range(count):
        book.append(message(f"b{number}", text))
    full = book.full
    waiting = [asyncio.ensure_future(book.room()) for _ in range(2)]
    await asyncio.sleep(0)
    held = [waiter.done() for waiter in waiting]
    book.acknowledge(1)
    await asyncio.gather(*waiting)

    assert full
    assert [False, False] == held
    assert not book.full


async def test_lifted_bound_lets_the_writer_finish() -> None:
    """An execution that is being ended can record its end."""
    book = Book()
    for number in range(ITEMS_LIMIT):
        book.append(message(f"b{number}"))
    waiting = asyncio.ensure_future(book.room())
    await asyncio.sleep(0)
    book.lift_bound()
    await waiting
    book.append(message("more"))

    assert not book.full


def test_long_piece_keeps_its_text() -> None:
    """Joining fragments loses nothing, from any position."""
    block = Block("b", thought=False)
    for number in range(2000):
        block.write(f"{number},", len(f"{number},"))
    whole = "".join(f"{number}," for number in range(2000))

    assert whole == block.text
    assert len(whole) == block.length == block.size
    for position in (0, 1, 777, len(whole) - 1, len(whole)):
        assert whole[position:] == block.after(position)


class Reader:
    """Keeps what a client would show."""

    def __init__(self, book: Book) -> None:
        self.shown: dict[str, str] = {}
        self._cursor = follow(book)

    def read(self) -> None:
        """Take everything, in small bites."""
        more = True
        while more:
            updates, more = fakes.take(self._cursor, 64)
            for update in updates:
                self._show(update)

    def _show(self, update: executions_pb2.ExecutionUpdate) -> None:
        delta, said = update.delta, update.event.item.agent_message
        if update.HasField("delta"):
            before = "" if delta.snapshot else self.shown[delta.block_id]
            self.shown[delta.block_id] = before + delta.text
        elif update.HasField("message_discarded"):
            del self.shown[update.message_discarded.block_id]
        else:
            self.shown[said.block_id] = said.text


def test_any_reader_ends_with_the_same_text() -> None:
    """Readers that take at random moments agree with what was written."""
    chance = random.Random(7)
    book = Book()
    readers = [Reader(book) for _ in range(5)]
    expected: dict[str, str] = {}
    for step in range(200):
        block_id = f"b{step // 10}"
        text = chance.choice(["a", "한글 ", "x" * 50])
        write(book, block_id, text)
        expected[block_id] = expected.get(block_id, "") + text
        if step % 10 == 9 and chance.random() < 0.3:
            book.discard(block_id)
            del expected[block_id]
        elif step % 10 == 9:
            book.append(message(block_id, expected[block_id]))
        if chance.random() < 0.5:
            chance.choice(readers).read()
    for reader in readers:
        reader.read()

    assert [expected] * len(readers) == [reader.shown for reader in readers]
