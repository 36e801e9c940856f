"""Tests of `services.session.executors.links`, over real connections to several executors."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import TypeAlias

import pytest

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import executions_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.discovery import Discovery
from services.chassis.failures import Failure
from services.chassis.identity import Signer
from services.chassis.metrics import Metrics
from services.local.ports import free_port
from services.session.clock import DatabaseClock
from services.session.executors import link as executor_link
from services.session.executors.links import ExecutorLinks
from tests.unit.session.executors.servicer import KEY, Heard, Servicer, serving
from tests.unit.session.service import until

Fleet: TypeAlias = dict[str, Servicer]


class Name:
    """What a name stands for, in the test's hands."""

    def __init__(self, addresses: Iterable[str]) -> None:
        self.addresses = list(addresses)

    async def resolve(self, host: str, port: int) -> list[str]:
        """Look it up."""
        return self.addresses


@asynccontextmanager
async def linked(name: Name, *, unreachable: float = 20) -> AsyncIterator[ExecutorLinks]:
    """Open links to whatever a name stands for."""
    async with AsyncExitStack() as stack:
        discovery = Discovery(
            target="dns:///executors:1", period=timedelta(seconds=0.02), resolve=name.resolve
        )
        await stack.enter_async_context(discovery)
        links = ExecutorLinks(
            discovery=discovery,
            signer=Signer(key=KEY),
            metrics=Metrics(service="session"),
            clock=DatabaseClock(monotonic=time.monotonic),
            monotonic=time.monotonic,
            unreachable=timedelta(seconds=unreachable),
        )
        yield await stack.enter_async_context(links)


async def reached(links: ExecutorLinks, *addresses: str) -> None:
    """Wait until each address can be reached."""
    some = set(addresses)
    await until(lambda: all(links.place(preferred="", avoid=some - {one}) for one in some))


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    """Three executors that run, by address."""
    async with AsyncExitStack() as stack:
        fleet = {}
        for _ in range(3):
            servicer = Servicer()
            port = await stack.enter_async_context(serving(servicer))
            fleet[f"127.0.0.1:{port}"] = servicer
        yield fleet


@pytest.fixture
def name(fleet: Fleet) -> Name:
    """A name that stands for all of them."""
    return Name(fleet)


@pytest.fixture
async def links(fleet: Fleet, name: Name) -> AsyncIterator[ExecutorLinks]:
    """Links to all of them, which are open."""
    async with linked(name) as links:
        await reached(links, *fleet)
        yield links


