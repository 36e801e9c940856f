"""Tests of owners that leave: at a drain, or because they are asked to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import pytest

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import events_pb2, sessions_pb2
from services.chassis.failures import Failure
from services.chassis.identity import Identity, act_as
from services.session.forms import MessageEvents
from tests.unit.session.fakes import FakeExecutor
from tests.unit.session.service import ADA, AGENT, CONTEXT, GATEWAY, until
from tests.unit.session.shared import Pod, Pods, follow, reasons

LEASE = "users/ada"

T = TypeVar("T")


async def drain_during(pod: Pod, call: Awaitable[T]) -> T:
    """Drain while a call waits for the store, which answers then; return what it returned."""
    pod.store.gate.clear()
    calling = asyncio.ensure_future(call)
    await until(lambda: pod.store.waiting == 1)
    draining = asyncio.ensure_future(pod.sessions.drain())
    await asyncio.sleep(0.02)
    pod.store.gate.set()
    result = await calling
    await draining
    return result


class TestLeaving:
    async def test_a_drain_hands_everybody_over_in_time(
        self, pods: Pods, first: Pod, second: Pod, executor: FakeExecutor
    ) -> None:
        """A hundred users, twenty of them with a turn that goes on elsewhere."""
        for number in range(100):
            act_as(Identity(user=f"users/u{number}"))
            agent = f"users/u{number}/agents/a1"
            await first.create_agent(user=f"users/u{number}")
            if number < 20:
                await first.create_turn(agent=agent)
        await until(lambda: len(executor.created) == 20)
        act_as(ADA)
        client = await follow(first)
        executions = list(executor.executions.values())
        await until(lambda: all(execution.listeners for execution in executions))
        for execution in executions:
            execution.call_tool()
        loop = asyncio.get_running_loop()
        began = loop.time()

        await first.sessions.drain()

        assert loop.time() - began < 2
        assert client.source.failure is not None
        assert "DRAINING" == client.source.failure.reason_name
        assert ["DRAINING"] == await reasons(first.get_agent())
        leases = [
            fields["released"]
            for path, (fields, _, _) in pods.database.documents.items()
            if path.count("/") == 1 and path.startswith("users/")
        ]
        assert [True] * 101 == leases
        assert 0 == sum(execution.cancellations for execution in executions)
        await second.sweeper.sweep()
        await until(lambda: all(execution.listeners for execution in executions))
        for execution in executions:
            execution.end()
        for number in range(20):
            act_as(Identity(user=f"users/u{number}"))
            agent = f"users/u{number}/agents/a1"

            async def over(agent: str = agent) -> bool:
                return len(await second.kinds(agent)) == 3

            await until(over)
            assert ["user_message", "tool_call", "turn_outcome"] == await second.kinds(agent)

    async def test_what_cannot_be_settled_in_time_is_not_given_back(
        self, pods: Pods, first: Pod, executor: FakeExecutor
    ) -> None:
        """Its commit may still happen, and must be fenced."""
        await first.create_turn()
        execution = await executor.execution()
        first.store.gate.clear()
        execution.ask()
        await until(lambda: first.store.waiting == 1)

        await first.sessions.drain()

        assert not pods.database.documents[LEASE][0]["released"]

    async def test_a_user_is_released_once_no_turn_runs(
        self, first: Pod, second: Pod, executor: FakeExecutor
    ) -> None:
        """Turns that wait are the next owner's, and followers are told to go there."""
        await first.create_turn("t1")
        await first.create_turn("t2")
        execution = await executor.execution()
        client = await follow(first)
        act_as(GATEWAY)
        request = sessions_pb2.ReleaseSessionRequest(name="users/ada")
        await first.session.ReleaseSession(request, CONTEXT)
        act_as(ADA)
        await first.get_agent()
        assert client.source.failure is None

        execution.end()

        await until(lambda: client.source.failure is not None)
        assert client.source.failure is not None
        assert "DRAINING" == client.source.failure.reason_name
        assert ["DRAINING"] == await reasons(first.get_agent())
        assert 1 == len(executor.created)
        await second.get_agent()
        await until(lambda: len(executor.created) == 2)
        (await executor.execution(2)).end()
        await second.ended("t2")

    async def test_who_was_handed_over_may_come_back_later(self, first: Pod) -> None:
        """When nobody else took the user."""
        first.sessions.release("ada")
        assert ["DRAINING"] == await reasons(first.get_agent())
        await asyncio.sleep(2)

        assert AGENT == (await first.get_agent()).name

    async def test_a_user_who_comes_during_a_drain_is_turned_away(
        self, pods: Pods, first: Pod
    ) -> None:
        """Also one whose lease was on its way."""
        act_as(Identity(user="users/bob"))
        coming = reasons(first.create_agent(user="users/bob"))

        assert ["DRAINING"] == await drain_during(first, coming)
        await until(lambda: pods.database.documents["users/bob"][0]["released"])

    async def test_calls_in_progress_end_before_a_user_is_handed_over(
        self, first: Pod, executor: FakeExecutor
    ) -> None:
        """What was recorded is answered."""
        created = await drain_during(first, first.create_turn())

        assert 1 == created.sequence
        assert [] == executor.created or executor.last.listeners == []

    async def test_a_turn_that_is_being_begun_is_begun_before_a_user_is_handed_over(
        self, pods: Pods, first: Pod, second: Pod, executor: FakeExecutor
    ) -> None:
        """Or the next owner would look where nobody has asked for it, and begin it again."""
        await first.create_agent()
        first.store.answers.clear()
        creating = asyncio.ensure_future(first.create_turn())
        await until(lambda: f"{AGENT}/turns/t1" in pods.database.documents)
        draining = asyncio.ensure_future(first.sessions.drain())
        await asyncio.sleep(0.02)
        first.store.answers.set()
        await creating
        await draining

        await second.sweeper.sweep()
        execution = await executor.execution()
        execution.end()
        await second.ended("t1")

        assert ["user_message", "turn_outcome"] == await second.kinds()

    async def test_an_executor_that_does_not_answer_keeps_no_user_from_being_handed_over(
        self, pods: Pods, first: Pod, executor: FakeExecutor
    ) -> None:
        """Whoever comes next asks it again."""
        executor.stuck.add("create")
        await first.create_turn()
        await until(lambda: "create" in executor.calls)

        await first.sessions.drain()

        assert pods.database.documents[LEASE][0]["released"]

    async def test_only_services_may_release(self, first: Pod) -> None:
        """A user cannot move anybody."""
        request = sessions_pb2.ReleaseSessionRequest(name="users/ada")

        assert ["FORBIDDEN"] == await reasons(first.session.ReleaseSession(request, CONTEXT))

    async def test_releasing_somebody_elses_user_does_nothing(
        self, first: Pod, second: Pod
    ) -> None:
        """A gateway may be late."""
        act_as(GATEWAY)
        request = sessions_pb2.ReleaseSessionRequest(name="users/ada")
        await second.session.ReleaseSession(request, CONTEXT)
        act_as(ADA)

        assert AGENT == (await first.get_agent()).name


