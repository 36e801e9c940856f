"""Tells this server's parts of API keys that are revoked, through it or elsewhere.

Does not know what is done about it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import timedelta

from google.protobuf.message import Message

from moorline.session.v1 import keys_pb2
from services.chassis.failures import Failure
from services.chassis.identity import Identity
from services.gateway.calls import Call
from services.gateway.pods import Caller
from services.gateway.surroundings import Peers
from services.gateway.upstream import GATEWAY

POLL_SECONDS = 3.0
"""How often it is asked which keys were revoked: one question, for however many connections."""

_TIMEOUT = timedelta(seconds=5)
_METHOD = "/moorline.session.v1.KeyService/ListRevocations"


class RevocationPeers:
    """Peers that tell at once when a key was revoked through them.

    Args:
        peers: Answer the calls.
        revoked: Called with the name of each key that was, before the answer is
            passed on.
    """

    def __init__(self, *, peers: Peers, revoked: Callable[[str], None]) -> None:
        self._peers = peers
        self._revoked = revoked

    async def call(self, call: Call, request: Message, *, identity: Identity) -> Message:
        """See `Peers`."""
        response = await self._peers.call(call, request, identity=identity)
        if isinstance(request, keys_pb2.RevokeKeyRequest):
            self._revoked(request.name)
        return response


class Revocations:
    """Asks the session service, time and again, which keys were revoked anywhere.

    Args:
        peer: The session service.
        revoked: Called with the name of each; for a minute again and again.
        unknown: Called when not all could be named, so that any may have been.
        seconds: How long to wait between two questions, about.
    """

    def __init__(
        self,
        *,
        peer: Caller,
        revoked: Callable[[str], None],
        unknown: Callable[[], None],
        seconds: float = POLL_SECONDS,
    ) -> None:
        self._peer = peer
        self._revoked = revoked
        self._unknown = unknown
        self._seconds = seconds

    async def run(self) -> None:
        """Ask until cancelled."""
        request = keys_pb2.ListRevocationsRequest()
        while True:
            try:
                response = await self._peer.call(
                    _METHOD,
                    request,
                    keys_pb2.ListRevocationsResponse,
                    identity=GATEWAY,
                    timeout=_TIMEOUT,
                )
            except Failure:
                # Whoever needs the session service says so; the next answer tells it all.
                pass
            else:
                request.since_time.CopyFrom(response.time)
                for name in response.keys:
                    self._revoked(name)
                if response.incomplete:
                    self._unknown()
            await asyncio.sleep(self._seconds * random.uniform(0.8, 1.2))  # noqa: S311
