"""Turns that go on only when a test lets them."""

from __future__ import annotations

import contextlib

from tests.system.wire import Transcript, Wire

HOLD = "/sim ask Bash make"
"""A step of a script that ends when its permission is decided, and not before."""


async def asked(wire: Wire, agent: str) -> str:
    """Wait until an agent asks for a permission, and return the request's id."""
    seen = Transcript()
    async with contextlib.aclosing(wire.watch(agent)) as updates:
        async for update in updates:
            seen.apply(update)
            if seen.items("permissionRequest"):
                break
    return str(seen.items("permissionRequest")[0]["permissionId"])


async def allow(wire: Wire, turn: str, permission: str) -> None:
    """Let a turn go on."""
    decision = {"permissionId": permission, "allowed": True}
    await wire.call("resolvePermission", {"name": turn, "decision": decision})
