"""Tests of `services.session.sweeper`: what nobody sees to is taken up."""

from __future__ import annotations

from tests.unit.session.fakes import FakeExecutor
from tests.unit.session.service import until
from tests.unit.session.shared import Pod, Pods

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
