"""Tests of `services.session.sweeper`: what nobody sees to is taken up."""

from __future__ import annotations

import asyncio

from services.chassis.identity import act_as
from services.session.limits import Limits
from tests.unit.session.fakes import FakeExecutor, FakeExecutors
from tests.unit.session.service import ADA, BOB, until
from tests.unit.session.shared import Connection, Pod, Pods

LEASE = "users/ada"


class TestSweeper:
    async def test_turns_whose_owner_is_gone_go_on_by_themselves(
        self, pods: Pods, first: Pod, second: Pod, executor: FakeExecutor
    ) -> None:
        """No client has to ask."""
        await first.create_turn()
        execution = await executor.execution()
        await first.tasks.__aexit__(None, None, None)
        execution.listeners.clear()
        await second.sweeper.sweep()
        assert [] == execution.listeners
        pods.pass_time(16, second)

        await second.sweeper.sweep()

        await until(lambda: bool(execution.listeners))
        execution.end()
        await second.ended()
        assert ["user_message", "turn_outcome"] == await second.kinds()

    async def test_a_user_who_cannot_be_loaded_is_no_hindrance_to_others(
        self, pods: Pods, first: Pod, second: Pod, executor: FakeExecutor
    ) -> None:
        """Whatever is wrong with what the database has of them."""
        await first.create_turn()
        execution = await executor.execution()
        await first.sessions.drain()
        [path] = [path for path in pods.database.documents if path.startswith("work/")]
        fields, version, time = pods.database.documents[path]
        pods.database.documents["work/bob a1"] = ({**fields, "user": "bob"}, version, time)
        pods.database.documents["users/bob/agents/a1"] = ({"broken": True}, version, time)
        execution.listeners.clear()

        await second.sweeper.sweep()

        await until(lambda: bool(execution.listeners))

    async def test_living_owners_are_left_alone(
        self, pods: Pods, first: Pod, second: Pod, executor: FakeExecutor
    ) -> None:
        """They cost one look while their lease cannot have ended."""
        await first.create_turn()
        await executor.execution()
        epoch = pods.database.documents[LEASE][0]["epoch"]
        await second.sweeper.sweep()
        assert 0 == len(second.sessions)
        assert second.ownership.foreign("ada")

        await second.sweeper.sweep()

        assert epoch == pods.database.documents[LEASE][0]["epoch"]

    async def test_a_turn_that_its_owner_does_not_know_is_loaded(
        self, pods: Pods, first: Pod, executor: FakeExecutor
    ) -> None:
        """As an owner that was none any more may have left it."""
        agent = await first.live()
        await first.create_turn("t1")
        (await executor.execution()).end()
        await first.ended()
        left = {
            path: value
            for path, value in pods.database.documents.items()
            if path.endswith("/turns/t1")
        }
        ((path, (fields, _, time)),) = left.items()
        fields = {**fields, "state": "STATE_QUEUED", "sequence": 1}
        pods.database.documents[path.replace("t1", "t9")] = (fields, "x", time)
        pods.database.documents["work/ada~a1~t9"] = (
            {"kind": "turn", "user": "ada", "agent": "a1", "turn": "t9"},
            "y",
            time,
        )

        await first.sweeper.sweep()

        await until(lambda: len(executor.created) == 2)
        assert agent is not await first.live()

    async def test_a_full_process_leaves_work_to_others_once(
        self, executors: FakeExecutors, executor: FakeExecutor
    ) -> None:
        """If nobody else takes it, it does."""
        limits = Limits(sessions=1)
        async with Pods(executors=executors, limits=limits) as pods:
            one = await pods.start("one:1")
            await one.create_agent()
            await one.create_turn()
            await executor.execution()
            await one.tasks.__aexit__(None, None, None)
            two = await pods.start("two:2")
            act_as(BOB)
            await two.create_agent(user="users/bob")
            await two.create_turn(agent="users/bob/agents/a1")
            await executor.execution(2)
            act_as(ADA)
            pods.pass_time(16, two)
            await two.sweeper.sweep()
            assert 1 == len(two.sessions)

            await two.sweeper.sweep()

            assert 2 == len(two.sessions)

    async def test_a_store_that_is_away_is_looked_at_later(
        self, pods: Pods, first: Pod, executor: FakeExecutor
    ) -> None:
        """The rounds go on."""
        await first.create_turn()
        execution = await executor.execution()
        await first.sessions.drain()
        execution.listeners.clear()
        store = Connection(pods.database)
        second = await pods.start("two:2", sweep=0.01, store=store)
        store.away = True
        await asyncio.sleep(0.05)
        store.away = False

        await until(lambda: bool(execution.listeners))
        assert 1 == len(second.sessions)

    async def test_work_of_an_agent_that_is_not_there_is_forgotten(
        self, pods: Pods, first: Pod
    ) -> None:
        """Else it would be looked at for ever."""
        time = pods.database.now()
        pods.database.documents["work/ada~gone~t1"] = (
            {"kind": "turn", "user": "ada", "agent": "gone", "turn": "t1"},
            "y",
            time,
        )

        await first.sweeper.sweep()

        assert "work/ada~gone~t1" not in pods.database.documents
