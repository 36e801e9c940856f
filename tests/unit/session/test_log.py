"""Tests of `services.session.log`: appends that last, happen once, and fence."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.session import log as log_module
from services.session.appends import SEGMENT_BYTES
from services.session.history import History
from services.session.store import Create, Delete
from tests.unit.session.fakes import FaultyStore, store_unavailable
from tests.unit.session.log_writing import Writer, message
from tests.unit.session.service import until


class TestAppend:
    async def test_events_are_numbered_and_published_after_the_commit(
        self, writer: Writer, store: FaultyStore, history: History
    ) -> None:
        """Nobody sees an event that a crash could take back."""
        log = await writer.open()
        store.held.clear()
        append = log.append("t1", [message("one"), message("two")])
        await until(lambda: len(store.commits) == 1)
        assert [] == writer.published
        assert (0, 3) == (log.head, log.next)

        store.held.set()
        await append

        assert [1, 2] == [event.sequence for event in writer.published]
        assert [1, 2] == [event.sequence for event in await history.events(0)]
        assert 2 == log.head

    async def test_what_arrives_during_a_commit_is_the_next_segment(
        self, writer: Writer, store: FaultyStore
    ) -> None:
        """However many appends wait, one commit takes them."""
        log = await writer.open()
        store.held.clear()
        first = log.append("t1", [message("0")])
        await until(lambda: len(store.commits) == 1)
        rest = [log.append("t1", [message(str(n))]) for n in range(1, 50)]
        store.held.set()
        await asyncio.gather(first, *rest)

        assert 2 == len(store.commits)
        assert list(range(1, 51)) == [event.sequence for event in writer.published]

    async def test_segments_stay_below_their_size(self, writer: Writer, store: FaultyStore) -> None:
        """A document has at most 256 KiB, unless one event alone is larger."""
        log = await writer.open()
        store.held.clear()
        appends = [log.append("t1", [message("x" * 60_000)]) for _ in range(10)]
        appends.append(log.append("t1", [message("y" * 300_000)]))
        store.held.set()
        await asyncio.gather(*appends)

        sizes = [len(repr(dict(writes[0].fields))) for writes in store.commits]  # type: ignore[union-attr]
        assert all(size < SEGMENT_BYTES for size in sizes[:-1])
        assert 4 == len(sizes)

    async def test_what_is_not_urgent_waits_for_company(
        self, writer: Writer, store: FaultyStore
    ) -> None:
        """A commit costs the same, however much is in it; the urgent takes all along."""
        writer.gather = timedelta(seconds=9)
        log = await writer.open()

        waiting = [log.append("t1", [message(str(n))], urgent=False) for n in range(3)]
        await asyncio.sleep(0.02)
        assert [] == store.commits

        await log.append("t1", [message("now")])

        assert 1 == len(store.commits)
        assert all(append.done() for append in waiting)

    async def test_text_that_is_shown_waits_for_what_comes_sooner(
        self, writer: Writer, store: FaultyStore
    ) -> None:
        """A tool call takes the text before it along, which nobody had to wait for."""
        writer.gather, writer.linger = timedelta(seconds=0.01), timedelta(seconds=9)
        log = await writer.open()

        log.append("t1", [message("shown")], urgent=False, shown=True)
        await asyncio.sleep(0.05)
        assert [] == store.commits

        await log.append("t1", [message("called")], urgent=False)

        assert 1 == len(store.commits)

    async def test_much_text_waits_no_longer(self, writer: Writer, store: FaultyStore) -> None:
        """Else whoever writes much would have to stop until it is durable."""
        writer.linger = timedelta(seconds=9)
        log = await writer.open()
        text = "x" * (log_module.LINGER_BYTES // 4)

        appends = [log.append("t1", [message(text)], urgent=False, shown=True) for _ in range(4)]
        await asyncio.gather(*appends)

        assert 1 == len(store.commits)

    async def test_who_waits_for_the_log_hurries_it(
        self, writer: Writer, store: FaultyStore
    ) -> None:
        """A pod that leaves has no time to wait for company, nor has a reader."""
        writer.linger = timedelta(seconds=9)
        log = await writer.open()

        log.append("t1", [message("1")], urgent=False, shown=True)
        await log.settled()
        log.append("t1", [message("2")], urgent=False, shown=True)
        await log.caught_up()

        assert 2 == len(store.commits)

    async def test_documents_ride_in_the_same_commit(
        self, writer: Writer, store: FaultyStore
    ) -> None:
        """They are created, then updated at the version known, then deleted."""
        log = await writer.open()
        await log.append("t1", [message("1")], documents={"things/a": {"n": 1}})
        await log.append("t1", [], documents={"things/a": {"n": 2}})
        document = await store.get("things/a")
        assert document is not None
        assert {"n": 2} == document.fields

        await log.append("t1", [], documents={"things/a": None})

        assert await store.get("things/a") is None
        assert [2, 2, 2] == [len(writes) for writes in store.commits]

    async def test_the_last_of_two_writes_in_one_commit_counts(
        self, writer: Writer, store: FaultyStore
    ) -> None:
        """A commit has at most one write for each document."""
        log = await writer.open()
        appends = [
            log.append("t1", [], documents={"things/a": {"n": 1}, "things/b": {}}),
            log.append("t1", [], documents={"things/a": {"n": 2}, "things/b": None}),
        ]
        await asyncio.gather(*appends)

        document = await store.get("things/a")
        assert document is not None
        assert {"n": 2} == document.fields
        assert await store.get("things/b") is None

    async def test_a_forgotten_document_is_created_anew(
        self, writer: Writer, store: FaultyStore
    ) -> None:
        """What is not written again costs no memory."""
        log = await writer.open()
        await log.append("t1", [], documents={"things/a": {}})
        await store.inner.commit([Delete("things/a")])
        log.forget("things/a")

        await log.append("t1", [], documents={"things/a": {"n": 1}})

        assert await store.get("things/a") is not None

    async def test_cursors_are_stored_and_told(self, writer: Writer, history: History) -> None:
        """The newest number of each execution goes with the events."""
        log = await writer.open()
        appends = [
            log.append("t1", [message("1")], cursors={"e1": 1}),
            log.append("t1", [message("2")], cursors={"e1": 2}),
        ]
        await asyncio.gather(*appends)

        tail = await history.tail()
        assert tail is not None
        assert {"e1": 2} == tail.cursors == writer.cursors

    async def test_times_never_go_back_nor_ahead(self, writer: Writer, history: History) -> None:
        """Another clock may be wrong by an hour either way; users do not see it."""
        log = await writer.open()
        for year in (1990, 2020, 2100):
            moment = datetime(year, 1, 1, tzinfo=UTC)
            await log.append("t1", [message("x")], time=moment)
        await log.append("t1", [message("x")])
        log = await writer.open()
        await log.append("t1", [message("x")], time=datetime(1990, 1, 1, tzinfo=UTC))
        events = [event.message.create_time.ToDatetime() for event in await history.events(0)]

        assert sorted(events) == events
        assert events[-1].year < 2100

    async def test_a_cancelled_wait_takes_nothing_back(
        self, writer: Writer, store: FaultyStore
    ) -> None:
        """Whoever asked may go away; the event is written all the same."""
        log = await writer.open()
        store.held.clear()
        append = log.append("t1", [message("1")])
        append.cancel()
        store.held.set()

        await log.settled()

        assert 1 == log.head


class TestTrouble:
    async def test_a_failed_commit_is_repeated(
        self, writer: Writer, store: FaultyStore, history: History
    ) -> None:
        """Until the store is back, with the same segment."""
        log = await writer.open()
        store.before = [store_unavailable(), store_unavailable()]

        await log.append("t1", [message("1")])

        assert [1] == [event.sequence for event in await history.events(0)]
        assert store.commits[0] == store.commits[1] == store.commits[2]

    async def test_a_lost_answer_is_recognised(
        self, writer: Writer, store: FaultyStore, history: History
    ) -> None:
        """The segment found is ours by its nonce: it happened, once, and work goes on."""
        log = await writer.open()
        store.after = [store_unavailable()]
        store.unreadable = []

        await log.append("t1", [message("1")], documents={"things/a": {"n": 1}, "things/b": None})
        await log.append("t1", [message("2")], documents={"things/a": {"n": 2}})

        assert [1, 2] == [event.sequence for event in await history.events(0)]
        assert [1, 2] == [event.sequence for event in writer.published]
        document = await store.get("things/a")
        assert document is not None
        assert {"n": 2} == document.fields
        assert 0 == writer.fences

    async def test_the_look_at_the_segment_is_repeated_too(
        self, writer: Writer, store: FaultyStore
    ) -> None:
        """A store that is away again while we look is waited for."""
        log = await writer.open()
        store.after = [store_unavailable()]
        store.unreadable = [store_unavailable()]

        await log.append("t1", [message("1")])

        assert 1 == log.head

    async def test_another_writer_fences(
        self, writer: Writer, store: FaultyStore, history: History
    ) -> None:
        """A segment that is not ours ends this log: nothing more is written."""
        old = await writer.open()
        new = await writer.open()
        await new.append("t1", [message("new")])

        appends = [old.append("t1", [message("old")]) for _ in range(3)]
        results = await asyncio.gather(*appends, return_exceptions=True)

        reasons = {result.reason for result in results if isinstance(result, Failure)}
        assert {errors_pb2.ERROR_REASON_FENCED} == reasons
        assert 1 == writer.fences
        assert old.fenced
        assert 1 == len(await history.events(0))
        with pytest.raises(Failure):
            await old.append("t1", [message("late")])

    async def test_an_empty_segment_fences_too(self, writer: Writer, history: History) -> None:
        """Even an append without an event takes the position."""
        old = await writer.open()
        new = await writer.open()
        await new.append("t1", [])

        with pytest.raises(Failure):
            await old.append("t1", [message("old")])

        await new.append("t1", [message("new")])
        assert ["new"] == [event.item.agent_message.text for event in await history.events(0)]

    async def test_a_document_of_another_writer_fences(
        self, writer: Writer, store: FaultyStore
    ) -> None:
        """A document that changed behind our back means the same."""
        log = await writer.open()
        await store.inner.commit([Create("things/a", {})])

        with pytest.raises(Failure):
            await log.append("t1", [], documents={"things/a": {"n": 1}})

        assert 1 == writer.fences

    @pytest.mark.parametrize("answer_lost", [False, True])
    async def test_fencing_ends_the_wait_for_a_store(
        self, writer: Writer, store: FaultyStore, answer_lost: bool
    ) -> None:
        """A log that is given up does not go on trying."""
        log = await writer.open()
        if answer_lost:
            store.after = [store_unavailable()]
            store.unreadable = [store_unavailable() for _ in range(100)]
        else:
            store.before = [store_unavailable() for _ in range(100)]
        append = log.append("t1", [message("1")])
        await until(lambda: len(store.commits) == (2 if answer_lost else 1))

        log.fence()
        log.fence()

        with pytest.raises(Failure):
            await append
        await log.settled()

    async def test_a_waiting_caller_is_told_to_try_again(
        self, writer: Writer, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A store that hangs is answered with a typed error; the append may still happen."""
        monkeypatch.setattr(log_module, "_DURABLE_SECONDS", 0.02)
        log = await writer.open()
        store.held.clear()
        append = log.append("t1", [message("1")])

        with pytest.raises(Failure) as raised:
            await log.durable(append)

        assert errors_pb2.ERROR_REASON_STORE_UNAVAILABLE == raised.value.reason
        store.held.set()
        await append
        assert 1 == log.head

    async def test_the_next_process_goes_on_where_this_one_stopped(
        self, writer: Writer, history: History
    ) -> None:
        """Numbers and positions come from the newest segment, with events or without."""
        for _ in range(3):
            log = await writer.open()
            await log.append("t1", [message("x")])
            await log.append("t1", [])
            log = await writer.open()
            await log.append("t1", [])
            await log.append("t1", [message("x"), message("y")])

        numbers = [event.sequence for event in await history.events(0)]
        assert list(range(1, 10)) == numbers
