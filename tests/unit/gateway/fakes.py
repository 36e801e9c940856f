"""Stands in for what surrounds a connection: socket, link, peers, clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import orjson
from google.protobuf.message import Message

from moorline.session.v1 import events_pb2, feed_pb2
from services.chassis.failures import Failure
from services.chassis.feed_link import Subscription
from services.chassis.identity import Identity
from services.chassis.metrics import Metrics
from services.chassis.tasks import Tasks
from services.gateway.auth.verifier import Principal, token_invalid
from services.gateway.calls import Call
from services.gateway.connection import Connection
from services.gateway.delivery import Delivery
from services.gateway.encoding import JSON, Encoding
from services.gateway.limits import Limits
from services.gateway.stalls import Stalls
from services.gateway.surroundings import Surroundings

ADA = Principal(user="users/ada")
AGENT = "users/ada/agents/a1"

Update = feed_pb2.EncodedUpdate


class FakeClock:
    """A clock that a test sets."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class FakeSocket:
    """Keeps what is sent; a test says how much of it the client has not read."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, bool]] = []
        self.closed: tuple[int, str] | None = None
        self.unread = 0
        self.can_write = True

    def send(self, payload: bytes, *, binary: bool) -> None:
        """See `Socket`."""
        self.sent.append((payload, binary))

    def writable(self) -> bool:
        """See the protocol."""
        return self.can_write

    def buffered(self) -> int:
        """See the protocol."""
        return self.unread

    def shut(self, code: int, reason: str) -> None:
        """See `Socket`."""
        self.closed = (code, reason)

    def take(self) -> list[Any]:
        """Return the JSON frames sent since the last time."""
        frames = [orjson.loads(payload) for payload, _ in self.sent]
        self.sent.clear()
        return frames


class FakePeers:
    """Answers every call with what a test has put at its name, or waits."""

    def __init__(self) -> None:
        self.answers: dict[str, Message | Failure] = {}
        self.calls: list[tuple[str, Message, Identity]] = []
        self.bug = False

    async def call(self, call: Call, request: Message, *, identity: Identity) -> Message:
        """See `Peers`."""
        self.calls.append((call.name, request, identity))
        if self.bug:
            raise ZeroDivisionError
        answer = self.answers.get(call.name)
        if answer is None:
            await asyncio.get_running_loop().create_future()
        if isinstance(answer, Failure):
            raise answer
        return answer or call.response()


class FakeVerifier:
    """Knows the tokens a test tells it."""

    def __init__(self, known: dict[str, Principal | Failure] | None = None) -> None:
        self.known = known or {}
        self.asked: list[str] = []

    async def verify(self, token: str) -> Principal:
        """See `Verifier`."""
        self.asked.append(token)
        found = self.known.get(token)
        if found is None:
            raise token_invalid()
        if isinstance(found, Failure):
            raise found
        return found


class FakeLink:
    """A feed that brings what a test pushes."""

    def __init__(self) -> None:
        self.open: list[Subscription[Update]] = []
        self.requests: list[Any] = []
        self.identities: list[Identity] = []
        self.failures: list[Failure] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def subscribe(
        self,
        *,
        identity: Identity,
        request: Callable[[str, int], Message],
        on_updates: Callable[[Sequence[Update]], None],
        on_end: Callable[[Failure], None],
        on_reset: Callable[[], None],
    ) -> Subscription[Update]:
        """See `Link`."""
        await self.gate.wait()
        self.requests.append(request("feed", len(self.requests) + 1))
        self.identities.append(identity)
        if self.failures:
            raise self.failures.pop(0)
        subscription: Subscription[Update] = Subscription(
            identity=identity,
            request=request,
            on_updates=on_updates,
            on_end=on_end,
            on_reset=on_reset,
        )
        self.open.append(subscription)
        return subscription

    async def unsubscribe(self, subscription: Subscription[Update]) -> None:
        """See `Link`."""
        subscription.open = False
        self.open.remove(subscription)

    def push(self, *updates: Update, to: int = -1) -> None:
        """Bring updates."""
        self.open[to].on_updates(updates)

    def end(self, failure: Failure, *, to: int = -1) -> None:
        """End a subscription."""
        subscription = self.open.pop(to)
        subscription.open = False
        subscription.on_end(failure)

    def break_off(self) -> None:
        """Break the feed and subscribe again, as the real link does."""
        for subscription in self.open:
            subscription.on_reset()
            self.requests.append(subscription.request("feed", len(self.requests) + 1))


class FakeClient:
    """What delivery sends to."""

    def __init__(self, encoding: Encoding = JSON) -> None:
        self.encoding = encoding
        self.sent: list[bytes] = []
        self.ended: list[tuple[int, Failure]] = []
        self.can_write = True
        self.unread = 0
        self.gave_up = 0
        self.resumes = 0

    def send(self, payload: bytes) -> None:
        """See `Client`."""
        self.sent.append(payload)

    def writable(self) -> bool:
        """See the protocol."""
        return self.can_write

    def buffered(self) -> int:
        """See the protocol."""
        return self.unread

    def resumed(self) -> None:
        """See `Outlet`."""
        self.resumes += 1

    def too_slow(self) -> None:
        """See `Outlet`."""
        self.gave_up += 1

    def watch_ended(self, id: int, failure: Failure) -> None:  # noqa: A002
        """See `Client`."""
        self.ended.append((id, failure))

    def updates(self) -> list[Any]:
        """Return the updates in the JSON frames sent since the last time."""
        updates = []
        for payload in self.sent:
            for name, content in orjson.loads(payload).items():
                if name != "id":
                    updates += content["updates"]
        self.sent.clear()
        return updates


@dataclass(kw_only=True)
class Bench:
    """A server without sockets, to put connections on."""

    surroundings: Surroundings
    link: FakeLink
    peers: FakePeers
    verifier: FakeVerifier
    clock: FakeClock
    wall_clock: FakeClock
    metrics: Metrics
    closes: list[tuple[int, str]] = field(default_factory=list)
    limited: list[str] = field(default_factory=list)

    def connect(
        self,
        principal: Principal = ADA,
        recheck: Callable[[], Awaitable[Principal]] | None = None,
    ) -> tuple[Connection, FakeSocket]:
        """Make a connection on a fake socket."""
        socket = FakeSocket()
        connection = Connection(
            socket=socket, principal=principal, recheck=recheck, surroundings=self.surroundings
        )
        return connection, socket


@asynccontextmanager
async def bench(**limits: Any) -> AsyncIterator[Bench]:
    """Yield a bench; its tasks end with it."""
    loop = asyncio.get_running_loop()
    link, peers, verifier = FakeLink(), FakePeers(), FakeVerifier()
    clock, wall_clock, metrics = FakeClock(), FakeClock(1_700_000_000.0), Metrics(service="test")
    closes: list[tuple[int, str]] = []
    limited: list[str] = []
    async with Tasks() as tasks:
        stalls = Stalls(loop=loop)
        delivery = Delivery(link=link, stalls=stalls, tasks=tasks, loop=loop, metrics=metrics)
        surroundings = Surroundings(
            peers=peers,
            delivery=delivery,
            stalls=stalls,
            verifier=verifier,
            tasks=tasks,
            limits=Limits(**({"heartbeat": timedelta(seconds=20)} | limits)),
            clock=clock,
            wall_clock=wall_clock,
            closed=lambda code, initiator: closes.append((code, initiator)),
            limited=limited.append,
            version="1",
        )
        yield Bench(
            surroundings=surroundings,
            link=link,
            peers=peers,
            verifier=verifier,
            clock=clock,
            wall_clock=wall_clock,
            metrics=metrics,
            closes=closes,
            limited=limited,
        )


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds that no event tells, for at most 15 s."""
    async with asyncio.timeout(15):
        while True:
            if condition():
                return
            await asyncio.sleep(0.001)


