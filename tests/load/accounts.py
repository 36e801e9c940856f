"""Makes the users of a run: an API key for each, through the WebSocket like everybody.

Does not know what they are for.
"""

from __future__ import annotations

import asyncio

from tests.load.connection import Account, Connection, Recorder
from tests.load.systems import System

KEYS_PER_CONNECTION = 50
"""Below the frames that a connection may send at once."""


def make(system: System, count: int) -> tuple[Account, ...]:
    """Make `count` users that can prove who they are."""
    return asyncio.run(_make(system, [f"users/u{number:04}" for number in range(count)]))


async def _make(system: System, users: list[str]) -> tuple[Account, ...]:
    accounts: list[Account] = []
    administrator = Account(user="users/dev", token=system.token)
    for first in range(0, len(users), KEYS_PER_CONNECTION):
        connection = await Connection.open(
            url=system.url, account=administrator, agent="", recorder=Recorder()
        )
        for user in users[first : first + KEYS_PER_CONNECTION]:
            request = {"parent": user, "displayName": "bench", "ttl": "86400s"}
            response = await connection.request("createKey", request)
            accounts.append(Account(user=user, token=response["secret"]))
        connection.close()
    return tuple(accounts)


def pretend(count: int) -> tuple[Account, ...]:
    """Name `count` users of a system that checks nobody."""
    return tuple(Account(user=f"users/u{number:04}", token="none") for number in range(count))
