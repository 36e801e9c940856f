"""Tests of `services.session.executors.link`, over real connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta

import grpc
import pytest

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import (
    executions_pb2,
)
from moorline.transcript.v1 import transcript_pb2
from services.chassis.client import Peer
from services.chassis.failures import Failure
from services.chassis.identity import Signer
from services.chassis.metrics import Metrics
from services.local.ports import free_port
from services.session.clock import DatabaseClock
from services.session.executors.clock import ExecutorClock
from services.session.executors.link import ExecutorLink
from tests.unit.session.executors.servicer import KEY, Heard, Servicer, Update, serving
from tests.unit.session.service import until


def now() -> datetime:
    """Return the database's time."""
    return datetime.now(UTC)


def make_link(port: int, *, unreachable: float = 20) -> ExecutorLink:
    """Return a link to a port, not open yet."""
    peer = Peer(
        service="executor",
        target=f"127.0.0.1:{port}",
        signer=Signer(key=KEY),
        metrics=Metrics(service="session"),
    )
    database = DatabaseClock(monotonic=time.monotonic)
    database.observe(now())
    clock = ExecutorClock(database=database, monotonic=time.monotonic)
    return ExecutorLink(peer=peer, clock=clock, unreachable=timedelta(seconds=unreachable))


@asynccontextmanager
async def linked(port: int, *, unreachable: float = 20) -> AsyncIterator[ExecutorLink]:
    """Open a link to a port."""
    link = make_link(port, unreachable=unreachable).open()
    try:
        yield link
    finally:
        await link.close()


@pytest.fixture
async def servicer() -> Servicer:
    """An executor that is not served yet."""
    return Servicer()


@pytest.fixture
async def link(servicer: Servicer) -> AsyncIterator[ExecutorLink]:
    """A link to an executor that runs."""
    async with serving(servicer) as port, linked(port) as link:
        yield link


async def test_calls_arrive_with_what_they_are_about(
    link: ExecutorLink, servicer: Servicer
) -> None:
    """Names are made of ids, and the service acts for itself."""
    decision = transcript_pb2.PermissionDecision(permission_id="p1", allowed=True)
    (await link.subscribe("e1", Heard())).close()
    servicer.calls.clear()

    await link.create("e1", executions_pb2.Execution(backend="docker"))
    await link.resolve("e1", decision)
    await link.cancel("e1", Failure(errors_pb2.ERROR_REASON_BUDGET_EXHAUSTED, "m", budget="month"))
    await link.delete_workspace("w1")

    (_, create), (_, resolve), (_, cancel), (_, delete) = servicer.calls
    assert ("e1", "docker") == (create.execution_id, create.execution.backend)
    assert ("executions/e1", decision) == (resolve.name, resolve.decision)
    assert ("executions/e1", "month") == (cancel.name, cancel.error.metadata["budget"])
    assert "workspaces/w1" == delete.name
    assert {"services/session"} == servicer.users


async def test_a_subscription_goes_on_from_the_listeners_position(
    link: ExecutorLink, servicer: Servicer
) -> None:
    """Then it hears what happens, until it is closed."""
    servicer.script += [Update(), Update(), Update()]
    heard = Heard(at=2)
    subscription = await link.subscribe("e1", heard)
    await until(lambda: heard.at == 3)
    servicer.say(Update())
    await until(lambda: heard.at == 4)

    subscription.close()
    subscription.close()

    await until(lambda: servicer.cursors[0].done)
    servicer.say(Update())
    await link.cancel("e1")
    assert 4 == heard.at
    assert [] == heard.ends


async def test_an_unknown_execution_cannot_be_followed(
    link: ExecutorLink, servicer: Servicer
) -> None:
    """The caller learns at once."""
    servicer.known = False

    with pytest.raises(Failure) as raised:
        await link.subscribe("e1", Heard())

    assert "RESOURCE_NOT_FOUND" == raised.value.reason_name


async def test_a_creation_is_not_sent_to_an_executor_that_is_away() -> None:
    """So that nothing was started for sure."""
    async with linked(1) as link:
        with pytest.raises(Failure) as raised:
            await link.create("e1", executions_pb2.Execution())

    assert "SERVICE_UNAVAILABLE" == raised.value.reason_name


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, "EXECUTION_LOST"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "EXECUTION_LOST"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED"),
    ],
)
async def test_a_creation_without_an_answer_may_have_started(
    link: ExecutorLink, servicer: Servicer, code: grpc.StatusCode, reason: str
) -> None:
    """Told apart from a refusal."""
    await link.subscribe("e1", Heard())
    servicer.status = code

    with pytest.raises(Failure) as raised:
        await link.create("e1", executions_pb2.Execution())

    assert reason == raised.value.reason_name


