"""What a connection stands on: its socket, and what all connections of a server share.

Does not know the protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from google.protobuf.message import Message

from services.chassis.identity import Identity
from services.chassis.tasks import Tasks
from services.gateway.auth.verifier import Verifier
from services.gateway.calls import Call
from services.gateway.delivery import Delivery
from services.gateway.limits import Limits
from services.gateway.stalls import Stalls


class Socket(Protocol):
    """What carries the frames of one connection. No method waits."""

    def send(self, payload: bytes, *, binary: bool) -> None:
        """Send a message; ignored once the socket is closing or gone."""

    def writable(self) -> bool:
        """True when little enough waits for the client to read."""

    def buffered(self) -> int:
        """Bytes that wait for the client to read."""

    def shut(self, code: int, reason: str) -> None:
        """Send a close frame, and cut the connection if that does not end it soon."""


class Peers(Protocol):
    """The services behind."""

    async def call(self, call: Call, request: Message, *, identity: Identity) -> Message:
        """Make a unary call.

        Raises:
            Failure: What the service answered, or why it could not.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all connections of a server share.

    Attributes:
        peers: Answer calls.
        delivery: Serves streams.
        stalls: Looks after clients that do not read.
        verifier: Checks the tokens of `authenticate`.
        tasks: Owns calls in progress.
        limits: What a connection may do.
        clock: Seconds of a clock that does not go back.
        wall_clock: Seconds since the epoch.
        closed: Told of each close: the code and who began it, `server` or `client`.
        limited: Told of each refusal: the name of the limit.
        version: This server's version, for people.
    """

    peers: Peers
    delivery: Delivery
    stalls: Stalls
    verifier: Verifier
    tasks: Tasks
    limits: Limits
    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    closed: Callable[[int, str], None]
    limited: Callable[[str], None]
    version: str
