"""Tests of calls that meet at an awkward moment: nothing is lost, nothing is stuck."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from moorline.session.v1 import agents_pb2, events_pb2, turns_pb2
from services.chassis.failures import Failure
from services.session.encoding import event_fields
from services.session.forms import MessageEvents
from services.session.history import Position, Segment
from services.session.limits import Limits
from services.session.outcomes import moved
from services.session.ownership.lease import not_owner
from services.session.store import Create
from tests.unit.session.fakes import FakeExecutor, FaultyStore, store_unavailable
from tests.unit.session.log_writing import message
from tests.unit.session.service import AGENT, CONTEXT, Service, until
from tests.unit.session.shared import Pod, Pods, reasons

MakeService = Callable[[], Service]
LEASE = "users/ada"


async def rename(service: Service, name: str) -> None:
    """Change a setting."""
    agent = agents_pb2.Agent(name=AGENT, display_name=name)
    request = agents_pb2.UpdateAgentRequest(agent=agent)
    request.update_mask.paths.append("display_name")
    await service.agents.UpdateAgent(request, CONTEXT)


class TestSettings:
    async def test_a_setting_changed_at_a_turns_end_takes_nothing_from_it(
        self, make_service: MakeService, store: FaultyStore, executor: FakeExecutor
    ) -> None:
        """The conversation goes on where the turn has left it, whoever dies then."""
        async with make_service() as service:
            await service.create_agent()
            await service.create_turn("t1")
            execution = await executor.execution()
            commits = len(store.commits)
            store.held.clear()
            execution.call_tool()
            await until(lambda: len(store.commits) > commits)
            renamed = asyncio.create_task(rename(service, "new"))
            await asyncio.sleep(0.01)
            execution.end(conversation="handle")
            store.held.set()
            await renamed
            await service.ended("t1")

        async with make_service() as service:
            assert "new" == (await service.get_agent()).display_name
            await service.create_turn("t2")
            assert "handle" == (await executor.execution(2)).asked.resume_from


class TestCreation:
    async def test_an_agent_whose_creation_nobody_waited_for_is_in_the_list(
        self, service: Service, store: FaultyStore
    ) -> None:
        """Whoever creates it again, or only looks, finds it."""
        store.held.clear()
        creation = asyncio.create_task(service.create_agent("a2"))
        await until(lambda: len(store.commits) == 2)
        store.after.append(store_unavailable())
        store.held.set()
        with pytest.raises(Failure):
            await creation

        request = agents_pb2.ListAgentsRequest(parent="users/ada")
        agents = (await service.agents.ListAgents(request, CONTEXT)).agents

        assert {AGENT, "users/ada/agents/a2"} == {agent.name for agent in agents}


class TestDeletion:
    async def test_a_deletion_nobody_waits_for_any_more_leaves_the_turn_running(
        self, service: Service, store: FaultyStore, executor: FakeExecutor
    ) -> None:
        """It was cancelled before it deleted anything."""
        await service.create_turn("t1")
        execution = await executor.execution()
        commits = len(store.commits)
        store.held.clear()
        execution.call_tool()
        await until(lambda: len(store.commits) > commits)
        request = agents_pb2.DeleteAgentRequest(name=AGENT)
        deletion = asyncio.create_task(service.agents.DeleteAgent(request, CONTEXT))
        await asyncio.sleep(0.01)

        deletion.cancel()
        await asyncio.wait([deletion])
        store.held.set()

        await until(lambda: len(execution.positions) == 2 and bool(execution.listeners))
        execution.end()
        assert turns_pb2.Turn.STATE_FINISHED == (await service.ended("t1")).state


class TestOutage:
    async def test_a_queue_filled_again_and_again_is_written_in_commits_a_store_takes(
        self, service: Service, store: FaultyStore, executor: FakeExecutor
    ) -> None:
        """However many turns came and went while it was away."""
        await service.create_turn("first")
        await executor.execution()
        live = await service.live()
        store.held.clear()
        calls: list[asyncio.Task[object]] = []
        for number in range(10):
            turns = [f"t{number}-{n}" for n in range(20)]
            calls += [asyncio.create_task(live.create_turn(turn, "hello")) for turn in turns]
            await until(lambda turns=turns: all(map(live.knows, turns)))  # type: ignore[misc]
            calls += [asyncio.create_task(live.cancel_turn(turn)) for turn in turns]
            await asyncio.sleep(0.01)
        store.held.set()

        await asyncio.gather(*calls)

        events = await service.list_events()
        assert list(range(1, 402)) == [event.sequence for event in events]

    async def test_nothing_follows_what_a_bug_has_kept_from_being_written(
        self, service: Service, store: FaultyStore, executor: FakeExecutor
    ) -> None:
        """The history has no hole: the agent is loaded anew, and its turn goes on."""
        await service.create_turn("t1")
        execution = await executor.execution()
        store.before.append(ValueError("a bug"))

        execution.call_tool("one")
        execution.call_tool("two")

        await until(lambda: len(execution.positions) == 2 and bool(execution.listeners))
        execution.end()
        await service.ended("t1")
        kinds = ["user_message", "tool_call", "tool_call", "turn_outcome"]
        assert kinds == await service.kinds()
        assert [1, 2, 3, 4] == [event.sequence for event in await service.list_events()]


class TestReturning:
    async def test_a_client_may_know_what_its_owner_has_not_heard_of_yet(
        self, service: Service, store: FaultyStore, executor: FakeExecutor
    ) -> None:
        """It was read from the store, before the answer to its commit was here."""
        await service.create_turn("t1")
        execution = await executor.execution()
        commits = len(store.commits)
        store.after.append(store_unavailable())
        execution.call_tool()
        await until(lambda: len(store.commits) > commits and not store.after)
        store.held.clear()
        assert 2 == len(await service.list_events())
        request = events_pb2.WatchEventsRequest(parent=AGENT, after_sequence=2)
        responses = service.events.WatchEvents(request, CONTEXT)
        returning = asyncio.ensure_future(anext(responses))
        await asyncio.wait([returning], timeout=0.05)
        assert not returning.done()

        store.held.set()

        assert [2] == [update.checkpoint.sequence for update in (await returning).updates]


class Nobody:
    """Wants nothing; an `ownership.Keeper`.

    Attributes:
        over: Set when it has lost its lease.
        bug: Raised when it is asked.
    """

    def __init__(self, bug: Exception | None = None) -> None:
        self.over = asyncio.Event()
        self.bug = bug

    def wanted(self) -> bool:
        """See `ownership.Keeper`."""
        if self.bug is not None:
            raise self.bug
        return True

    def unwanted(self) -> None:
        """See `ownership.Keeper`."""

    def lost(self) -> None:
        """See `ownership.Keeper`."""
        self.over.set()


class TestRenewals:
    @pytest.fixture
    def limits(self) -> Limits:
        """Leases that are renewed within the test."""
        return Limits(lease=timedelta(seconds=1))

    async def test_a_lease_that_a_bug_keeps_from_being_renewed_is_given_up(
        self, pods: Pods
    ) -> None:
        """Else its user would be served by nobody, here, until the process is started again."""
        pod = await pods.start("one:1")
        nobody = Nobody(ValueError("a bug"))
        lease = await pod.ownership.acquire("bob", nobody)

        await asyncio.wait_for(nobody.over.wait(), 5)

        assert ["NOT_OWNER"] == await reasons(lease.confirm())


class TestOwner:
    async def test_who_has_given_a_user_back_writes_nothing_more(
        self, pods: Pods, first: Pod, executor: FakeExecutor
    ) -> None:
        """The next owner takes for granted that nothing is on its way."""
        live = await first.live()
        session = first.sessions.find("ada")
        assert session is not None
        await session.lease.release(not_owner())
        before = dict(pods.database.documents)

        late = live.log.append("t1", [message("late")])

        await asyncio.wait([late])
        assert late.exception() is not None
        assert before == pods.database.documents

    async def test_two_processes_with_one_address_do_not_rob_each_other_for_ever(
        self, pods: Pods, first: Pod
    ) -> None:
        """Once robbed by another that has its address, a process waits for leases to expire."""
        twin = await pods.start("one:1")
        await twin.get_agent()
        session = first.sessions.find("ada")
        assert session is not None
        assert ["NOT_OWNER"] == await reasons(session.lease.verify())

        assert ["NOT_OWNER"] == await reasons(first.get_agent())

        assert AGENT == (await twin.get_agent()).name
        assert pods.database.documents[LEASE][0]["epoch"] == 2

    async def test_a_client_that_knows_more_than_the_owner_is_believed(
        self, pods: Pods, first: Pod, second: Pod
    ) -> None:
        """A process whose stopwatch stood still, too, does not tell it to forget what it knows."""
        await first.live()
        pods.pass_time(16)
        await second.create_turn()
        request = events_pb2.WatchEventsRequest(parent=AGENT, after_sequence=1)

        assert ["NOT_OWNER"] == await reasons(anext(first.events.WatchEvents(request, CONTEXT)))

        request.after_sequence = 9
        unknown = await reasons(anext(second.events.WatchEvents(request, CONTEXT)))
        assert ["SEQUENCE_UNKNOWN"] == unknown

    async def test_nobody_writes_after_a_later_owner(
        self, pods: Pods, first: Pod, second: Pod
    ) -> None:
        """A process whose stopwatch stood still loads what the later one has begun."""
        pods.pass_time(16)
        await second.create_turn("t1")

        assert ["NOT_OWNER"] == await reasons(first.create_turn("t2"))

        epochs = [
            fields["epoch"]
            for path, (fields, *_) in pods.database.documents.items()
            if path.startswith(f"{AGENT}/log/")
        ]
        assert [2, 2] == epochs

    async def test_lost_leases_keep_nobody_from_their_agents(
        self, pods: Pods, first: Pod, second: Pod
    ) -> None:
        """Epochs begin anew then, below those in the histories."""
        await first.sessions.drain()
        await second.create_turn("t1")
        await second.tasks.__aexit__(None, None, None)
        del pods.database.documents[LEASE]
        third = await pods.start("three:3")

        await third.create_turn("t2")

        assert ["user_message"] * 2 == (await third.kinds())[:2]

    async def test_an_owner_finds_what_another_has_written_when_a_client_knows_of_it(
        self, pods: Pods, first: Pod, executor: FakeExecutor
    ) -> None:
        """However that came to be; else it would find it with its next append."""
        await first.create_turn("t1")
        live = await first.live()
        await until(lambda: live.log.idle)
        history = live.history
        late = Segment(
            position=Position(2),
            nonce="other",
            events=[
                event_fields(
                    sequence=2, turn_id="t1", create_time=live.record.create_time, item=message("x")
                )
            ],
            cursors={},
            epoch=1,
        )
        pods.database.commit([Create(history.path(late.position), late.fields())])
        request = events_pb2.WatchEventsRequest(parent=AGENT, after_sequence=2)

        response = await anext(first.events.WatchEvents(request, CONTEXT))

        assert [2] == [update.checkpoint.sequence for update in response.updates]

    async def test_a_process_does_not_rob_itself(
        self, first: Pod, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It may take a user again whom it could not give back in time."""
        session = first.sessions.find("ada")
        assert session is not None
        await first.ownership.acquire("ada", Nobody())

        assert ["NOT_OWNER"] == await reasons(session.lease.verify())

        assert "ERROR" not in {record.levelname for record in caplog.records}

    async def test_who_follows_what_has_ended_is_told(self, service: Service) -> None:
        """The agent may end between a call's answer and the next step."""
        live = await service.live()
        live.close(moved())

        source = live.follow(
            form=MessageEvents(), after_sequence=0, include_deltas=True, mark=lambda: None
        )

        source.take(1000, events_pb2.WatchEventsResponse())
        assert source.done


