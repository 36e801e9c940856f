"""Tests of ownership as users meet it: owners that die, sleep, are cut off or leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import sessions_pb2
from services.chassis.failures import Failure
from services.chassis.identity import Identity, act_as
from services.session.agent_source import AgentSource
from services.session.forms import MessageAgents, MessageEvents
from services.session.limits import Limits
from tests.unit.session.fakes import FakeExecutor, FakeExecutors
from tests.unit.session.following import Client
from tests.unit.session.service import ADA, AGENT, CONTEXT, GATEWAY, until
from tests.unit.session.shared import Pod, Pods

LEASE = "users/ada"


@pytest.fixture
async def pods(executors: FakeExecutors, limits: Limits) -> AsyncIterator[Pods]:
    """Makes processes that share a database."""
    async with Pods(executors=executors, limits=limits) as pods:
        yield pods


@pytest.fixture
async def first(pods: Pods) -> Pod:
    """A process that owns Ada, who has an agent."""
    pod = await pods.start("one:1")
    await pod.create_agent()
    return pod


@pytest.fixture
async def second(pods: Pods, first: Pod) -> Pod:
    """Another one."""
    return await pods.start("two:2")


async def reasons(*calls: Any) -> list[str]:
    """Return why calls failed."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    return [
        result.reason_name if isinstance(result, Failure) else repr(result) for result in results
    ]


async def follow(pod: Pod) -> Client:
    """Follow the agent as a client does."""
    agent = await pod.live()
    return Client(
        agent.follow(form=MessageEvents(), after_sequence=0, include_deltas=True, mark=lambda: None)
    )


class TestSleep:
    async def test_a_sleeper_adds_nothing_and_answers_nothing(
        self, pods: Pods, first: Pod, second: Pod, executor: FakeExecutor
    ) -> None:
        """What it was about to do when its lease ended fails, whatever it was."""
        await first.create_agent("a2")
        await first.create_turn()
        execution = await executor.execution()
        execution.ask()
        agent = await first.live()
        await until(lambda: agent.log.head == 2)
        client = await follow(first)
        client.take_all()
        # Under way when it falls asleep.
        first.store.gate.clear()
        calls = [
            asyncio.ensure_future(call)
            for call in (
                first.create_turn("t2"),
                first.create_turn("t3", agent="users/ada/agents/a2"),
                first.resolve(),
                first.cancel_turn(),
                first.create_agent("a3"),
            )
        ]
        await until(lambda: first.store.waiting >= 3)
        pods.pass_time(16, first)

        await second.sweeper.sweep()
        execution.call_tool()
        await second.resolve(allowed=False)
        await until(lambda: execution.decisions != [])
        events = await second.list_events()
        # It wakes up: what was under way goes on, and so does what it hears.
        client.take_all()
        assert 2 == len(client.sequences)
        first.store.gate.set()
        assert ["NOT_OWNER"] * 5 == await reasons(*calls)
        assert ["NOT_OWNER"] == await reasons(first.get_agent())

        assert client.source.failure is not None
        assert "SERVICE_UNAVAILABLE" == client.source.failure.reason_name
        execution.end()
        await second.ended()
        assert events == (await second.list_events())[: len(events)]
        assert [
            "user_message",
            "permission_request",
            "tool_call",
            "permission_decision",
            "turn_outcome",
        ] == await second.kinds()
        assert [False] == [decision.allowed for decision in execution.decisions]
        assert [] == await second.kinds("users/ada/agents/a2")
        assert 1 == first.metric("moorline_leases_lost_total")
        assert 1 == len(executor.created)

    async def test_nothing_is_shown_until_it_is_known_who_owns(
        self, pods: Pods, first: Pod, executor: FakeExecutor
    ) -> None:
        """A sleeper that still is the owner goes on where it was."""
        await first.create_turn()
        execution = await executor.execution()
        client = await follow(first)
        marks: list[None] = []
        client.source.mark = lambda: marks.append(None)
        client.take_all()
        first.store.gate.clear()
        pods.pass_time(16, first)
        execution.say("b1", "Hello")
        client.take_all()
        assert {} == client.blocks
        call = asyncio.ensure_future(first.get_agent())
        await until(lambda: first.store.waiting >= 1)
        before = len(marks)

        first.store.gate.set()

        assert AGENT == (await call).name
        await until(lambda: len(marks) > before)
        client.take_all()
        assert {"b1": "Hello"} == client.blocks


