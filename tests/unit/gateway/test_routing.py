"""Tests of `services.gateway.routing`."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from services.chassis.failures import Failure, not_found
from services.gateway.routing import SEVERED_SECONDS, Owners, Router
from tests.unit.gateway.fake_pods import (
    FakePods,
    failure,
    not_owner,
    recording,
)

ADA = "users/ada"


def now() -> float:
    """The loop's time, in seconds."""
    return asyncio.get_running_loop().time()


async def routed(
    router: Router, user: str = ADA, *, seconds: float = 5, **options: Any
) -> tuple[list[str], str]:
    """Make a call; whom it asked, and the answer or the reason of the failure."""
    asked: list[str] = []
    time_left = timedelta(seconds=seconds)
    try:
        answer = await router.route(user, recording(asked), timeout=time_left, **options)
    except Failure as refusal:
        return asked, refusal.reason_name
    return asked, answer


class TestChoice:
    """Whom a call asks first."""

    async def test_every_gateway_makes_the_same_choice(self) -> None:
        """By the user and what is discovered; the users spread over the pods."""
        one, two = FakePods("a:1", "b:1", "c:1"), FakePods("c:1", "b:1", "a:1")
        users = [f"users/u{number}" for number in range(60)]
        first = [await routed(Router(pods=one), user) for user in users]
        second = [await routed(Router(pods=two), user) for user in users]

        assert first == second
        assert {"a:1", "b:1", "c:1"} == {answer for _, answer in first}

    async def test_the_owner_found_is_remembered(self) -> None:
        """Also when another pod joins that would be chosen now."""
        pods = FakePods("a:1")
        router = Router(pods=pods)
        await routed(router)
        for number in range(9):
            pods.join(f"j{number}:1")
        asked, _ = await routed(router)

        assert "a:1" != pods.order(ADA)[0].address
        assert ["a:1"] == asked

    async def test_what_any_pod_can_answer_is_not_remembered(self) -> None:
        """It says nothing about where a user is."""
        pods = FakePods("a:1", "b:1")
        router = Router(pods=pods)
        asked, _ = await routed(router, remember=False)

        assert [pods.order(ADA)[0].address] == asked
        assert 0 == len(router.owners)

    async def test_pods_that_are_not_there_are_asked_last(self) -> None:
        """Whoever is connected comes first, then whoever may just be starting."""
        pods = FakePods("a:1", "b:1", "c:1")
        first, second, third = pods.order(ADA)
        first.go()
        second.connected = False
        third.answers = [failure("SERVICE_UNAVAILABLE"), "never"]
        asked, answer = await routed(Router(pods=pods))

        assert [third.address, second.address] == asked
        assert second.address == answer

    async def test_an_owner_that_is_gone_is_not_asked(self) -> None:
        """As long as another one is there."""
        pods = FakePods("a:1", "b:1")
        router = Router(pods=pods)
        _, owner = await routed(router)
        pods[owner].go()
        asked, answer = await routed(router)

        assert [answer] == asked
        assert owner != answer

    async def test_a_full_pod_is_not_chosen_for_others_for_a_while(self) -> None:
        """But those who are there already are served there."""
        pods = FakePods("a:1", "b:1")
        router = Router(pods=pods)
        _, full = await routed(router)
        names = [f"users/u{number}" for number in range(20)]
        users = [user for user in names if pods.order(user)[0].address == full]
        pods[full].answers = [failure("SESSION_CAPACITY"), full]
        await routed(router, users[0])
        asked, answer = await routed(router, users[1])
        mine, _ = await routed(router)

        assert [answer] == asked
        assert full != answer
        assert [full] == mine


