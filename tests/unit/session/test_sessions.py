"""Tests of `services.session.sessions`, `session` and `deletion`: who is in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import agents_pb2
from services.chassis.failures import Failure
from services.chassis.identity import act_as
from services.session.agent_settings import AgentSettings
from services.session.forms import MessageEvents
from services.session.limits import Limits
from services.session.store import StoreConflict
from tests.unit.session.fakes import FakeExecutor, FaultyStore, store_unavailable, unavailable
from tests.unit.session.service import ADA, AGENT, BOB, CONTEXT, Service, until

Agent = agents_pb2.Agent
MakeService = Callable[[], Service]


async def delete(service: Service, name: str = AGENT, etag: str = "") -> None:
    """Delete an agent."""
    await service.agents.DeleteAgent(agents_pb2.DeleteAgentRequest(name=name, etag=etag), CONTEXT)


async def update(service: Service, *paths: str, **agent: object) -> Agent:
    """Update the agent."""
    request = agents_pb2.UpdateAgentRequest(agent=Agent(name=AGENT, **agent))  # type: ignore[arg-type]
    request.update_mask.paths.extend(paths)
    return (await service.agents.UpdateAgent(request, CONTEXT)).agent


def reason(raised: pytest.ExceptionInfo[Failure]) -> str:
    """Return a failure's reason."""
    return raised.value.reason_name


class TestCreateAgent:
    async def test_it_is_as_it_was_asked(self, service: Service) -> None:
        """What the server sets is set, what is not given has its default."""
        agent = await service.create_agent("a2", display_name="Two", instructions="be kind")

        assert "users/ada/agents/a2" == agent.name
        assert ("Two", "be kind", "") == (agent.display_name, agent.instructions, agent.backend)
        assert Agent.PERMISSION_MODE_ASK == agent.permission_mode
        assert Agent.STATE_IDLE == agent.state
        assert agent.create_time == agent.update_time == agent.activity_time
        assert agent.etag
        assert agent == await service.get_agent(agent.name)

    async def test_an_agent_without_an_id_gets_one(self, service: Service) -> None:
        """Each call makes another."""
        first, second = await service.create_agent(""), await service.create_agent("")

        assert first.name != second.name

    async def test_the_same_again_returns_the_first(self, service: Service) -> None:
        """Also after it was changed; other content is refused."""
        await service.create_agent("a2", display_name="Two")
        await service.create_agent("a2", display_name="Two")

        with pytest.raises(Failure) as raised:
            await service.create_agent("a2", display_name="Other")

        assert "RESOURCE_EXISTS" == reason(raised)
        assert {"resource": "users/ada/agents/a2"} == raised.value.metadata

    async def test_a_lost_answer_is_recognised(self, service: Service, store: FaultyStore) -> None:
        """The call again finds what the first one wrote, and only that."""
        store.after = [store_unavailable()]
        with pytest.raises(Failure):
            await service.create_agent("a2", display_name="Two")
        with pytest.raises(Failure) as raised:
            await service.create_agent("a2", display_name="Other")
        assert "RESOURCE_EXISTS" == reason(raised)

        assert "Two" == (await service.create_agent("a2", display_name="Two")).display_name

    async def test_agents_survive_a_restart(self, make_service: MakeService) -> None:
        """Settings are the same for the next process."""
        async with make_service() as service:
            agent = await service.create_agent("a2", display_name="Two", backend="docker")

        async with make_service() as service:
            assert agent == await service.get_agent(agent.name)
            assert agent == await service.create_agent("a2", display_name="Two", backend="docker")


