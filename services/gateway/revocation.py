"""Tells this server's parts of API keys that are revoked through it.

Other servers find out within seconds, by asking again. Does not know what is done
about it.
"""

from __future__ import annotations

from collections.abc import Callable

from google.protobuf.message import Message

from moorline.session.v1 import keys_pb2
from services.chassis.identity import Identity
from services.gateway.calls import Call
from services.gateway.surroundings import Peers


class RevocationPeers:
    """Peers that tell when a key was revoked.

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
