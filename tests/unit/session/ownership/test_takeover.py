"""Tests of `services.session.takeover` and `loading`: one owner appends, and no other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.session.history import History, Position, Segment
from services.session.names import AgentName
from services.session.ownership.takeover import fence
from services.session.store import Committed, Create, Write
from tests.unit.session.fakes import FakeExecutor
from tests.unit.session.service import AGENT, until
from tests.unit.session.shared import Connection, Database, Pod, Pods, reasons

NAME = AgentName("ada", "a1")


class Contested(Connection):
    """A store in which another owner appends just before the next commits.

    Attributes:
        others: How often that happens.
    """

    def __init__(self, database: Database, others: int) -> None:
        super().__init__(database)
        self.others = others

    async def commit(self, writes: Sequence[Write]) -> Committed:
        """See `Store`."""
        if self.others:
            self.others -= 1
            self.database.commit([Create(writes[0].path, segment(0, "other").fields())])
        return await super().commit(writes)


def segment(filler: int, nonce: str) -> Segment:
    """Return a segment without events at the beginning of a log."""
    return Segment(position=Position(1, filler), nonce=nonce, events=[], cursors={})


class TestFence:
    async def test_it_is_the_newest_segment(self) -> None:
        """And says under which epoch it was written."""
        database = Database()
        store = Connection(database)
        history = History(store=store, agent=NAME, log="log")

        made = await fence(store, history, 7)

        assert made == await history.tail()
        assert 7 == made.epoch

    async def test_another_owners_last_commits_come_before_it(self) -> None:
        """However they fall, it ends up behind them."""
        store = Contested(Database(), others=3)
        history = History(store=store, agent=NAME, log="log")

        made = await fence(store, history, 7)

        assert made == await history.tail()
        assert Position(1, 3) == made.position

    async def test_an_owner_who_never_stops_is_not_waited_for(self) -> None:
        """It may be that we are none any more."""
        store = Contested(Database(), others=100)

        with pytest.raises(Failure) as raised:
            await fence(store, History(store=store, agent=NAME, log="log"), 7)

        assert errors_pb2.ERROR_REASON_STORE_UNAVAILABLE == raised.value.reason

    async def test_a_lost_answer_is_recognised(self) -> None:
        """A store repeats a commit by itself, and meets its own work."""

        class Repeating(Connection):
            """Makes each commit twice."""

            async def commit(self, writes: Sequence[Write]) -> Committed:
                """See `Store`."""
                self.database.commit(writes)
                return await super().commit(writes)

        store = Repeating(Database())
        history = History(store=store, agent=NAME, log="log")

        made = await fence(store, history, 7)

        assert made == await history.tail()
        assert Position() == made.position


class TestLoading:
    async def test_an_agent_made_anew_by_the_owner_before_is_fenced_too(
        self, pods: Pods, first: Pod, second: Pod
    ) -> None:
        """The list may have been read before that owner's last commits came through."""
        await first.tasks.__aexit__(None, None, None)
        pods.pass_time(16)
        session = await second.sessions.session("ada")
        held = session.roster.held("a1")
        path, (fields, version, time) = AGENT, pods.database.documents[AGENT]
        pods.database.documents[path] = ({**fields, "log": "other"}, version, time)

        await second.get_agent()
        live = await second.live()

        assert "other" == held.record.log
        assert f"{AGENT}/log/other-0000000001" in pods.database.documents
        assert live.log.owned

    async def test_an_agent_deleted_by_the_owner_before_is_cleared_away(
        self, pods: Pods, first: Pod, second: Pod
    ) -> None:
        """It had only become a tombstone."""
        await first.tasks.__aexit__(None, None, None)
        pods.pass_time(16)
        await second.sessions.session("ada")
        fields, version, time = pods.database.documents[AGENT]
        pods.database.documents[AGENT] = ({**fields, "deleted": True}, version, time)

        assert ["RESOURCE_NOT_FOUND"] == await reasons(second.list_events())

        await until(lambda: AGENT not in pods.database.documents)

    async def test_an_agent_the_owner_before_made_late_is_found_with_its_turn(
        self, pods: Pods, first: Pod, second: Pod, executor: FakeExecutor
    ) -> None:
        """It is in no list that was read, but what has not ended tells of it."""
        await first.sessions.drain()
        await second.sessions.session("ada")
        pods.database.documents.update(
            {
                path.replace("a1", "a2"): value
                for path, value in pods.database.documents.items()
                if path == AGENT
            }
        )
        time = pods.database.now()
        pods.database.documents["work/ada~a2~t1"] = (
            {"kind": "turn", "user": "ada", "agent": "a2", "turn": "t1"},
            "y",
            time,
        )

        await second.sweeper.sweep()

        assert "users/ada/agents/a2" == (await second.get_agent("users/ada/agents/a2")).name
        # The turn itself was never written.
        assert "work/ada~a2~t1" not in pods.database.documents
        assert [] == executor.created

    async def test_a_deletion_its_owner_left_is_finished(
        self, pods: Pods, first: Pod, second: Pod, executor: FakeExecutor
    ) -> None:
        """By whoever sweeps next."""
        await first.create_turn()
        await executor.execution()
        first.store.lost = 1
        fields, version, time = pods.database.documents[AGENT]
        pods.database.documents[AGENT] = ({**fields, "deleted": True}, version, time)
        pods.database.documents["work/ada~a1~!w1"] = (
            {"kind": "deletion", "user": "ada", "agent": "a1", "workspace": "w1"},
            "y",
            time,
        )
        await first.tasks.__aexit__(None, None, None)
        pods.pass_time(16)

        await second.sweeper.sweep()

        await until(lambda: "w1" in executor.deleted)
        await until(lambda: not any("a1" in path for path in pods.database.documents))

    async def test_a_store_that_is_away_delays_the_taking_up(
        self, pods: Pods, first: Pod, second: Pod, executor: FakeExecutor
    ) -> None:
        """It is tried until it is done."""
        await first.create_turn()
        execution = await executor.execution()
        await first.sessions.drain()
        execution.listeners.clear()
        session = await second.sessions.session("ada")
        second.store.away = True
        await asyncio.sleep(0.1)
        assert not session.closed
        second.store.away = False

        await until(lambda: bool(execution.listeners))
