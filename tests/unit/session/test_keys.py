"""Tests of `services.session.keys` and its door: secrets shown once, and who manages them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from moorline.session.v1 import keys_pb2
from services.chassis.failures import Failure
from services.chassis.identity import Identity, act_as
from services.session.limits import Limits
from services.session.store import Delete, StoreConflict
from tests.unit.session.fakes import FaultyStore
from tests.unit.session.service import ADA, CONTEXT, GATEWAY, Service


async def create(service: Service, user: str = "users/ada", **request: object) -> tuple[str, str]:
    """Make a key; return its name and secret."""
    answer = await service.keys.CreateKey(
        keys_pb2.CreateKeyRequest(parent=user, **request),  # type: ignore[arg-type]
        CONTEXT,
    )
    return answer.key.name, answer.secret


async def listed(service: Service, user: str = "users/ada") -> list[keys_pb2.Key]:
    """Return a user's keys."""
    answer = await service.keys.ListKeys(keys_pb2.ListKeysRequest(parent=user), CONTEXT)
    return list(answer.keys)


async def revoke(service: Service, name: str) -> keys_pb2.Key:
    """Revoke a key."""
    answer = await service.keys.RevokeKey(keys_pb2.RevokeKeyRequest(name=name), CONTEXT)
    return answer.key


async def verify(service: Service, secret: str) -> keys_pb2.Key:
    """Verify a secret as the gateway does."""
    act_as(GATEWAY)
    try:
        answer = await service.keys.VerifyKey(keys_pb2.VerifyKeyRequest(secret=secret), CONTEXT)
    finally:
        act_as(ADA)
    return answer.key


async def refused(service: Service, secret: str) -> str:
    """Return why a secret is refused."""
    with pytest.raises(Failure) as raised:
        await verify(service, secret)
    return f"{raised.value.reason_name} {raised.value.message}"


async def test_a_secret_names_its_key(service: Service) -> None:
    """And is nowhere in the store."""
    name, secret = await create(service, display_name="laptop")

    key = await verify(service, secret)

    assert (name, "laptop") == (key.name, key.display_name)
    assert secret.startswith(f"moorline_{name.rpartition('/')[2]}_")
    lifetime = key.expire_time.ToDatetime() - key.create_time.ToDatetime()
    assert timedelta(days=90) == lifetime
    assert not key.HasField("revoke_time")


async def test_no_secret_is_stored(service: Service, store: FaultyStore) -> None:
    """Only a hash."""
    _, secret = await create(service)

    written = repr(store.commits)

    assert secret not in written
    assert secret.rpartition("_")[2][:32] not in written


async def test_bad_secrets_are_refused_in_the_same_words(
    service: Service, store: FaultyStore
) -> None:
    """Malformed, mistyped, unknown, altered, expired, revoked: one answer."""
    name, secret = await create(service)
    revoked_name, revoked = await create(service)
    await revoke(service, revoked_name)
    _, short = await create(service, ttl={"seconds": 1})
    _, unknown = await create(service)
    await store.inner.commit(_deletes(f"keys/{unknown.split('_')[1]}"))
    name_gone, gone = await create(service)
    await store.inner.commit(_deletes(name_gone))
    head, _, tail = secret.rpartition("_")
    swapped = f"{revoked.rpartition('_')[0]}_{tail}"
    await asyncio.sleep(1.01)

    answers = {
        await refused(service, bad)
        for bad in ("x", secret[:-1] + "!", head + "_" + tail[::-1], swapped, revoked, short)
    } | {await refused(service, unknown), await refused(service, gone)}

    assert 1 == len(answers)
    assert answers.pop().startswith("TOKEN_INVALID")
    assert name == (await verify(service, secret)).name


async def test_keys_are_listed_oldest_first(service: Service) -> None:
    """Revoked ones included."""
    names = [(await create(service))[0] for _ in range(4)]
    await revoke(service, names[1])

    keys = await listed(service)

    assert names == [key.name for key in keys]
    assert [False, True, False, False] == [key.HasField("revoke_time") for key in keys]


