"""Tests of `services.session.tickets`, through the door of the keys."""

from __future__ import annotations

import asyncio

import pytest

from moorline.session.v1 import keys_pb2
from services.chassis.failures import Failure
from services.chassis.identity import act_as
from tests.unit.session.fakes import FaultyStore
from tests.unit.session.service import ADA, CONTEXT, GATEWAY, Service
from tests.unit.session.shared import Pod, reasons

TICKET = "a" * 64
NOON = 1_800_000_000


async def redeem(
    service: Service, ticket: str = TICKET, redemption: str = "r1", *, end: int = NOON
) -> None:
    """Use a ticket up, as a gateway does."""
    request = keys_pb2.RedeemTicketRequest(ticket=ticket, redemption=redemption)
    request.expire_time.FromSeconds(end)
    act_as(GATEWAY)
    try:
        await service.keys.RedeemTicket(request, CONTEXT)
    finally:
        act_as(ADA)


async def test_one_use_counts_however_often_it_is_told(first: Pod, second: Pod) -> None:
    """Whichever process is asked."""
    await redeem(first)
    await redeem(second)

    assert ["TOKEN_INVALID"] * 2 == await reasons(
        redeem(first, redemption="r2"), redeem(second, redemption="r2")
    )
    await redeem(second, "b" * 64, "r2")


async def test_one_of_several_at_once_wins(first: Pod, second: Pod) -> None:
    """They never see each other."""
    uses = [redeem(pod, redemption=f"r{n}") for n, pod in enumerate((first, second) * 5)]
    results = await asyncio.gather(*uses, return_exceptions=True)

    assert 1 == results.count(None)
    assert 9 == sum(isinstance(result, Failure) for result in results)


async def test_a_lost_answer_uses_nothing_up(first: Pod) -> None:
    """The gateway asks again."""
    first.store.lost = 1
    assert ["STORE_UNAVAILABLE"] == await reasons(redeem(first))

    await redeem(first)


async def test_used_tickets_do_not_pile_up(service: Service, store: FaultyStore) -> None:
    """Those are forgotten that nobody takes for good any more, and no others."""
    for number in range(30):
        await redeem(service, f"{number:064x}", end=NOON + 10 * number)

    left = await store.read("tickets")
    assert 7 == len(left)
    assert f"{NOON + 230:012d}-{23:064x}" == left[0].id


@pytest.mark.parametrize(
    ("ticket", "redemption", "end", "field"),
    [
        ("x/y", "r1", NOON, "ticket"),
        ("A" * 64, "r1", NOON, "ticket"),
        (TICKET, "", NOON, "redemption"),
        (TICKET, "r" * 65, NOON, "redemption"),
        (TICKET, "r1", 0, "expire_time"),
    ],
)
async def test_malformed_requests_are_refused(
    service: Service, ticket: str, redemption: str, end: int, field: str
) -> None:
    """And name the field."""
    with pytest.raises(Failure) as raised:
        await redeem(service, ticket, redemption, end=end)

    assert field == raised.value.metadata["field"]


async def test_only_services_redeem(service: Service) -> None:
    """A user could use up another's."""
    request = keys_pb2.RedeemTicketRequest(ticket=TICKET, redemption="r1")
    request.expire_time.FromSeconds(NOON)

    assert ["FORBIDDEN"] == await reasons(service.keys.RedeemTicket(request, CONTEXT))
