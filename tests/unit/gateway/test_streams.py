"""Tests of `services.gateway.streams`."""

from __future__ import annotations

from typing import Any

import orjson

from moorline.session.v1 import feed_pb2
from services.gateway.encoding import JSON
from services.gateway.streams import EventReader, EventStream, Reader
from tests.unit.gateway.fakes import (
    AGENT,
    checkpoint,
    delta,
    discarded,
    event,
)

ALL = 1 << 30


def events(*updates: feed_pb2.EncodedUpdate, after: int = 0) -> EventStream:
    """A stream that has taken in updates."""
    stream = EventStream(parent=AGENT, after=after, encoding=JSON)
    assert stream.apply(updates)
    return stream


def reader(stream: EventStream, after: int = 0, *, deltas: bool = True) -> EventReader:
    """A client that has seen `after`."""
    return EventReader(stream, after=after, deltas=deltas)


def taken(source: Reader, budget: int = ALL) -> list[Any]:
    """What a reader gets, parsed; all of it within the budget."""
    return [orjson.loads(update) for update in source.take(budget)[0]]


def sequences(updates: list[Any]) -> list[int]:
    """The numbers of the events among updates."""
    return [update["event"]["sequence"] for update in updates if "event" in update]


class TestEvents:
    """Stored events."""

    def test_a_reader_gets_what_it_has_not_seen_and_a_checkpoint(self) -> None:
        """From the middle on, without a repeat, then the end of the replay."""
        stream = events(event(1), event(2), event(3), checkpoint(3))
        source = reader(stream, 1)

        assert [
            {"event": {"sequence": 2}},
            {"event": {"sequence": 3}},
            {"checkpoint": {"sequence": 3}},
        ] == taken(source)
        assert [] == taken(source)

    def test_the_checkpoint_waits_for_the_replay(self) -> None:
        """A reader that is early gets no checkpoint before the stream has one."""
        stream = events(event(1))
        source = reader(stream)
        assert [1] == sequences(taken(source))
        stream.apply([event(2), checkpoint(2)])

        assert [{"event": {"sequence": 2}}, {"checkpoint": {"sequence": 2}}] == taken(source)

    def test_a_budget_ends_a_take(self) -> None:
        """At least one update comes, and the rest later."""
        stream = events(event(1), event(2), checkpoint(2))
        source = reader(stream)

        updates, more = source.take(1)
        assert (1, True) == (len(updates), more)
        updates, more = source.take(ALL)
        assert (2, False) == (len(updates), more)

    def test_events_that_are_known_are_ignored(self) -> None:
        """A replay that overlaps repeats nothing."""
        stream = events(event(1), event(2))
        stream.apply([event(1), event(2), event(3)])

        assert [1, 2, 3] == sequences(taken(reader(stream)))

    def test_a_hole_is_noticed(self) -> None:
        """A missing event makes the stream refuse what follows it."""
        stream = events(event(1))

        assert not stream.apply([event(3)])
        assert 1 == stream.head

    def test_it_covers_what_it_holds(self) -> None:
        """From the position it began at to its head, as long as it goes on."""
        stream = events(event(6), event(7), after=5)

        assert [False, True, True, False] == [stream.covers(after) for after in (4, 5, 7, 8)]

    def test_dropping_makes_slow_readers_fall(self) -> None:
        """Who has not read what was dropped cannot go on here."""
        stream = events(event(1), event(2), event(3))
        slow, fast = reader(stream), reader(stream)
        fast.take(ALL)
        size = stream.size
        stream.drop(1)

        assert (True, False) == (slow.fallen, fast.fallen)
        assert size * 2 == stream.size * 3
        assert not stream.covers(0)
        stream.drop(0)
        assert 1 == stream.base

    def test_it_knows_what_fits(self) -> None:
        """The base for a size keeps the newest events that fit into it."""
        stream = events(event(1), event(2), event(3))
        one = stream.size // 3

        assert [0, 1, 2, 3] == [stream.base_within(one * n) for n in (3, 2, 1, 0)]

    def test_the_newest_events_are_given_back_first(self) -> None:
        """A new subscription brings them again; what one reader has seen goes last."""
        stream = events(*(event(number) for number in range(1, 7)), checkpoint(6))
        one = len(stream.events[0].encoded)
        stream.give_back(2, 4 * one)
        assert (0, 4, False) == (stream.base, stream.head, stream.live)
        stream.give_back(2, one)
        assert (1, 2, one) == (stream.base, stream.head, stream.held)
        stream.apply([event(3)])

        assert [3] == sequences(taken(reader(stream, 2)))

    def test_pieces_are_not_seen_before_events_that_were_given_back(self) -> None:
        """They come again, too; who saw them is not told that they are gone."""
        stream = events(event(1), checkpoint(1), delta("a"))
        source = reader(stream)
        source.take(ALL)
        stream.apply([event(2, size=100)])
        stream.give_back(1, 100)
        assert [] == taken(source)
        stream.apply([event(2), delta("ab", snapshot=True), checkpoint(2)])

        assert [
            {"event": {"sequence": 2}},
            {"delta": {"blockId": "b1", "snapshot": True, "text": "ab"}},
        ] == taken(source)

    def test_a_new_subscription_begins_at_the_head(self) -> None:
        """What was taken in is not asked for again."""
        request = feed_pb2.SubscribeRequest()
        events(event(6), after=5).fill(request)

        assert (AGENT, 6, True, feed_pb2.ENCODING_JSON) == (
            request.watch_events.parent,
            request.watch_events.after_sequence,
            request.watch_events.include_deltas,
            request.encoding,
        )


