"""Clients that come back when their connection breaks, by the rules of the Python client.

Does not know why it broke.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from picows import WSError, WSInvalidStatusError, WSTransport

from moorline.closing import backoff
from tests.load import client
from tests.load.connection import Account, Connection, Recorder

CONNECTING = 8
"""Clients that are brought to where they are cut off, at once."""

TRIES = 5


class Returning(Connection):
    """One user's connection.

    Attributes:
        gone: Set once it is broken.
    """

    def __init__(self, *, account: Account, agent: str, recorder: Recorder) -> None:
        super().__init__(account=account, agent=agent, recorder=recorder)
        self.gone = asyncio.Event()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """End every wait."""
        super().on_ws_disconnected(transport)
        self.gone.set()


@dataclass(frozen=True, slots=True)
class Return:
    """How a client came back.

    Attributes:
        connection: The new connection.
        seconds: From the cut until it followed its agent again.
        refused: Times that it was turned away.
    """

    connection: Returning
    seconds: float
    refused: int


async def settled(url: str, accounts: Sequence[Account]) -> list[Returning]:
    """Connect clients that follow an agent with a history, and want nothing more."""
    gate = asyncio.Semaphore(CONNECTING)

    async def one(account: Account) -> Returning:
        async with gate:
            for _ in range(TRIES - 1):
                try:
                    return await _settled(url, account)
                except (RuntimeError, TimeoutError):
                    # The machine is too busy; how fast users are made is not measured.
                    await asyncio.sleep(1)
            return await _settled(url, account)

    return list(await asyncio.gather(*(one(account) for account in accounts)))


async def _settled(url: str, account: Account) -> Returning:
    connection = await Returning.open(
        url=url, account=account, agent=client.turn_id(), recorder=Recorder()
    )
    try:
        await connection.watch()
        await connection.start_turn(client.turn_id(), "/sim say Hello.")
        await connection.turn_end(client.DRAIN_SECONDS)
    except BaseException:
        connection.close()
        raise
    return connection


async def come_back(before: Returning, *, url: str, cut: float) -> Return:
    """Wait until a connection breaks, then try until its agent is followed again.

    Args:
        before: The connection.
        url: Where to come back to.
        cut: Performance counter when it was cut.

    Raises:
        RuntimeError: What it has seen already was sent again, or something is missing.
    """
    await before.gone.wait()
    refused, head = 0, before.counter.head
    for failures in range(1_000):
        await asyncio.sleep(backoff(failures).total_seconds())
        try:
            connection = await Returning.open(
                url=url, account=before.account, agent=before.agent, recorder=Recorder()
            )
            await connection.follow(after=head)
        except WSInvalidStatusError:
            refused += 1
        except (OSError, RuntimeError, TimeoutError, WSError):
            continue
        else:
            seconds = time.perf_counter() - cut
            events = connection.counter.events
            if events:
                msg = f"{events} events were sent that were seen already"
                raise RuntimeError(msg)
            connection.counter.head = head
            return Return(connection, seconds, refused)
    msg = "a client never came back"
    raise RuntimeError(msg)
