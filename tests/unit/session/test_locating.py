"""Tests of `SessionService.LocateWorkspace`: which executor has an agent's files."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from moorline.session.v1 import sessions_pb2
from services.chassis.failures import Failure, not_found
from services.chassis.identity import act_as
from tests.unit.session.fakes import FakeExecutor, FakeExecutors, FaultyStore
from tests.unit.session.service import (
    AGENT,
    BOB,
    CONTEXT,
    GATEWAY,
    Service,
    recorded_executor,
    until,
)

MakeService = Callable[[], Service]


async def locate(service: Service, name: str = AGENT) -> sessions_pb2.LocateWorkspaceResponse:
    """Ask where an agent's files are."""
    request = sessions_pb2.LocateWorkspaceRequest(name=name)
    return await service.session.LocateWorkspace(request, CONTEXT)


async def test_files_are_where_the_agent_ran_last(
    service: Service, executor: FakeExecutor, store: FaultyStore
) -> None:
    """Nothing is written to tell that."""
    executor.script = lambda execution: execution.end()
    await service.create_turn()
    await service.ended()
    commits = len(store.commits)

    located = await locate(service)

    assert "e1:1" == located.address
    assert executor.last.asked.workspace == located.workspace
    assert commits == len(store.commits)


async def test_files_are_where_the_agent_runs(
    service: Service, executors: FakeExecutors, executor: FakeExecutor
) -> None:
    """Although that is no summary yet."""
    await service.create_turn()
    await executor.execution()
    executors.unwilling = {"e1:1"}

    assert "e1:1" == (await locate(service)).address


@pytest.mark.usefixtures("both_willing")
async def test_an_agent_that_never_ran_is_placed(
    service: Service, executors: FakeExecutors, other: FakeExecutor, store: FaultyStore
) -> None:
    """For good, before anybody is told: its first turn runs there."""
    executors.unwilling = {"e1:1"}
    assert "e2:1" == (await locate(service)).address
    assert "e2:1" == await recorded_executor(store, AGENT)
    executors.unwilling = set()

    assert "e2:1" == (await locate(service)).address
    await service.create_turn()
    await other.execution()


@pytest.mark.usefixtures("both_willing")
async def test_the_next_process_knows_it_too(
    make_service: MakeService, executors: FakeExecutors
) -> None:
    """It is in the agent's document."""
    async with make_service() as service:
        await service.create_agent()
        executors.unwilling = {"e1:1"}
        await locate(service)
        executors.unwilling = set()

    async with make_service() as service:
        assert "e2:1" == (await locate(service)).address


async def test_who_asks_twice_at_once_is_told_when_it_is_durable(
    service: Service, store: FaultyStore
) -> None:
    """Neither of the two before."""
    await service.live()
    store.held.clear()
    first = service.tasks.spawn(locate(service), name="first")
    await until(lambda: store.commits != [] and "executor" in str(store.commits[-1]))
    second = service.tasks.spawn(locate(service), name="second")
    done = [first, second]
    for _ in range(20):
        await until(lambda: True)
    assert [False, False] == [task.done() for task in done]

    store.held.set()

    assert ["e1:1", "e1:1"] == [(await task).address for task in done]


async def test_an_executor_that_is_away_still_has_them(
    service: Service, executors: FakeExecutors, executor: FakeExecutor
) -> None:
    """Whoever asks it hears that it is; an empty folder elsewhere would be a lie."""
    await locate(service)
    executors.lose()

    assert "e1:1" == (await locate(service)).address


async def test_files_of_an_executor_that_is_gone_are_gone(
    service: Service, executors: FakeExecutors
) -> None:
    """The agent is placed anew."""
    await locate(service)
    executors.unwilling.clear()
    del executors.members["e1:1"]

    assert "e2:1" == (await locate(service)).address


async def test_without_an_executor_nothing_can_be_told(
    service: Service, executors: FakeExecutors
) -> None:
    """Not yet; nothing is recorded."""
    executors.unwilling = {"e1:1", "e2:1"}
    with pytest.raises(Failure) as caught:
        await locate(service)

    assert "SERVICE_UNAVAILABLE" == caught.value.reason_name
    assert "executor" == caught.value.metadata["service"]


@pytest.mark.parametrize("name", [AGENT, "users/ada/agents/none", "users/nobody/agents/none"])
async def test_anothers_agent_is_like_one_that_does_not_exist(service: Service, name: str) -> None:
    """Whether it exists or not, and also for a service that acts for nobody."""
    for caller in (BOB, GATEWAY):
        act_as(caller)
        with pytest.raises(Failure) as caught:
            await locate(service, name)

        assert not_found().to_error() == caught.value.to_error()