class TestRedirects:
    """Calls that are sent on."""

    async def test_a_redirect_is_followed_at_once(self) -> None:
        """Also to an address that is not discovered; the next call goes there."""
        pods = FakePods("a:1", "b:1")
        pods.order(ADA)[0].answers = [not_owner("c:9")]
        router = Router(pods=pods)
        begin = now()
        asked, answer = await routed(router)
        again, _ = await routed(router)

        assert [pods.order(ADA)[0].address, "c:9"] == asked
        assert "c:9" == answer
        assert ["c:9"] == again
        assert begin == now()

    async def test_a_loop_of_redirects_waits_for_the_pods_to_agree(self) -> None:
        """After three hops, and again and again until the time is up."""
        pods = FakePods("a:1", "b:1")
        first, second = pods.order(ADA)
        first.answers = [not_owner(second.address)] * 3 + [first.address]
        second.answers = [not_owner(first.address)]
        begin = now()
        asked, answer = await routed(Router(pods=pods))

        assert first.address == answer
        assert 0.02 < now() - begin < 1
        assert [first.address, second.address] * 2 == asked[:4]

    async def test_a_loop_without_end_ends_with_the_time(self) -> None:
        """As unavailable: whose fault it is means nothing to a client."""
        pods = FakePods("a:1", "b:1")
        pods["a:1"].answers = [not_owner("b:1")]
        pods["b:1"].answers = [not_owner("a:1")]
        asked, answer = await routed(Router(pods=pods), seconds=0.3)

        assert "SERVICE_UNAVAILABLE" == answer
        assert 4 < len(asked) < 20

    async def test_a_pod_that_can_name_nobody_is_asked_again(self) -> None:
        """After the delay it names."""
        pods = FakePods("a:1")
        pods["a:1"].answers = [failure("NOT_OWNER", retry_delay=timedelta(seconds=0.2)), "done"]
        begin = now()
        asked, answer = await routed(Router(pods=pods))

        assert (2, "done") == (len(asked), answer)
        assert 0.1 <= now() - begin < 0.5

    async def test_a_dead_owner_is_waited_for_where_it_is_named(self) -> None:
        """Until the pod that named it may take the user over; it is not dialled."""
        pods = FakePods("a:1", "b:1")
        dead, alive = pods.order(ADA)
        router = Router(pods=pods)
        await routed(router)
        dead.go()
        alive.answers = [not_owner(dead.address)] * 3 + [alive.address]
        asked, answer = await routed(router)

        assert alive.address == answer
        assert [alive.address] * 4 == asked


