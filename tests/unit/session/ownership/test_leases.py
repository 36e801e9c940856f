"""Tests of `services.session.leases` and `lease`: who owns a user."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import keys_pb2
from services.chassis.failures import Failure
from services.session.history import Position, Segment
from services.session.limits import Limits
from services.session.ownership.lease import not_owner
from services.session.store import Committed, Create, Update, Write
from tests.unit.session.fakes import FakeExecutor
from tests.unit.session.service import AGENT, CONTEXT, until
from tests.unit.session.shared import Connection, Pod, Pods

LEASE = "users/ada"


async def refusal(pod: Pod) -> Failure:
    """Return why a process does not serve Ada."""
    with pytest.raises(Failure) as raised:
        await pod.get_agent()
    return raised.value


class TestAcquire:
    async def test_of_two_who_want_a_free_user_one_wins(self, pods: Pods) -> None:
        """The other names the winner."""
        one, two = await pods.start("one:1"), await pods.start("two:2")

        results = await asyncio.gather(
            one.create_agent(), two.create_agent(), return_exceptions=True
        )

        lost = [result for result in results if isinstance(result, Failure)]
        assert [errors_pb2.ERROR_REASON_NOT_OWNER] == [failure.reason for failure in lost]
        winner = "two:2" if results.index(lost[0]) == 0 else "one:1"
        assert {"address": winner} == lost[0].metadata

    async def test_a_living_owner_is_named(self, first: Pod, second: Pod) -> None:
        """Nothing changes for the owner."""
        assert {"address": "one:1"} == (await refusal(second)).metadata

        assert AGENT == (await first.get_agent()).name

    async def test_a_dead_owner_is_followed_after_the_lease(
        self, pods: Pods, first: Pod, second: Pod
    ) -> None:
        """By the database's time, not a moment before."""
        await first.tasks.__aexit__(None, None, None)
        pods.pass_time(14.9)
        assert "NOT_OWNER" == (await refusal(second)).reason_name

        pods.pass_time(1)

        assert AGENT == (await second.get_agent()).name
        assert 1 == second.metric("moorline_leases_taken_total", cause="expired")

    async def test_a_user_given_back_is_free_at_once(self, first: Pod, second: Pod) -> None:
        """That is what a drain is for."""
        await first.sessions.drain()

        assert AGENT == (await second.get_agent()).name
        assert 1 == second.metric("moorline_leases_taken_total", cause="released")

    async def test_who_has_the_owners_address_follows_at_once(self, pods: Pods, first: Pod) -> None:
        """A process that was started again: nobody else can be there."""
        await first.tasks.__aexit__(None, None, None)

        again = await pods.start("one:1")

        assert AGENT == (await again.get_agent()).name
        assert 1 == again.metric("moorline_leases_taken_total", cause="address")

    async def test_a_store_that_hangs_is_answered_in_time(
        self, pods: Pods, first: Pod, second: Pod
    ) -> None:
        """Before the caller gives up, and nothing is half taken."""
        loop = asyncio.get_running_loop()
        await first.tasks.__aexit__(None, None, None)
        pods.pass_time(16)
        second.store.gate.clear()
        asked = loop.time()

        assert "STORE_UNAVAILABLE" == (await refusal(second)).reason_name

        assert loop.time() - asked < 6
        assert 0 == len(second.sessions)
        second.store.gate.set()
        assert AGENT == (await second.get_agent()).name

    async def test_a_user_everybody_wants_is_left_to_them(self, pods: Pods, first: Pod) -> None:
        """When each look finds another, the caller shall ask again."""

        class Disturbed(Connection):
            """Somebody else is always faster, and gives up at once."""

            async def commit(self, writes: Sequence[Write]) -> Committed:
                """See `Store`."""
                there = self.database.get(LEASE)
                assert there is not None
                fields = {**there.fields, "beat": there.fields["beat"] + 1}
                self.database.commit([Update(LEASE, fields, there.version)])
                return await super().commit(writes)

        await first.sessions.drain()
        pod = await pods.start("two:2", store=Disturbed(pods.database))

        failure = await refusal(pod)

        assert ("NOT_OWNER", {}) == (failure.reason_name, failure.metadata)
        assert failure.retry_delay

    @pytest.mark.parametrize("lost", [1, 2])
    async def test_a_lost_answer_leaves_no_stranger(self, pods: Pods, lost: int) -> None:
        """The next call finds that it is the owner."""
        pod = await pods.start("one:1")
        pod.store.lost = lost
        for _ in range(lost):
            with pytest.raises(Failure):
                await pod.create_agent()

        await pod.create_agent()

        assert AGENT == (await pod.get_agent()).name


class TestKeys:
    @pytest.fixture
    def limits(self) -> Limits:
        """One key for each user."""
        return Limits(keys=1)

    async def test_two_processes_keep_to_one_limit(self, first: Pod, second: Pod) -> None:
        """Any of them serves keys, whoever owns the user."""
        request = keys_pb2.CreateKeyRequest(parent="users/ada")
        await asyncio.gather(
            first.keys.CreateKey(request, CONTEXT),
            second.keys.CreateKey(request, CONTEXT),
            return_exceptions=True,
        )

        listing = keys_pb2.ListKeysRequest(parent="users/ada")
        assert len((await second.keys.ListKeys(listing, CONTEXT)).keys) <= 1


