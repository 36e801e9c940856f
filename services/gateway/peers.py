"""The services behind the gateway, by which calls they answer.

Does not know frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta

from google.protobuf.message import Message

from services.chassis.client import Peer
from services.chassis.identity import Identity
from services.gateway.calls import Call, Service

_HEALTH_TIMEOUT = timedelta(seconds=1)
_HEALTH_SECONDS = 1.0


class ServicePeers:
    """Sends each call to the service that answers it.

    Args:
        peers: The open peers.
        timeout: How long a call may take.
        clock: Seconds of a clock that does not go back.
    """

    def __init__(
        self, *, peers: Mapping[Service, Peer], timeout: timedelta, clock: Callable[[], float]
    ) -> None:
        self._peers = peers
        self._timeout = timeout
        self._clock = clock
        self._health: dict[Service, tuple[bool, float]] = {}

    async def call(self, call: Call, request: Message, *, identity: Identity) -> Message:
        """See `connection.Peers`."""
        return await self._peers[call.service].call(
            call.method, request, call.response, identity=identity, timeout=self._timeout
        )

    async def healthy(self, service: Service) -> bool:
        """Tell whether a service is ready; asks it at most once a second."""
        known = self._health.get(service)
        if known is not None and self._clock() - known[1] < _HEALTH_SECONDS:
            return known[0]
        answer = await self._peers[service].healthy(_HEALTH_TIMEOUT)
        self._health[service] = (answer, self._clock())
        return answer