class TestHistory:
    async def test_a_position_in_another_history_is_unknown(self, first: Pod) -> None:
        """Never is one history continued with another."""
        agent = await first.live()
        options: dict[str, Any] = {
            "form": MessageEvents(),
            "after_sequence": 0,
            "include_deltas": True,
            "mark": lambda: None,
        }
        news = events_pb2.WatchEventsResponse()
        agent.follow(**options).take(1 << 20, news)
        log_id = news.updates[0].checkpoint.log_id
        assert log_id
        agent.follow(**options, log_id=log_id)

        with pytest.raises(Failure) as raised:
            agent.follow(**options, log_id="other")

        assert errors_pb2.ERROR_REASON_SEQUENCE_UNKNOWN == raised.value.reason


class TestText:
    async def test_text_being_written_is_known_before_anybody_is_told_that_they_know_all(
        self, first: Pod, second: Pod, executor: FakeExecutor
    ) -> None:
        """What a client shows of it would be taken back, and come again a moment later."""
        await first.create_turn()
        execution = await executor.execution()
        execution.say("b1", "Hello")
        execution.listeners.clear()
        executor.away = True
        await first.sessions.drain()
        client = await follow(second)
        await until(lambda: not client.take() and client.log != [])
        client.take_all()
        assert ["event"] == client.log

        executor.away = False
        await until(lambda: execution.listeners != [])
        await until(lambda: not client.take() and "checkpoint" in client.log)

        assert ["event", "delta", "checkpoint"] == client.log
        assert {"b1": "Hello"} == client.blocks

    async def test_nobody_waits_long_for_text_that_does_not_come(
        self, first: Pod, second: Pod, executor: FakeExecutor
    ) -> None:
        """An agent that thinks writes nothing."""
        await first.create_turn()
        execution = await executor.execution()
        execution.listeners.clear()
        await first.sessions.drain()
        client = await follow(second)
        await until(lambda: not client.take() and "checkpoint" in client.log)

        assert ["event", "checkpoint"] == client.log