class TestFailures:
    """Calls that fail on the way."""

    @pytest.mark.parametrize(
        "reason", ["SESSION_CAPACITY", "DRAINING", "SERVICE_UNAVAILABLE", "STORE_UNAVAILABLE"]
    )
    async def test_what_passes_leads_to_the_next_choice(self, reason: str) -> None:
        """At once, and the owner is forgotten."""
        pods = FakePods("a:1", "b:1", "c:1")
        router = Router(pods=pods)
        await routed(router)
        first, second, _ = pods.order(ADA)
        first.answers = [failure(reason)]
        begin = now()
        asked, answer = await routed(router)

        assert [first.address, second.address] == asked
        assert second.address == answer == router.owners.get(ADA)
        assert begin == now()

    async def test_an_answer_is_an_answer(self) -> None:
        """Whatever does not pass is the client's."""
        pods = FakePods("a:1", "b:1")
        pods.order(ADA)[0].answers = [not_found()]

        assert (1, "RESOURCE_NOT_FOUND") == (
            len((result := await routed(Router(pods=pods)))[0]),
            result[1],
        )

    async def test_an_executor_that_is_away_is_an_answer_too(self) -> None:
        """Another pod of the session service would say the same."""
        pods = FakePods("a:1", "b:1")
        pods.order(ADA)[0].answers = [failure("SERVICE_UNAVAILABLE", service="executor")]
        asked, answer = await routed(Router(pods=pods))

        assert (1, "SERVICE_UNAVAILABLE") == (len(asked), answer)

    async def test_a_pod_that_says_nothing_is_given_up(self) -> None:
        """Also where another one sends the call back to it, while it stays silent."""
        pods = FakePods("a:1", "b:1")
        silent, other = pods.order(ADA)
        silent.answers = [None]
        other.answers = [not_owner(silent.address), not_owner(silent.address), "taken over"]
        begin = now()
        asked, answer = await routed(Router(pods=pods, silent_seconds=0.2))

        assert [silent.address, other.address, other.address, other.address] == asked
        assert "taken over" == answer
        assert 0.2 <= now() - begin < 1

    async def test_a_pod_that_is_alive_may_take_its_time(self) -> None:
        """Its feed says so: the call goes on until its own deadline."""
        pods = FakePods("a:1")
        router = Router(pods=pods, silent_seconds=0.1)
        call = asyncio.create_task(routed(router, seconds=0.5))
        pods["a:1"].answers = [None]
        for _ in range(8):
            await asyncio.sleep(0.05)
            pods["a:1"].heard = now()
            assert not call.done()

        assert (["a:1"], "CALL_TIMEOUT") == await call

    async def test_all_pods_full_is_told_soon(self) -> None:
        """Not after the whole deadline; room comes by itself only seldom."""
        pods = FakePods("a:1", "b:1")
        for pod in pods.by_address.values():
            pod.answers = [failure("SESSION_CAPACITY", limit="30")]
        begin = now()
        asked, answer = await routed(Router(pods=pods, short_seconds=0.3))

        assert "SESSION_CAPACITY" == answer
        assert {"a:1", "b:1"} == set(asked)
        assert now() - begin < 0.4

    async def test_a_store_that_is_away_is_told_soon(self) -> None:
        """Also when a pod that does not answer at all was asked last."""
        pods = FakePods("a:1", "b:1")
        first, second = pods.order(ADA)
        first.answers = [failure("STORE_UNAVAILABLE")]
        second.answers = [None]
        begin = now()
        _, answer = await routed(Router(pods=pods, short_seconds=0.3))

        assert "STORE_UNAVAILABLE" == answer
        assert now() - begin < 0.5

    async def test_what_failed_before_says_more_than_that_the_time_is_up(self) -> None:
        """The last attempt is cut short by the end of the call, not by its pod."""
        pods = FakePods("a:1")
        pods["a:1"].answers = [failure("SERVICE_UNAVAILABLE"), None]

        assert (["a:1"] * 2, "SERVICE_UNAVAILABLE") == await routed(Router(pods=pods), seconds=0.2)

    async def test_without_any_pod_it_waits_for_one(self) -> None:
        """A name that has no address yet, or a service that restarts."""
        pods = FakePods()
        call = asyncio.create_task(routed(Router(pods=pods)))
        await asyncio.sleep(0.1)
        pods.join("a:1")

        assert (["a:1"], "a:1") == await call

    async def test_without_any_pod_it_fails_in_the_end(self) -> None:
        """As a call to a service that is not there."""
        _, answer = await routed(Router(pods=FakePods()), seconds=0.2)

        assert "SERVICE_UNAVAILABLE" == answer

    @pytest.mark.parametrize(
        ("reason", "calls"),
        [("SERVICE_UNAVAILABLE", 1), ("CALL_TIMEOUT", 1), ("DRAINING", 2), ("NOT_OWNER", 2)],
    )
    async def test_what_must_not_be_repeated_is_not(self, reason: str, calls: int) -> None:
        """Unless the pod surely did nothing."""
        pods = FakePods("a:1", "b:1")
        first, second = pods.order(ADA)
        first.answers = [failure(reason, **({"address": second.address} if calls == 2 else {}))]
        asked, answer = await routed(Router(pods=pods), repeat=False)

        assert calls == len(asked)
        assert (reason if calls == 1 else second.address) == answer


class TestSevered:
    """An owner that only this gateway cannot reach."""

    @pytest.mark.parametrize(("seconds", "told"), [(SEVERED_SECONDS, True), (14, False)])
    async def test_whose_owner_lives_out_of_reach_is_told_of(
        self, seconds: float, told: bool
    ) -> None:
        """Were it dead, another pod would have become the owner by then."""
        pods, severed = FakePods("a:1", "b:1"), set[str]()
        first, second = pods.order(ADA)
        second.go()
        second.away_seconds = seconds
        first.answers = [not_owner(second.address)]
        router = Router(pods=pods, on_severed=severed.add)
        _, answer = await routed(router, seconds=0.2)
        await routed(router, "users/key", seconds=0.2, remember=False)

        assert "SERVICE_UNAVAILABLE" == answer
        assert ({ADA} if told else set()) == severed


def test_the_memory_is_bounded() -> None:
    """Who was not looked for the longest is forgotten first."""
    owners = Owners(size=2)
    for user, address in (("a", "1"), ("b", "1"), ("a", "2"), ("c", "3")):
        owners.put(user, address)
    owners.forget("c", "other")

    assert [("a", "2"), ("c", "3")] == owners.items()
    assert ("", 2) == (owners.get("b"), len(owners))
    owners.forget("c", "3")
    assert "" == owners.get("c")