async def settle() -> None:
    """Let everything that can run, run."""
    for _ in range(10):
        await asyncio.sleep(0)


def event(sequence: int, *, block_id: str = "", closes: bool = False, size: int = 0) -> Update:
    """Return an event as the session service encodes it in JSON."""
    padding = b'"turnId":"%b",' % (b"x" * size) if size else b""
    return Update(
        event=feed_pb2.EncodedEvent(
            sequence=sequence,
            encoded=b'{"event":{%b"sequence":%d}}' % (padding, sequence),
            block_id=block_id,
            closes_blocks=closes,
        )
    )


def delta(text: str, *, block_id: str = "b1", snapshot: bool = False) -> Update:
    """Return a fragment."""
    return Update(
        delta=feed_pb2.EncodedDelta(block_id=block_id, snapshot=snapshot, text=text.encode())
    )


def checkpoint(sequence: int, log_id: str = "") -> Update:
    """Return the end of a replay."""
    return Update(checkpoint=events_pb2.Checkpoint(sequence=sequence, log_id=log_id))


def discarded(block_id: str = "b1") -> Update:
    """Return news of a piece taken back."""
    return Update(discarded_block_id=block_id)


def agent(name: str, version: int = 1, *, removed: bool = False) -> Update:
    """Return an agent of a list, or its removal."""
    if removed:
        encoded = b'{"removed":"%b"}' % name.encode()
    else:
        encoded = b'{"agent":{"name":"%b","headSequence":%d}}' % (name.encode(), version)
    return Update(agent=feed_pb2.EncodedAgent(name=name, encoded=encoded, removed=removed))


def agents_checkpoint() -> Update:
    """Return the end of a list."""
    update = Update()
    update.agents_checkpoint.SetInParent()
    return update
