"""Tests of `services.session.followed`: executions followed since their creation."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from moorline.executor.v1 import executions_pb2
from services.chassis.failures import Failure
from services.session.executors import link as executor_link
from services.session.executors.link import ExecutorLink
from tests.unit.session.executors.servicer import Heard, Servicer, Update, serving
from tests.unit.session.executors.test_link import linked
from tests.unit.session.service import until


@pytest.fixture
async def servicer() -> Servicer:
    """An executor that follows what it creates; it is not served yet."""
    return Servicer(follows=True, script=[Update(), Update()])


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody listens to yet is kept, however long a test takes to listen."""
    monkeypatch.setattr(executor_link, "_EARLY_SECONDS", 60)


@pytest.fixture
async def link(servicer: Servicer) -> AsyncIterator[ExecutorLink]:
    """A link to an executor that runs, which is connected."""
    async with serving(servicer) as port, linked(port) as link:
        await until(lambda: link.connected)
        yield link


async def create(link: ExecutorLink, execution_id: str = "e1") -> None:
    """Create an execution."""
    await link.create(execution_id, executions_pb2.Execution())


def kept(link: ExecutorLink) -> int:
    """Return how many updates are kept for the listener that will come."""
    return sum(len(updates) for updates in link._early["e1"]._early)


def subscribes(servicer: Servicer) -> int:
    """Return how many calls to subscribe there were."""
    return [name for name, _ in servicer.calls].count("subscribe")


async def test_creating_spares_the_call_to_follow(link: ExecutorLink, servicer: Servicer) -> None:
    """What comes before its listener is kept for it."""
    heard = Heard()
    await create(link)
    await until(lambda: kept(link) == 2)
    await link.subscribe("e1", heard)
    early = heard.at
    servicer.say(Update())
    await until(lambda: heard.at == 3)

    assert 2 == early
    assert 0 == subscribes(servicer)
    assert 1 == link.load


async def test_listener_further_on_follows_by_a_call(
    link: ExecutorLink, servicer: Servicer
) -> None:
    """Nothing is heard twice."""
    heard = Heard(at=1)
    await create(link)
    await link.subscribe("e1", heard)
    await until(lambda: heard.at == 2)

    assert 1 == len(heard.news)
    assert 1 == subscribes(servicer)
    await until(lambda: servicer.unsubscribed == [1])


async def test_executor_that_does_not_follow_is_asked_to(
    link: ExecutorLink, servicer: Servicer
) -> None:
    """As one of an earlier release."""
    servicer.follows = False
    heard = Heard()
    await create(link)
    await link.subscribe("e1", heard)
    await until(lambda: heard.at == 2)

    assert 1 == subscribes(servicer)


async def test_nobody_has_to_listen(
    link: ExecutorLink, servicer: Servicer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody asks for soon is followed no more, nor what is created again."""
    await create(link)
    monkeypatch.setattr(executor_link, "_EARLY_SECONDS", 0.05)
    await create(link)
    await until(lambda: len(servicer.unsubscribed) == 2)

    assert all(cursor.done for cursor in servicer.cursors)
    assert 0 == link.load


async def test_outcome_ends_it_without_a_call(link: ExecutorLink, servicer: Servicer) -> None:
    """The executor follows it no more by itself."""
    heard = Heard()
    await create(link)
    subscription = await link.subscribe("e1", heard)
    outcome = Update()
    outcome.event.item.turn_outcome.SetInParent()
    servicer.say(outcome)
    await until(lambda: heard.at == 3)
    subscription.close()
    await link.cancel("e1")

    assert [] == servicer.unsubscribed
    assert not link.load


async def test_break_before_anybody_listens_begins_anew(servicer: Servicer) -> None:
    """The listener hears each update once, and is not told of a reset."""
    heard = Heard()
    async with serving(servicer) as port, linked(port) as link:
        await until(lambda: link.connected)
        await create(link)
        await until(lambda: kept(link) == 2)
        servicer.break_feed()
        # What was kept is forgotten before it is asked for again.
        await until(lambda: len(servicer.cursors) == 2 and kept(link) == 2)
        await link.subscribe("e1", heard)

    assert (2, 0) == (heard.at, heard.resets)
    assert 1 == subscribes(servicer)


async def test_execution_that_is_gone_after_a_break_cannot_be_followed(servicer: Servicer) -> None:
    """The call to follow it tells why."""
    async with serving(servicer) as port, linked(port) as link:
        await until(lambda: link.connected)
        await create(link)
        servicer.known = False
        servicer.break_feed()
        await until(lambda: not link._early["e1"].open)
        with pytest.raises(Failure) as caught:
            await link.subscribe("e1", Heard())

    assert "RESOURCE_NOT_FOUND" == caught.value.reason_name