class TestPlacing:
    async def test_the_preferred_one_is_taken(self, links: ExecutorLinks, fleet: Fleet) -> None:
        """However much it has to do."""
        for address in fleet:
            for number in range(5):
                await links.subscribe(address, f"e{number}", Heard())
                assert address == links.place(preferred=address)

    async def test_new_agents_are_spread(self, links: ExecutorLinks, fleet: Fleet) -> None:
        """Each executor gets its share although the choice is by chance."""
        for number in range(60):
            address = links.place(preferred="")
            await links.subscribe(address, f"e{number}", Heard())

        followed = Counter(len(servicer.cursors) for servicer in fleet.values())
        assert 60 == sum(count * times for count, times in followed.items())
        assert min(followed) >= 15

    async def test_one_that_joins_gets_a_fair_share_at_once(
        self, links: ExecutorLinks, fleet: Fleet
    ) -> None:
        """And the one with the most to do nothing for the moment."""
        busy, *others = fleet
        for number in range(20):
            await links.subscribe(busy, f"e{number}", Heard())

        chosen = Counter(links.place(preferred="") for _ in range(400))

        assert set(others) == set(chosen)
        assert min(chosen.values()) > 100

    async def test_what_must_be_avoided_is(self, links: ExecutorLinks, fleet: Fleet) -> None:
        """Also when it is preferred; and when nothing is left there is none."""
        first, second, third = fleet

        assert third == links.place(preferred=first, avoid={first, second})
        assert "" == links.place(preferred=first, avoid=set(fleet))

    @pytest.mark.parametrize(
        "reason", [errors_pb2.ERROR_REASON_DRAINING, errors_pb2.ERROR_REASON_EXECUTOR_CAPACITY]
    )
    async def test_one_that_refused_is_left_alone_for_a_moment(
        self,
        links: ExecutorLinks,
        fleet: Fleet,
        reason: errors_pb2.ErrorReason.ValueType,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Every turn learns from the refusal of one; then it is asked again."""
        first, *others = fleet
        fleet[first].refusal = Failure(reason, "no")

        async def ask(seconds: float) -> None:
            monkeypatch.setattr(executor_link, "_REFUSED_SECONDS", seconds)
            with pytest.raises(Failure) as raised:
                await links.create(first, "e1", executions_pb2.Execution())
            assert reason == raised.value.reason

        await ask(60)
        assert {links.place(preferred=first) for _ in range(50)} == set(others)
        await ask(0.05)
        await until(lambda: links.place(preferred=first) == first)

    async def test_one_that_left_is_not_chosen(
        self, links: ExecutorLinks, fleet: Fleet, name: Name
    ) -> None:
        """Although it can be reached still, and what runs there is followed on."""
        leaving, *staying = fleet
        heard = Heard()
        await links.subscribe(leaving, "e1", heard)
        name.addresses.remove(leaving)

        await until(lambda: links.place(preferred=leaving) in staying)
        fleet[leaving].say(executions_pb2.ExecutionUpdate())
        await until(lambda: heard.at == 1)
        await links.cancel(leaving, "e1")

    async def test_nothing_is_known_before_the_first_answer(self) -> None:
        """There is no place, which passes."""
        async with linked(Name([])) as links:
            assert "" == links.place(preferred="127.0.0.1:1")
            with pytest.raises(Failure) as raised:
                await links.delete_workspace("w1")

        assert "SERVICE_UNAVAILABLE" == raised.value.reason_name

    async def test_one_that_is_away_is_waited_for_shortly(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By those whose files it has; it may have restarted. New agents go elsewhere."""
        monkeypatch.setattr(executor_link, "_SHORT_SECONDS", 60)
        async with serving(Servicer()) as port:
            address, gone = f"127.0.0.1:{port}", "127.0.0.1:1"
            async with linked(Name([address, gone]), unreachable=240) as links:
                await reached(links, address)

                assert gone == links.place(preferred=gone)
                assert address == links.place(preferred="")
                monkeypatch.setattr(executor_link, "_SHORT_SECONDS", 0.05)
                await until(lambda: links.place(preferred=gone) == address)


class TestCalls:
    async def test_each_goes_to_the_executor_it_names(
        self, links: ExecutorLinks, fleet: Fleet
    ) -> None:
        """Whatever the others know."""
        decision = transcript_pb2.PermissionDecision(permission_id="p1")
        for address, servicer in fleet.items():
            servicer.calls.clear()
            await links.create(address, address, executions_pb2.Execution())
            await links.resolve(address, address, decision)
            await links.cancel(address, address)
            links.acknowledge(address, address, 3, at_once=True)
            await until(lambda servicer=servicer: len(servicer.calls) == 4)  # type: ignore[misc]

        for address, servicer in fleet.items():
            (_, created), (_, resolved), (_, cancelled), (_, acknowledged) = servicer.calls
            assert address == created.execution_id
            assert f"executions/{address}" == resolved.name == cancelled.name
            assert f"executions/{address}" == acknowledged.acknowledgements[0].name

    async def test_an_executor_nobody_discovers_is_dialled_all_the_same(self, fleet: Fleet) -> None:
        """A stored address is enough."""
        address, *others = fleet
        heard = Heard()
        async with linked(Name(others)) as links:
            await links.subscribe(address, "e1", heard)
            fleet[address].say(executions_pb2.ExecutionUpdate())
            await until(lambda: heard.at == 1)


class TestDeletingAWorkspace:
    async def test_every_executor_is_told(
        self, links: ExecutorLinks, fleet: Fleet, name: Name
    ) -> None:
        """Also one that leaves and can be reached still."""
        leaving = name.addresses.pop()
        await links.subscribe(leaving, "e1", Heard())
        await until(lambda: links.place(preferred=leaving) != leaving)

        await links.delete_workspace("w1")

        assert all(servicer.calls[-1][0] == "delete" for servicer in fleet.values())

    async def test_one_that_cannot_be_told_is_a_failure(self, fleet: Fleet) -> None:
        """The caller repeats it; those that were told do not mind."""
        async with linked(Name([*fleet, "127.0.0.1:1"])) as links:
            await reached(links, *fleet)
            with pytest.raises(Failure) as raised:
                await links.delete_workspace("w1")

        assert "SERVICE_UNAVAILABLE" == raised.value.reason_name
        assert all(servicer.calls[-1][0] == "delete" for servicer in fleet.values())

    async def test_one_that_leaves_and_refuses_does_not_matter(
        self, links: ExecutorLinks, fleet: Fleet, name: Name
    ) -> None:
        """Its files go with it."""
        leaving = name.addresses.pop()
        fleet[leaving].refusing = True
        await until(lambda: links.place(preferred=leaving) != leaving)

        await links.delete_workspace("w1")

        assert "delete" == fleet[leaving].calls[-1][0]


class TestAbandoning:
    async def test_it_is_cancelled_at_once(self, links: ExecutorLinks, fleet: Fleet) -> None:
        """An answer that it is not known is as good."""
        address = next(iter(fleet))
        fleet[address].refusing = True

        links.abandon(address, "e1")
        await until(lambda: [call for call, _ in fleet[address].calls] == ["cancel"])
        await asyncio.sleep(0.05)

        assert ["cancel"] == [call for call, _ in fleet[address].calls]

    async def test_one_that_is_away_is_told_when_it_is_back(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Everything that was given up meanwhile."""
        monkeypatch.setattr(executor_link, "_REPEAT_SECONDS", 0.05)
        port = free_port()
        address, servicer = f"127.0.0.1:{port}", Servicer()
        async with linked(Name([address])) as links:
            links.abandon(address, "e1")
            links.abandon(address, "e2")
            await asyncio.sleep(0.2)
            async with serving(servicer, port):
                await until(lambda: len(servicer.calls) >= 2)

        assert ["executions/e1", "executions/e2"] == [call.name for _, call in servicer.calls]

    async def test_one_that_stays_away_is_forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """After a while nothing is left to do for it."""
        monkeypatch.setattr(executor_link, "_REPEAT_SECONDS", 0.02)
        monkeypatch.setattr(executor_link, "_ABANDONED_SECONDS", 0.1)
        address = "127.0.0.1:1"
        async with linked(Name([address])) as links:
            await until(lambda: bool(links._pool.members()))
            link = links._pool.get(address)
            links.abandon(address, "e1")
            assert link.busy

            await until(lambda: not link.busy)