async def test_revoking_again_changes_nothing(service: Service) -> None:
    """The time of the first revocation stays."""
    name, _ = await create(service)
    first = await revoke(service, name)

    assert first == await revoke(service, name)


async def test_two_revocations_at_once_agree(service: Service, store: FaultyStore) -> None:
    """The one that comes second sees the first."""
    name, _ = await create(service)
    store.before = [StoreConflict(name)]

    assert (await revoke(service, name)).HasField("revoke_time")


async def test_a_missing_key_is_not_found(service: Service) -> None:
    """As a foreign one is."""
    with pytest.raises(Failure) as raised:
        await revoke(service, "users/ada/keys/none2345")

    assert "RESOURCE_NOT_FOUND" == raised.value.reason_name


class TestWhoMayManage:
    async def test_an_administrator_manages_everybodys(self, service: Service) -> None:
        """Also of a user that was never seen."""
        act_as(Identity(user="users/root", admin=True))

        name, _ = await create(service, "users/newcomer")

        assert [name] == [key.name for key in await listed(service, "users/newcomer")]
        await revoke(service, name)

    async def test_a_key_makes_none(self, service: Service) -> None:
        """Not even an administrator's: a stolen one would make itself a successor."""
        for identity in (
            Identity(user="users/ada", keyed=True),
            Identity(user="users/root", admin=True, keyed=True),
        ):
            act_as(identity)
            with pytest.raises(Failure) as raised:
                await create(service)
            assert "FORBIDDEN" == raised.value.reason_name

    async def test_a_key_lists_and_revokes_those_of_its_user(self, service: Service) -> None:
        """Itself included: where keys are the only way in, nobody else could."""
        name, secret = await create(service)
        act_as(Identity(user="users/ada", keyed=True))

        assert [name] == [key.name for key in await listed(service)]
        await revoke(service, name)

        assert (await refused(service, secret)).startswith("TOKEN_INVALID")

    async def test_an_administrators_key_touches_nobody_elses(self, service: Service) -> None:
        """A key has the rights of its user, but not those over others."""
        name, _ = await create(service)
        act_as(Identity(user="users/root", admin=True, keyed=True))

        for call in (listed(service), revoke(service, name)):
            with pytest.raises(Failure) as raised:
                await call
            assert "RESOURCE_NOT_FOUND" == raised.value.reason_name

    async def test_only_services_verify(self, service: Service) -> None:
        """A user cannot try secrets here."""
        _, secret = await create(service)

        with pytest.raises(Failure) as raised:
            await service.keys.VerifyKey(keys_pb2.VerifyKeyRequest(secret=secret), CONTEXT)

        assert "FORBIDDEN" == raised.value.reason_name


class TestLimit:
    @pytest.fixture
    def limits(self) -> Limits:
        """Limits with few keys."""
        return Limits(keys=2)

    async def test_a_user_has_so_many_keys(self, service: Service) -> None:
        """One more is refused, unless one has ended: it makes room."""
        first, secret = await create(service)
        second, _ = await create(service)
        with pytest.raises(Failure) as raised:
            await create(service)
        assert "QUOTA_EXCEEDED" == raised.value.reason_name
        assert {"limit": "2", "limitName": "keys"} == raised.value.metadata
        await revoke(service, first)

        third, _ = await create(service)

        assert [second, third] == [key.name for key in await listed(service)]
        assert (await refused(service, secret)).startswith("TOKEN_INVALID")

    async def test_keys_made_at_once_keep_to_it_too(self, service: Service) -> None:
        """The limit holds however many calls arrive together."""
        made = await asyncio.gather(*(create(service) for _ in range(9)), return_exceptions=True)

        assert 2 == sum(not isinstance(key, BaseException) for key in made)
        assert 2 == len(await listed(service))


def _deletes(path: str) -> list[Delete]:
    return [Delete(path)]
