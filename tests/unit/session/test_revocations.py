"""Tests of `services.session.revocations`, through the door of the keys."""

from __future__ import annotations

from moorline.session.v1 import keys_pb2
from services.chassis.identity import act_as
from services.session.revocations import LISTED
from services.session.store import Create
from tests.unit.session.fakes import FaultyStore
from tests.unit.session.service import ADA, CONTEXT, GATEWAY, Service
from tests.unit.session.shared import Pod, Pods, reasons
from tests.unit.session.test_keys import create, revoke


async def ask(
    service: Service, before: keys_pb2.ListRevocationsResponse | None = None
) -> keys_pb2.ListRevocationsResponse:
    """Ask what was revoked since the answer before, as a gateway does."""
    request = keys_pb2.ListRevocationsRequest()
    if before is not None:
        request.since_time.CopyFrom(before.time)
    act_as(GATEWAY)
    try:
        return await service.keys.ListRevocations(request, CONTEXT)
    finally:
        act_as(ADA)


async def test_every_process_tells_what_was_revoked_at_any(first: Pod, second: Pod) -> None:
    """Again for a minute, because what is committed late may bear an earlier time."""
    name, _ = await create(first)
    kept, _ = await create(first)
    begin = await ask(second)
    await revoke(first, name)
    found = await ask(second, begin)
    again = await ask(second, found)

    assert ([name], False) == (list(found.keys), found.incomplete)
    assert ([name], False) == (list(again.keys), again.incomplete)
    assert kept not in found.keys


async def test_after_a_minute_it_is_told_no_more(pods: Pods, first: Pod) -> None:
    """Whoever asks that late has heard of it or knows that it has not heard all."""
    name, _ = await create(first)
    begin = await ask(first)
    await revoke(first, name)
    pods.pass_time(61)
    late = await ask(first, begin)
    pods.pass_time(1)

    assert [name] == list(late.keys)
    assert [] == list((await ask(first, late)).keys)


async def test_who_asks_first_or_after_long_may_have_missed_some(pods: Pods, first: Pod) -> None:
    """Also whoever has asked a database that was put back in time since."""
    begin = await ask(first)
    assert begin.incomplete
    pods.pass_time(3600)
    assert (await ask(first, begin)).incomplete
    ahead = await ask(first)
    ahead.time.seconds += 3600

    assert (await ask(first, ahead)).incomplete


async def test_more_than_can_be_named_is_said(service: Service, store: FaultyStore) -> None:
    """The answer stays bounded."""
    begin = await ask(service)
    soon = begin.time.seconds + 5
    for number in range(LISTED):
        path = f"revocations/{soon * 1_000_000 + number:018d}-k"
        await store.inner.commit([Create(path, {"key": f"users/ada/keys/k{number}"})])
    found = await ask(service, begin)

    assert LISTED == len(found.keys)
    assert found.incomplete


async def test_a_revocation_whose_answer_was_lost_is_told(first: Pod) -> None:
    """It was committed with the key, or neither was."""
    name, _ = await create(first)
    begin = await ask(first)
    first.store.lost = 1
    assert ["STORE_UNAVAILABLE"] == await reasons(revoke(first, name))

    assert [name] == list((await ask(first, begin)).keys)


async def test_old_revocations_do_not_pile_up(pods: Pods, first: Pod) -> None:
    """They are forgotten after an hour, when another comes."""
    for _ in range(30):
        name, _ = await create(first)
        await revoke(first, name)
        pods.pass_time(590)

    left = [path for path in pods.database.documents if path.startswith("revocations/")]
    assert 7 == len(left)


async def test_only_services_ask(service: Service) -> None:
    """The names of keys are their users' business."""
    request = keys_pb2.ListRevocationsRequest()

    assert ["FORBIDDEN"] == await reasons(service.keys.ListRevocations(request, CONTEXT))
