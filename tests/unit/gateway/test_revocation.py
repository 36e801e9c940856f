"""Tests of `services.gateway.revocation`, over sockets."""

from __future__ import annotations

from moorline.session.v1 import keys_pb2
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
