"""Lets pods that joined have the users that are meant for them.

Does not know how users are found, only where they were found last.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from moorline.session.v1 import sessions_pb2
from services.chassis.failures import Failure
from services.chassis.rendezvous import ranked
from services.gateway.pods import Pods
from services.gateway.routing import Owners
from services.gateway.upstream import GATEWAY

log = logging.getLogger(__name__)

_METHOD = "/moorline.session.v1.SessionService/ReleaseSession"
_TIMEOUT = timedelta(seconds=5)
_LOOK_SECONDS = 1.0
SETTLE_SECONDS = 3.0
"""How long a pod must have been there before users are moved to it."""
RELEASES_PER_SECOND = 20.0
"""How many users are moved a second."""
_AT_ONCE = 100
"""How many users are looked at before others get their turn."""


class Rebalancer:
    """Moves users to pods that joined, a few at a time.

    A user moves as soon as no turn runs; the pod that serves it sees to that.

    Args:
        pods: The pods there are.
        owners: Where users are.
        look_seconds: Time between two looks at the pods.
        settle_seconds: How long a pod must have been there.
        pause_seconds: Time between two users.
    """

    def __init__(
        self,
        *,
        pods: Pods,
        owners: Owners,
        look_seconds: float = _LOOK_SECONDS,
        settle_seconds: float = SETTLE_SECONDS,
        pause_seconds: float = 1 / RELEASES_PER_SECOND,
    ) -> None:
        self._pods = pods
        self._owners = owners
        self._look_seconds = look_seconds
        self._settle_seconds = settle_seconds
        self._pause_seconds = pause_seconds
        # When it began to look.
        self._begin = float("inf")
        # By address of a pod that is there: since when. And those that get no more.
        self._since: dict[str, float] = {}
        self._settled: set[str] = set()

    async def run(self) -> None:
        """Do it for ever."""
        self._begin = asyncio.get_running_loop().time()
        while True:
            joined = self._look()
            if joined:
                await self._move_to(joined)
            await asyncio.sleep(self._look_seconds)

    def _look(self) -> set[str]:
        """Return the pods that have been there for long enough, each once."""
        now = asyncio.get_running_loop().time()
        there = {pod.address for pod in self._pods.discovered() if pod.connected}
        self._since = {address: self._since.get(address, now) for address in there}
        settled = {
            address for address, since in self._since.items() if now - since >= self._settle_seconds
        }
        # A pod that was away for a moment has joined again: its users may have left it.
        joined, self._settled = settled - self._settled, settled
        # Not one that was there before this gateway, which has no users to move to it.
        new = self._begin + self._settle_seconds
        return {address for address in joined if self._since[address] > new}

    async def _move_to(self, joined: set[str]) -> None:
        moved = 0
        for number, (user, address) in enumerate(self._owners.items(), start=1):
            if not number % _AT_ONCE:
                await asyncio.sleep(0)
            choice = ranked(user, self._settled)[0]
            # It may have left again by now.
            if choice in joined - {address} and self._pods.get(choice).connected:
                moved += await self._release(user, address)
                await asyncio.sleep(self._pause_seconds)
        if moved:
            log.info("users moved", extra={"users": moved, "pods": sorted(joined)})

    async def _release(self, user: str, address: str) -> bool:
        if self._owners.get(user) != address:
            return False
        try:
            await self._pods.get(address).call(
                _METHOD,
                sessions_pb2.ReleaseSessionRequest(name=user),
                sessions_pb2.ReleaseSessionResponse,
                identity=GATEWAY,
                timeout=_TIMEOUT,
            )
        except Failure as failure:
            log.debug("user not moved", extra={"reason": failure.reason_name})
            return False
        # Asked next, the pod that let go would take the user back.
        self._owners.forget(user, address)
        return True