class TestBlocks:
    """Pieces still being written."""

    def test_the_first_fragment_is_a_snapshot_and_later_ones_are_appended(self) -> None:
        """A reader's rule is two lines: replace on snapshot, else append."""
        stream = events(checkpoint(0))
        source = reader(stream)
        source.take(ALL)
        stream.apply([delta("a")])
        assert [{"delta": {"blockId": "b1", "snapshot": True, "text": "a"}}] == taken(source)
        stream.apply([delta("b"), delta("c")])

        assert [{"delta": {"blockId": "b1", "text": "bc"}}] == taken(source)
        assert [] == taken(source)

    def test_a_late_reader_gets_all_text_at_once(self) -> None:
        """Text written before it came is in its snapshot, before the checkpoint."""
        stream = events(event(1), checkpoint(1), delta("a"), delta("b"))

        assert [
            {"event": {"sequence": 1}},
            {"delta": {"blockId": "b1", "snapshot": True, "text": "ab"}},
            {"checkpoint": {"sequence": 1}},
        ] == taken(reader(stream))

    def test_who_wants_no_deltas_gets_none(self) -> None:
        """Neither fragments nor pieces taken back."""
        stream = events(checkpoint(0), delta("a"))
        source = reader(stream, deltas=False)
        taken(source)
        stream.apply([discarded()])

        assert [] == taken(source)

    def test_the_item_ends_its_piece(self) -> None:
        """After the event only a new piece of the same name can be extended."""
        stream = events(checkpoint(0), delta("a"))
        source = reader(stream)
        source.take(ALL)
        stream.apply([event(1, block_id="b1"), delta("z")])

        assert [
            {"event": {"sequence": 1}},
            {"delta": {"blockId": "b1", "snapshot": True, "text": "z"}},
        ] == taken(source)

    def test_an_event_can_end_all_pieces(self) -> None:
        """A client ends them by the same rule, so that nothing else is sent."""
        stream = events(checkpoint(0), delta("a"), delta("b", block_id="b2"))
        source = reader(stream)
        source.take(ALL)
        stream.apply([event(1, closes=True)])

        assert [{"event": {"sequence": 1}}] == taken(source)

    def test_a_piece_taken_back_is_told_to_who_saw_it(self) -> None:
        """Others have nothing to remove."""
        stream = events(checkpoint(0), delta("a"))
        saw, new = reader(stream), reader(stream)
        saw.take(ALL)
        stream.apply([discarded()])

        assert [{"messageDiscarded": {"blockId": "b1"}}] == taken(saw)
        assert [{"checkpoint": {}}] == taken(new)

    def test_a_new_subscription_goes_on_where_readers_are(self) -> None:
        """When the repeated text begins as the known one does, only the rest is sent."""
        stream = events(checkpoint(0), delta("ab"))
        source = reader(stream)
        source.take(ALL)
        stream.reset()
        stream.apply([delta("abcd", snapshot=True), checkpoint(0), delta("e")])

        assert [{"delta": {"blockId": "b1", "text": "cde"}}] == taken(source)

    def test_a_new_subscription_may_bring_other_text(self) -> None:
        """Then it replaces what is shown."""
        stream = events(checkpoint(0), delta("ab"))
        source = reader(stream)
        source.take(ALL)
        stream.reset()
        stream.apply([delta("xy", snapshot=True), checkpoint(0)])

        assert [{"delta": {"blockId": "b1", "snapshot": True, "text": "xy"}}] == taken(source)

    def test_what_a_new_subscription_does_not_repeat_was_taken_back(self) -> None:
        """But not before its checkpoint, until which it may still come."""
        stream = events(checkpoint(0), delta("ab"))
        source = reader(stream)
        source.take(ALL)
        stream.reset()
        assert [] == taken(source)
        stream.apply([checkpoint(0)])

        assert [{"messageDiscarded": {"blockId": "b1"}}] == taken(source)

    def test_a_reader_that_moves_is_sent_each_piece_whole(self) -> None:
        """And is told of the pieces that are gone, once the new stream is complete."""
        old = events(checkpoint(0), delta("a"), delta("b", block_id="b2"))
        source = reader(old)
        source.take(ALL)
        stream = events(event(1))
        source.move(stream)
        assert [1] == sequences(taken(source))
        stream.apply([delta("ax", snapshot=True), checkpoint(1)])

        assert [
            {"delta": {"blockId": "b1", "snapshot": True, "text": "ax"}},
            {"messageDiscarded": {"blockId": "b2"}},
        ] == taken(source)