class TestDeliveries:
    async def test_a_turn_that_moved_on_is_not_cancelled_from_here(
        self, first: Pod, second: Pod, executor: FakeExecutor
    ) -> None:
        """Whoever has it now does that; an executor that is gone is not asked for ever."""
        await first.create_turn("t1")
        await executor.execution()
        executor.away = True
        await first.cancel_turn("t1")
        await until(lambda: "cancel" in executor.calls)

        await first.sessions.drain()

        asked = executor.calls.count("cancel")
        await asyncio.sleep(0.3)
        assert asked == executor.calls.count("cancel")


class TestDrain:
    async def test_a_user_who_was_being_opened_is_given_back(self, pods: Pods) -> None:
        """The process ends right after."""
        pod = await pods.start("one:1")
        pod.store.answers.clear()
        opening = asyncio.create_task(pod.sessions.session("ada"))
        await until(lambda: LEASE in pods.database.documents)
        drain = asyncio.create_task(pod.sessions.drain())
        await asyncio.sleep(0.01)
        pod.store.gate.clear()
        pod.store.answers.set()
        await until(lambda: pod.store.waiting > 0)
        await asyncio.sleep(0.01)
        pod.store.gate.set()

        await drain

        assert pods.database.documents[LEASE][0]["released"]
        await asyncio.wait([opening])
        assert opening.exception() is not None
