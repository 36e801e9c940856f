"""What the load generator counts."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.load.frames import WATCH_PREFIX, FragmentCounter, watch_events

WORDS = [str(1_764_152_400_000_000 + number) for number in range(9)]


def frame(*updates: dict[str, Any]) -> bytes:
    """A frame of the watch as the gateway writes it."""
    return orjson.dumps({"id": 1, "watchEventsResponse": {"updates": updates}})


def delta(text: str, block: str = "b1", **members: Any) -> dict[str, Any]:
    """A delta, members in the order of the proto."""
    return {"delta": {"blockId": block, **members, "text": text}}


def message(text: str, block: str = "b1", sequence: int = 1) -> dict[str, Any]:
    """A stored agent message."""
    item = {"agentMessage": {"blockId": block, "text": text}}
    return {"event": {"sequence": sequence, "turnId": "t-1", "item": item}}


def outcome(sequence: int = 2) -> dict[str, Any]:
    """The end of a turn."""
    item = {"turnOutcome": {"state": "STATE_FINISHED"}}
    return {"event": {"sequence": sequence, "turnId": "t-1", "item": item}}


def taken(counter: FragmentCounter, *frames: bytes) -> list[str]:
    """The new words of several frames."""
    return [word.decode() for one in frames for word in counter.take(one)]


def test_a_frame_of_the_watch_begins_with_the_prefix() -> None:
    """The cheap test that tells the watch's frames from others fits what is sent."""
    assert frame().startswith(WATCH_PREFIX)
    assert b'"id":1,' in watch_events("users/ada", "a1")


def test_merged_fragments_count_as_the_words_they_hold() -> None:
    """One delta with three words is three fragments."""
    counter = FragmentCounter()

    assert WORDS[:3] == taken(counter, frame(delta(" ".join(WORDS[:3]))))
    assert counter.words == 3


def test_deltas_of_several_blocks_in_one_frame_count_apart() -> None:
    """Each delta of a frame counts for its own block."""
    counter = FragmentCounter()

    words = taken(
        counter,
        frame(delta(WORDS[0]), delta(WORDS[1], "b2", thought=True)),
        frame(message(WORDS[0]), message(f"{WORDS[1]} {WORDS[2]}", "b2", 2)),
    )

    assert WORDS[:3] == words
    assert counter.doubled == 0


def test_a_snapshot_brings_only_the_words_behind_those_already_counted() -> None:
    """A snapshot replaces the block's text, so its known beginning is not news."""
    counter = FragmentCounter()

    words = taken(
        counter,
        frame(delta(WORDS[0], snapshot=True)),
        frame(delta(f" {WORDS[1]}")),
        frame(delta(" ".join(WORDS[:4]), snapshot=True)),
        frame(delta(f" {WORDS[4]}")),
    )

    assert WORDS[:5] == words


def test_the_item_brings_words_that_no_delta_brought() -> None:
    """Words that were merged into the completed message are counted when it arrives."""
    counter = FragmentCounter()

    words = taken(counter, frame(delta(WORDS[0])), frame(message(" ".join(WORDS[:3])), outcome()))

    assert WORDS[:3] == words
    assert counter.outcomes == {"t-1": "STATE_FINISHED"}
    assert (counter.events, counter.head) == (2, 2)
    assert (counter.withdrawn, counter.doubled) == (0, 0)


def test_words_beyond_the_item_are_doubled() -> None:
    """A block whose deltas say more than its item was sent something twice."""
    counter = FragmentCounter()

    taken(counter, frame(delta(WORDS[0])), frame(delta(WORDS[0])), frame(message(WORDS[0])))

    assert counter.doubled == 1


@pytest.mark.parametrize(
    "end",
    [
        {"messageDiscarded": {"blockId": "b1"}},
        {"event": {"sequence": 1, "turnId": "t", "item": {"turnAttempt": {"attempt": 2}}}},
        outcome(1),
    ],
    ids=["discarded", "attempt", "outcome"],
)
def test_words_of_a_block_taken_back_are_withdrawn(end: dict[str, Any]) -> None:
    """What a discard, a new attempt or an outcome withdraws is subtracted."""
    counter = FragmentCounter()

    taken(counter, frame(delta(f"{WORDS[0]} {WORDS[1]}")), frame(end))

    assert (counter.words, counter.withdrawn) == (2, 2)


def test_a_block_id_may_come_back_in_the_next_turn() -> None:
    """Block ids are unique within a turn only."""
    counter = FragmentCounter()

    words = taken(
        counter,
        frame(delta(WORDS[0])),
        frame(message(WORDS[0]), outcome()),
        frame(delta(WORDS[1])),
        frame(message(f"{WORDS[1]} {WORDS[2]}", sequence=3)),
    )

    assert WORDS[:3] == words


def test_escaped_text_is_counted_too() -> None:
    """A line break is escaped in JSON, and separates words all the same."""
    counter = FragmentCounter()

    assert WORDS[:2] == taken(counter, frame(delta(f"{WORDS[0]}\n{WORDS[1]}")))


def test_members_in_another_order_are_counted_too() -> None:
    """What the fast path does not recognise is parsed."""
    counter = FragmentCounter()
    strange = {"delta": {"text": WORDS[0], "blockId": "b1"}}

    assert WORDS[:1] == taken(counter, frame(strange))


def test_a_prompt_brings_no_words_and_a_checkpoint_is_counted() -> None:
    """Text of other items is not a fragment."""
    counter = FragmentCounter()
    prompt = {"userMessage": {"text": f"/sim say {WORDS[0]}"}}

    words = taken(
        counter,
        frame({"event": {"sequence": 1, "turnId": "t", "item": prompt}}),
        frame({"checkpoint": {"sequence": 1}}),
    )

    assert (words, counter.checkpoints) == ([], 1)