async def test_a_link_that_is_not_open_is_a_mistake() -> None:
    """It says what is missing."""
    with pytest.raises(RuntimeError):
        await make_link(1).subscribe("e1", Heard())


async def test_a_restarted_executor_ends_what_it_does_not_know(servicer: Servicer) -> None:
    """The listener hears that its execution is gone."""
    heard = Heard()
    async with AsyncExitStack() as stack:
        port = free_port()
        async with serving(servicer, port):
            link = await stack.enter_async_context(linked(port))
            await link.subscribe("e1", heard)
        fresh = Servicer(known=False)
        async with serving(fresh, port):
            await until(lambda: bool(heard.ends))

    assert "RESOURCE_NOT_FOUND" == heard.ends[0].reason_name
    assert 1 == heard.resets


async def test_an_executor_that_stays_away_is_given_up(servicer: Servicer) -> None:
    """Every listener hears it once; the link goes on trying for others."""
    heard = Heard()
    async with AsyncExitStack() as stack:
        async with serving(servicer) as port:
            link = await stack.enter_async_context(linked(port, unreachable=0.1))
            await link.subscribe("e1", heard)
        await until(lambda: bool(heard.ends))
        await asyncio.sleep(0.1)

    assert ["SERVICE_UNAVAILABLE"] == [failure.reason_name for failure in heard.ends]


async def test_times_are_the_databases_however_wrong_the_executors_clock_is(
    servicer: Servicer,
) -> None:
    """An event of an executor an hour ahead, or behind, happened when it did."""
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(serving(servicer))
        for hours in (1, -1, 0):
            servicer.clock_error = timedelta(hours=hours)
            servicer.script.clear()
            link = await stack.enter_async_context(linked(port))
            heard = Heard()
            await link.subscribe("e1", heard)
            update = Update()
            happened = now() - timedelta(minutes=10)
            update.event.create_time.FromDatetime(happened + servicer.clock_error)
            servicer.say(update)
            await until(lambda heard=heard: heard.at == 1)  # type: ignore[misc]

            shown = heard.news[0].event.create_time.ToDatetime(UTC)
            assert abs(shown - happened) < timedelta(seconds=15)


async def test_acknowledgements_are_joined(link: ExecutorLink, servicer: Servicer) -> None:
    """The first goes at once, those that follow quickly in one call, an outcome's at once."""
    link.acknowledge("e1", 1, at_once=False)
    await until(lambda: len(servicer.calls) == 1)
    for sequence in range(2, 50):
        link.acknowledge("e1", sequence, at_once=False)
        link.acknowledge("e2", sequence, at_once=False)
    link.acknowledge("e3", 7, at_once=True)
    await until(lambda: len(servicer.calls) == 2)

    acknowledgements = servicer.calls[1][1].acknowledgements
    assert {"executions/e1": 49, "executions/e2": 49, "executions/e3": 7} == {
        each.name: each.sequence for each in acknowledgements
    }


async def test_acknowledgements_without_hurry_wait_a_little(
    link: ExecutorLink, servicer: Servicer
) -> None:
    """And go out by themselves."""
    link.acknowledge("e1", 1, at_once=False)
    await until(lambda: len(servicer.calls) == 1)
    link.acknowledge("e1", 2, at_once=False)

    await until(lambda: len(servicer.calls) == 2)


async def test_more_acknowledgements_than_fit_go_out_in_several_calls(
    link: ExecutorLink, servicer: Servicer
) -> None:
    """The contract limits one call to a thousand."""
    for number in range(1500):
        link.acknowledge(f"e{number}", 1, at_once=True)

    await until(lambda: len(servicer.calls) == 2)
    assert [1000, 500] == [len(call.acknowledgements) for _, call in servicer.calls]


async def test_a_lost_acknowledgement_does_no_harm(link: ExecutorLink, servicer: Servicer) -> None:
    """The next one covers it."""
    servicer.refusing = True
    link.acknowledge("e1", 1, at_once=True)
    await until(lambda: len(servicer.calls) == 1)
    servicer.refusing = False

    link.acknowledge("e1", 2, at_once=True)

    await until(lambda: len(servicer.calls) == 2)