class TestRenew:
    @pytest.fixture
    def limits(self) -> Limits:
        """Leases short enough to be renewed in a test."""
        return Limits(lease=timedelta(seconds=0.3))

    async def test_a_busy_user_stays_where_it_is(
        self, pods: Pods, first: Pod, second: Pod, executor: FakeExecutor
    ) -> None:
        """However long the turn is."""
        await first.create_turn()
        await executor.execution()

        await asyncio.sleep(0.7)

        assert "NOT_OWNER" == (await refusal(second)).reason_name
        assert 0 == first.metric("moorline_leases_lost_total")

    async def test_an_idle_user_is_given_back_and_comes_back_unnoticed(
        self, pods: Pods, first: Pod
    ) -> None:
        """No lease is renewed for nothing."""
        await until(lambda: len(first.sessions) == 0)
        await until(lambda: pods.database.documents[LEASE][0]["released"])
        writes = pods.database.writes[LEASE]
        await asyncio.sleep(0.3)
        assert writes == pods.database.writes[LEASE]

        assert AGENT == (await first.get_agent()).name

    async def test_what_is_not_wanted_is_asked_for_again_when_it_cannot_be_given_back(
        self, pods: Pods, first: Pod
    ) -> None:
        """A lease that cannot be given back expires."""
        session = await first.sessions.session("ada")
        first.store.gate.clear()
        lease = session.lease
        releasing = asyncio.ensure_future(lease.release(not_owner()))
        await asyncio.wait_for(releasing, 3)
        first.store.gate.set()
        await lease.release(not_owner())

        assert not pods.database.documents[LEASE][0]["released"]
        with pytest.raises(Failure):
            await lease.confirm()

    async def test_who_lost_it_gives_nothing_back(self, pods: Pods, first: Pod) -> None:
        """The lease is somebody else's."""
        session = await first.sessions.session("ada")
        fields, version, time = pods.database.documents[LEASE]
        theirs = {**fields, "owner": "other", "epoch": 2}
        pods.database.documents[LEASE] = (theirs, f"{version}x", time)

        await session.lease.release(not_owner())

        assert theirs == pods.database.documents[LEASE][0]

    async def test_a_renewal_without_an_answer_does_not_keep_it_from_being_given_back(
        self, pods: Pods, first: Pod, executor: FakeExecutor
    ) -> None:
        """Its version is not the one that was known."""
        await first.create_turn()
        await executor.execution()
        first.store.answers.clear()
        beat = pods.database.documents[LEASE][0]["beat"]
        await until(lambda: pods.database.documents[LEASE][0]["beat"] > beat)
        first.store.answers.set()

        await first.sessions.drain()

        assert pods.database.documents[LEASE][0]["released"]

    async def test_a_fence_makes_the_owner_ask_who_it_is(
        self, pods: Pods, first: Pod, executor: FakeExecutor
    ) -> None:
        """Also while its lease must be good; then it goes on."""
        agent = await first.live()
        path = agent.history.path(Position(agent.log.next))
        pods.database.commit([Create(path, Segment(Position(1), "other", [], {}).fields())])

        turn = await first.create_turn()

        assert 1 == turn.sequence
        segment = await (await first.live()).history.at(Position(1, 1))
        assert segment is not None
        assert "other" != segment.nonce
        assert 0 == first.metric("moorline_leases_lost_total")

    async def test_a_database_that_refuses_at_once_is_asked_at_a_pace(self, pods: Pods) -> None:
        """However many wait for it, and they go on once it answers."""

        class Counting(Connection):
            """Counts what is asked of it."""

            asked = 0

            async def commit(self, writes: Sequence[Write]) -> Committed:
                """See `Store`."""
                self.asked += 1
                return await super().commit(writes)

        store = Counting(pods.database)
        pod = await pods.start("one:1", store=store)
        await pod.create_agent()
        lease = (await pod.sessions.session("ada")).lease
        store.away, asked = True, store.asked
        pods.pass_time(1, pod)
        assert not lease.held

        waiting = [asyncio.ensure_future(lease.settled()) for _ in range(3)]
        for _ in range(100):
            await asyncio.sleep(0)
        assert 1 <= store.asked - asked <= 2

        store.away = False
        await asyncio.gather(*waiting)
        assert lease.held

    async def test_lost_answers_of_renewals_are_recognised(
        self, pods: Pods, first: Pod, executor: FakeExecutor
    ) -> None:
        """It goes on being the owner, under the same epoch."""
        await first.create_turn()
        execution = await executor.execution()
        epoch = pods.database.documents[LEASE][0]["epoch"]
        first.store.lost = 1
        await until(lambda: first.store.lost == 0)
        await asyncio.sleep(0.3)
        execution.end()
        await first.ended()

        assert epoch == pods.database.documents[LEASE][0]["epoch"]