class TestLimits:
    @pytest.fixture
    def limits(self) -> Limits:
        """Limits small enough to reach."""
        return Limits(agents=2, sessions=1, unreachable=timedelta(seconds=0.3))

    async def test_a_user_has_so_many_agents(self, service: Service) -> None:
        """One more is refused, until another is gone."""
        await service.create_agent("a2")

        with pytest.raises(Failure) as raised:
            await service.create_agent("a3")

        assert "QUOTA_EXCEEDED" == reason(raised)
        assert {"limit": "2", "limitName": "agents"} == raised.value.metadata
        await delete(service)
        await service.create_agent("a3")

    async def test_a_full_service_refuses_another_session(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """While every session is busy; an idle one makes room."""
        await service.create_turn()
        await executor.execution()
        with pytest.raises(Failure) as raised:
            await service.sessions.session("bob")
        assert "SESSION_CAPACITY" == reason(raised)
        assert raised.value.retry_delay
        executor.last.end()
        await service.ended()

        await service.sessions.session("bob")

        assert 1 == len(service.sessions)
        assert 1 == service.metric("moorline_sessions")

    async def test_work_is_taken_up_although_there_is_no_room(
        self, make_service: MakeService, executor: FakeExecutor
    ) -> None:
        """Turns of more users than fit are not forgotten at a restart."""
        async with make_service() as service:
            for user in (ADA, BOB):
                act_as(user)
                session = await service.sessions.session(user.user[6:], admit=True)
                await session.create("a1", AgentSettings())
                agent = await session.agent("a1")
                await agent.create_turn("t1", "hello")
        executor.executions.clear()

        async with make_service() as service:
            assert 2 == len(service.sessions)


class TestUpdateAgent:
    async def test_only_what_the_mask_names_changes(self, service: Service) -> None:
        """And the etag with it."""
        before = await service.get_agent()

        after = await update(service, "display_name", display_name="New", instructions="no")

        assert ("New", "") == (after.display_name, after.instructions)
        assert before.etag != after.etag
        assert before.update_time.ToDatetime() < after.update_time.ToDatetime()
        assert after == await service.get_agent()

    async def test_everything_can_be_changed_and_lasts(self, make_service: MakeService) -> None:
        """The next process knows."""
        async with make_service() as service:
            await service.create_agent()
            changed = await update(
                service,
                *("display_name", "instructions", "backend", "permission_mode"),
                display_name="New",
                instructions="be kind",
                backend="docker",
                permission_mode=Agent.PERMISSION_MODE_ACCEPT_EDITS,
            )

        async with make_service() as service:
            assert changed == await service.get_agent()
        assert Agent.PERMISSION_MODE_ACCEPT_EDITS == changed.permission_mode

    async def test_a_stale_etag_is_refused(self, service: Service) -> None:
        """Of two that read the same, the second must read again."""
        etag = (await service.get_agent()).etag
        await update(service, "display_name", display_name="1", etag=etag)

        with pytest.raises(Failure) as raised:
            await update(service, "display_name", display_name="2", etag=etag)

        assert "ETAG_MISMATCH" == reason(raised)

    async def test_a_running_turn_and_an_update_do_not_fence_each_other(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """Both write the agent's document, through the same log."""
        await service.create_turn()
        execution = await executor.execution()
        changed = asyncio.ensure_future(update(service, "display_name", display_name="New"))
        execution.end(conversation="c1")
        await changed
        await service.ended()

        agent = await service.get_agent()
        assert ("New", 2) == (agent.display_name, agent.head_sequence)


class TestDeleteAgent:
    async def test_nothing_is_left(
        self, service: Service, store: FaultyStore, executor: FakeExecutor
    ) -> None:
        """Documents, turns, events, work and files are gone."""
        await service.create_turn("t1")
        await service.create_turn("t2")
        execution = await executor.execution()

        await delete(service)

        await until(lambda: executor.deleted == [execution.asked.workspace.rpartition("/")[2]])
        for collection in ("log", "turns", "order"):
            assert [] == await store.read(f"{AGENT}/{collection}")
        assert await store.get(AGENT) is None
        await until_empty(store)
        assert 0 == service.metric("moorline_turns_queued")
        with pytest.raises(Failure) as raised:
            await service.get_agent()
        assert "RESOURCE_NOT_FOUND" == reason(raised)

    async def test_a_later_agent_of_the_name_is_another(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """It has no history, other files, and may use the same turn ids."""
        await service.create_turn()
        first = await executor.execution()
        await delete(service)

        await service.create_agent()
        await service.create_turn()
        second = await executor.execution(2)

        assert first.asked.workspace != second.asked.workspace
        assert first.id != second.id
        assert ["user_message"] == await service.kinds()

    async def test_a_stale_etag_is_refused(self, service: Service) -> None:
        """The agent stays."""
        with pytest.raises(Failure) as raised:
            await delete(service, etag="old")

        assert "ETAG_MISMATCH" == reason(raised)
        await delete(service, etag=(await service.get_agent()).etag)

    async def test_who_follows_is_told(self, service: Service) -> None:
        """A subscription to the agent ends, as for one that never was."""
        agent = await service.live()
        source = agent.follow(
            form=MessageEvents(), after_sequence=0, include_deltas=True, mark=lambda: None
        )

        await delete(service)

        assert source.failure is not None
        assert "RESOURCE_NOT_FOUND" == source.failure.reason_name

    async def test_a_call_that_waits_is_not_found(
        self, service: Service, store: FaultyStore
    ) -> None:
        """A prompt that meets a deletion is told so."""
        store.held.clear()
        creating = asyncio.ensure_future(service.create_turn())
        agent = await service.live()
        await until(lambda: bool(agent.unfinished()))
        deleting = asyncio.ensure_future(delete(service))
        await asyncio.sleep(0.01)
        store.held.set()
        await deleting

        results = await asyncio.gather(creating, return_exceptions=True)

        assert not isinstance(results[0], asyncio.CancelledError)
        with pytest.raises(Failure):
            await service.get_turn()

    async def test_a_store_that_is_away_keeps_the_agent(
        self, service: Service, store: FaultyStore, executor: FakeExecutor
    ) -> None:
        """Nothing is half deleted, and its turn goes on."""
        await service.create_turn()
        execution = await executor.execution()
        store.before = [store_unavailable()]

        with pytest.raises(Failure) as raised:
            await delete(service)

        assert "STORE_UNAVAILABLE" == reason(raised)
        await until(lambda: bool(execution.listeners))
        execution.end()
        await service.ended()

    async def test_another_writer_is_noticed(self, service: Service, store: FaultyStore) -> None:
        """The call is made again on what is there now."""
        store.before = [StoreConflict(AGENT)]

        await delete(service)

        assert await store.get(AGENT) is None

    async def test_a_tombstone_whose_answer_was_lost_is_recognised(
        self, service: Service, store: FaultyStore
    ) -> None:
        """The next call finishes what the first one began."""
        store.after = [store_unavailable()]
        with pytest.raises(Failure):
            await delete(service)

        await delete(service)

        assert await store.get(AGENT) is None

    async def test_documents_are_removed_however_long_the_store_is_away(
        self, service: Service, store: FaultyStore, executor: FakeExecutor
    ) -> None:
        """Once the tombstone is there, the agent is gone for its user."""
        await service.create_turn()
        await executor.execution()

        # The first read is for the tombstone, the next are for what it has.
        store.missing[AGENT] = [False, True, True]

        await delete(service)

        assert await store.get(AGENT) is None

    @pytest.mark.parametrize("commits", range(1, 6))
    async def test_a_crash_at_any_step_is_finished_by_the_next_process(
        self,
        make_service: MakeService,
        store: FaultyStore,
        executor: FakeExecutor,
        commits: int,
    ) -> None:
        """Tombstone first, document last, files after it."""
        async with make_service() as service:
            await service.create_agent()
            await service.create_turn()
            await executor.execution()
            before = len(store.commits)
            deleting = asyncio.ensure_future(delete(service))
            await until(lambda: len(store.commits) >= before + commits)
            store.held.clear()
            await asyncio.sleep(0.01)
        deleting.cancel()
        await asyncio.gather(deleting, return_exceptions=True)
        await asyncio.sleep(0.01)
        store.held.set()
        executor.executions.clear()

        async with make_service() as service:
            if await store.get(AGENT) is not None:
                await delete(service)
            await until(lambda: len(executor.deleted) >= 1)
            for collection in ("log", "turns", "order"):
                assert [] == await store.read(f"{AGENT}/{collection}")
            await until_empty(store)

    async def test_files_are_deleted_when_the_executor_is_back(
        self, service: Service, executor: FakeExecutor, store: FaultyStore
    ) -> None:
        """The call does not wait for that."""
        executor.failures["delete_workspace"] = [unavailable()]

        await delete(service)

        await until(lambda: len(executor.deleted) == 1)
        await until_empty(store)

    async def test_files_that_cannot_be_deleted_are_tried_at_the_next_start(
        self, make_service: MakeService, executor: FakeExecutor, store: FaultyStore
    ) -> None:
        """A refusal is logged, and the work entry stays."""
        internal = Failure(errors_pb2.ERROR_REASON_INTERNAL, "disk")
        async with make_service() as service:
            await service.create_agent()
            executor.failures["delete_workspace"] = [internal]
            await delete(service)
            await until(lambda: "delete_workspace" in executor.calls and not service_busy(service))
        assert 1 == len(await store.read("work"))

        async with make_service() as service:
            await service.create_agent()
            await service.create_turn()
            await until_length(store, 1)
            assert 1 == len(executor.deleted)
            assert ["user_message"] == await service.kinds()


class TestEviction:
    @pytest.fixture
    def limits(self) -> Limits:
        """Limits with a short memory."""
        return Limits(idle=timedelta(seconds=0.02), unreachable=timedelta(seconds=0.3))

    async def test_an_idle_session_leaves_and_comes_back_unnoticed(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """What it knew comes from the store again."""
        executor.script = lambda execution: execution.end()
        await service.create_turn()
        await service.ended()
        agent = await service.get_agent()
        await until(lambda: len(service.sessions) == 0)
        assert 0 == service.metric("moorline_sessions")

        assert agent.head_sequence == (await service.get_agent()).head_sequence
        assert ["user_message", "turn_outcome"] == await service.kinds()

    async def test_work_and_followers_keep_it(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """A running turn, a followed agent and a followed list stay in memory."""
        await service.create_turn()
        execution = await executor.execution()
        await asyncio.sleep(0.06)
        assert 1 == len(service.sessions)
        execution.end()
        await service.ended()
        agent = await service.live()
        source = agent.follow(
            form=MessageEvents(), after_sequence=0, include_deltas=True, mark=lambda: None
        )
        await asyncio.sleep(0.06)
        assert agent is await service.live()
        source.close()

        await until(lambda: len(service.sessions) == 0)

    async def test_an_agent_leaves_while_its_session_stays(self, service: Service) -> None:
        """Only the list is followed."""
        agent = await service.live()
        session = await service.sessions.session("ada")

        class Follower:
            """Follows and does not care."""

            def changed(self, agent_id: str) -> None:
                """Hear of a change."""

            def end(self, failure: Failure) -> None:
                """Hear of the end."""

        follower = Follower()
        session.follow(follower)
        await until(lambda: not session._live())
        assert 1 == len(service.sessions)

        session.leave(follower)
        session.leave(follower)
        assert agent is not await service.live()


class TestStart:
    async def test_it_can_be_repeated_when_the_store_is_away(
        self, make_service: MakeService, store: FaultyStore
    ) -> None:
        """A failed start leaves a service that can start again."""
        async with make_service() as service:
            store.unreadable = [store_unavailable()]
            with pytest.raises(Failure):
                await service.sessions.start()
            await service.sessions.start()

    async def test_a_session_that_could_not_be_loaded_is_tried_again(
        self, service: Service, store: FaultyStore
    ) -> None:
        """The second call finds the store back."""
        store.unreadable = [store_unavailable()]
        with pytest.raises(Failure):
            await service.sessions.session("bob")

        await service.sessions.session("bob")

    async def test_loading_happens_once(self, service: Service, store: FaultyStore) -> None:
        """However many calls come at once."""
        sessions = await asyncio.gather(*(service.sessions.session("bob") for _ in range(10)))
        agents = await asyncio.gather(*(service.live() for _ in range(10)))

        assert 1 == len(set(map(id, sessions))) == len(set(map(id, agents)))


class TestDrain:
    async def test_commits_in_flight_finish_and_executions_are_left_alone(
        self, make_service: MakeService, store: FaultyStore, executor: FakeExecutor
    ) -> None:
        """The next process goes on; nothing is cancelled."""
        async with make_service() as service:
            await service.create_agent()
            await service.create_turn()
            execution = await executor.execution()
            store.held.clear()
            execution.call_tool()
            draining = asyncio.ensure_future(service.sessions.drain())
            await asyncio.sleep(0.01)
            assert not draining.done()
            store.held.set()
            await draining
        assert 0 == execution.cancellations
        assert {execution.id: 1} == executor.acknowledged
        execution.end()

        async with make_service() as service:
            await service.ended()
            assert ["user_message", "tool_call", "turn_outcome"] == await service.kinds()

    async def test_an_outcome_in_flight_does_not_start_the_next_turn(
        self, make_service: MakeService, store: FaultyStore, executor: FakeExecutor
    ) -> None:
        """The process that comes next starts it."""
        async with make_service() as service:
            await service.create_agent()
            await service.create_turn("t1")
            await service.create_turn("t2")
            execution = await executor.execution()
            store.held.clear()
            execution.end()
            draining = asyncio.ensure_future(service.sessions.drain())
            await asyncio.sleep(0.01)
            store.held.set()
            await draining
            assert 1 == len(executor.created)
        executor.script = lambda execution: execution.end()

        async with make_service() as service:
            await service.ended("t2")


def service_busy(service: Service) -> bool:
    """Return whether a workspace is being deleted."""
    return any(task.get_name() == "delete-workspace" for task in asyncio.all_tasks())


async def until_length(store: FaultyStore, length: int) -> None:
    """Wait until the work list has so many entries."""

    async def done() -> bool:
        return len(await store.read("work")) == length

    await until(done)


async def until_empty(store: FaultyStore) -> None:
    """Wait until nothing is left to do."""
    await until_length(store, 0)
