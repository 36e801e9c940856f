"""Tests of `services.session.agent_deletion`: nothing is left, whatever dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import agents_pb2
from services.chassis.failures import Failure
from services.session.forms import MessageEvents
from services.session.store import StoreConflict
from tests.unit.session.fakes import FakeExecutor, FaultyStore, store_unavailable, unavailable
from tests.unit.session.service import AGENT, CONTEXT, Service, until

MakeService = Callable[[], Service]


async def delete(service: Service, name: str = AGENT, etag: str = "") -> None:
    """Delete an agent."""
    await service.agents.DeleteAgent(agents_pb2.DeleteAgentRequest(name=name, etag=etag), CONTEXT)


def reason(raised: pytest.ExceptionInfo[Failure]) -> str:
    """Return a failure's reason."""
    return raised.value.reason_name


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

    @pytest.mark.parametrize("commits", range(1, 4))
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
