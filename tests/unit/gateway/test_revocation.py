"""Tests of `services.gateway.revocation`, over sockets, and of how it asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from google.protobuf.message import Message

from moorline.session.v1 import keys_pb2
from services.chassis.failures import Failure
from services.chassis.tasks import Tasks
from services.gateway.revocation import Revocations
from tests.unit.gateway.fake_pods import failure
from tests.unit.gateway.running import close_code, gateway, hear, say, welcomed
from tests.unit.gateway.session_api import KEY, SECRET

OTHER = "moorline_bbbbbbbb_" + "y" * 32


async def test_a_key_revoked_through_this_server_ends_at_once() -> None:
    """Its connections are closed, and it opens no more; other keys of its user live on."""
    async with gateway() as g:
        g.session.keys[OTHER] = keys_pb2.Key(name="users/ada/keys/bbbbbbbb")
        keyed, user = await welcomed(g, {"Authorization": f"Bearer {SECRET}"})
        other, _ = await welcomed(g, {"Authorization": f"Bearer {OTHER}"})
        socket, _ = await welcomed(g)
        await say(socket, id=2, revokeKey={"name": KEY})
        assert "revokeKeyResponse" in await hear(socket)

        assert ("users/ada", 4501) == (user, await close_code(keyed))
        status, _, _ = await g.refusal({"Authorization": f"Bearer {SECRET}"})
        assert 401 == status
        await say(other, id=2, getAgent={"name": "users/ada/agents/a1"})
        assert "getAgentResponse" in await hear(other)


async def test_who_revokes_its_own_key_is_answered_first() -> None:
    """Then its connection ends."""
    async with gateway() as g:
        keyed, _ = await welcomed(g, {"Authorization": f"Bearer {SECRET}"})
        await say(keyed, id=2, revokeKey={"name": KEY})

        assert "revokeKeyResponse" in await hear(keyed)
        assert 4501 == await close_code(keyed)


async def test_a_revocation_that_failed_ends_nothing() -> None:
    """The session service decides."""
    async with gateway() as g:
        keyed, _ = await welcomed(g, {"Authorization": f"Bearer {SECRET}"})
        del g.session.keys[SECRET]
        await say(keyed, id=2, revokeKey={"name": KEY})
        assert "error" in await hear(keyed)
        await say(keyed, id=3, getAgent={"name": "users/ada/agents/a1"})

        assert 3 == (await hear(keyed))["id"]


async def test_a_key_revoked_elsewhere_ends_within_seconds() -> None:
    """Its connections are closed, and it opens no more, whatever was known of it."""
    async with gateway() as g:
        keyed, _ = await welcomed(g, {"Authorization": f"Bearer {SECRET}"})
        g.session.revoked.append(KEY)
        assert 4501 == await close_code(keyed)
        assert 401 == (await g.refusal({"Authorization": f"Bearer {SECRET}"}))[0]
        assert 1 == sum(method == "VerifyKey" for method, _ in g.session.asked)


class FakePeer:
    """Answers what a test puts there, then nothing more."""

    def __init__(self, *answers: keys_pb2.ListRevocationsResponse | Failure) -> None:
        self.answers = list(answers)
        self.asked: list[int] = []
        self.done = asyncio.Event()

    async def call(self, method: str, request: Message, response: type[Any], **options: Any) -> Any:
        """See `Caller`."""
        assert isinstance(request, keys_pb2.ListRevocationsRequest)
        if not self.answers:
            self.done.set()
            await asyncio.get_running_loop().create_future()
        self.asked.append(request.since_time.seconds)
        answer = self.answers.pop(0)
        if isinstance(answer, Failure):
            raise answer
        return answer


def told(*keys: str, seconds: int, incomplete: bool = False) -> keys_pb2.ListRevocationsResponse:
    """An answer at a time."""
    response = keys_pb2.ListRevocationsResponse(keys=keys, incomplete=incomplete)
    response.time.FromSeconds(seconds)
    return response


@asynccontextmanager
async def asking(peer: FakePeer) -> AsyncIterator[list[str]]:
    """Ask until there are no answers left; yields what was told."""
    heard: list[str] = []
    revocations = Revocations(
        peer=peer, revoked=heard.append, unknown=lambda: heard.append("any"), seconds=0.001
    )
    async with Tasks() as tasks:
        tasks.spawn(revocations.run(), name="revocations")
        await peer.done.wait()
        yield heard


async def test_each_question_goes_on_from_the_answer_before() -> None:
    """At first nothing is known, so that any key may have been revoked."""
    peer = FakePeer(told(seconds=10, incomplete=True), told("k1", seconds=13), told(seconds=16))
    async with asking(peer) as heard:
        assert [0, 10, 13] == peer.asked
        assert ["any", "k1"] == heard


async def test_an_outage_loses_no_revocation() -> None:
    """What was revoked meanwhile is asked for with the time of the last answer."""
    gone = failure("SERVICE_UNAVAILABLE")
    peer = FakePeer(told(seconds=10), gone, gone, told("k1", seconds=90))
    async with asking(peer) as heard:
        assert [0, 10, 10, 10] == peer.asked
        assert ["k1"] == heard