class TestOutage:
    @pytest.fixture
    def limits(self) -> Limits:
        """Leases short enough to end in a test."""
        return Limits(lease=timedelta(seconds=0.5), unreachable=timedelta(seconds=0.3))

    async def test_text_flows_and_calls_are_refused_until_the_store_is_back(
        self, first: Pod, executor: FakeExecutor
    ) -> None:
        """Then everything heard meanwhile is durable, once."""
        await first.create_turn()
        execution = await executor.execution()
        client = await follow(first)
        first.store.away = True
        await until(lambda: first.metric("moorline_leases_suspended") == 1)
        execution.say("b1", "Hello")
        client.take_all()
        assert {"b1": "Hello"} == client.blocks
        await asyncio.sleep(0.6)
        execution.say("b1", " world")
        client.take_all()
        assert {"b1": "Hello world"} == client.blocks
        execution.complete("b1")
        execution.call_tool()
        assert ["STORE_UNAVAILABLE"] * 2 == await reasons(
            first.create_turn("t2"), first.get_agent()
        )

        first.store.away = False

        await until(lambda: first.metric("moorline_leases_suspended") == 0)
        execution.end()
        await first.ended()
        client.take_all()
        assert [
            "user_message",
            "agent_message",
            "tool_call",
            "turn_outcome",
        ] == await first.kinds()
        assert [1, 2, 3, 4] == client.sequences
        assert client.source.failure is None
        assert 1 == len(executor.created)

    async def test_who_alone_is_cut_off_is_followed(
        self, first: Pod, second: Pod, executor: FakeExecutor
    ) -> None:
        """And learns of it when it can ask again."""
        await first.create_turn()
        execution = await executor.execution()
        client = await follow(first)
        first.store.away = True
        execution.call_tool()

        async def taken() -> bool:
            try:
                return bool(await second.kinds())
            except Failure:
                return False

        await until(taken)
        first.store.away = False
        await until(lambda: client.source.failure is not None)
        execution.end()
        await second.ended()

        assert ["user_message", "tool_call", "turn_outcome"] == await second.kinds()
        assert 0 == len(first.sessions)

    async def test_an_emptied_database_is_a_new_beginning(
        self, pods: Pods, first: Pod, executor: FakeExecutor
    ) -> None:
        """Followers end, the agents are gone, and nothing old comes back with a new one."""
        await first.create_turn()
        execution = await executor.execution()
        client = await follow(first)
        session = await first.sessions.session("ada")
        listing: AgentSource[Any] = AgentSource(
            agents=session.roster, form=MessageAgents(), mark=lambda: None
        )
        pods.database.documents.clear()
        execution.call_tool()
        await until(lambda: session.closed)

        assert client.source.failure is not None
        assert listing.failure is not None
        assert ["RESOURCE_NOT_FOUND"] == await reasons(first.get_agent())
        await first.create_agent()
        assert [] == await first.kinds()
        assert [] == (await first.live()).unfinished()
        execution.call_tool("t2")
        execution.end()
        await asyncio.sleep(0.1)
        assert [] == await first.kinds()


    async def test_what_was_written_into_an_emptied_database_is_none_of_a_new_agents(
        self, pods: Pods, first: Pod, executor: FakeExecutor
    ) -> None:
        """An owner that does not know yet may still write a turn or two."""
        for turn_id in ("t1", "t2"):
            await first.create_turn(turn_id)
        session = await first.sessions.session("ada")
        pods.database.documents.clear()
        await first.create_turn("t3")
        assert pods.database.documents
        await until(lambda: session.closed)
        await first.create_agent()
        assert [] == (await first.live()).unfinished()
        executor.executions.clear()
        created = len(executor.created)

        for turn_id in ("t3", "t2", "t1"):
            await first.create_turn(turn_id)
            (await executor.execution(created + 1)).end()
            await first.ended(turn_id)
            created += 1

        assert ["user_message", "turn_outcome"] * 3 == await first.kinds()
        ids = await (await first.live()).archive.ids(before=0, limit=10)
        assert ["t1", "t2", "t3"] == ids


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
        updates, _ = agent.follow(**options).take(1 << 20)
        log_id = updates[0].checkpoint.log_id
        assert log_id
        agent.follow(**options, log_id=log_id)

        with pytest.raises(Failure) as raised:
            agent.follow(**options, log_id="other")

        assert errors_pb2.ERROR_REASON_SEQUENCE_UNKNOWN == raised.value.reason
