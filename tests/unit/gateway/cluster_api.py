"""Several pods of a session service, on real servers, over one database in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc

from moorline.session.v1 import (
    agents_pb2,
    agents_pb2_grpc,
    events_pb2,
    feed_pb2,
    feed_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
)
from services.chassis.client import Peer
from services.chassis.discovery import Discovery
from services.chassis.failures import Failure, not_found
from services.chassis.feed import Feeds
from services.chassis.identity import Signer, caller
from services.chassis.metrics import Metrics
from services.chassis.pool import Pool
from services.chassis.tasks import Tasks
from services.gateway.delivery import Delivery
from services.gateway.pods import SessionPod
from services.gateway.routed_link import RoutedLink
from services.gateway.routing import Router
from services.gateway.stalls import Stalls
from tests.unit.chassis.service import KEY, running
from tests.unit.gateway.fake_pods import failure, not_owner
from tests.unit.gateway.fakes import Update, checkpoint, event


class Cursor:
    """A source of a feed: an agent's events after a position."""

    def __init__(self, history: list[Update], log_id: str, after: int, mark: Any) -> None:
        self.done = False
        self.mark = mark
        self.end: Failure | None = None
        self._history = history
        self._log_id = log_id
        self._after = after
        self._checkpointed = False

    def take(self, budget: int, news: feed_pb2.SubscribedUpdates) -> tuple[int, bool]:
        """See `Source`."""
        news.updates.extend(self._history[self._after :])
        self._after += len(news.updates)
        if not self._checkpointed:
            self._checkpointed = True
            news.updates.append(checkpoint(self._after, self._log_id))
        if self.end is not None:
            self.done = True
            news.end.CopyFrom(self.end.to_error())
        return len(news.updates) + self.done, False

    def close(self) -> None:
        """See `Source`."""


class Cluster:
    """What the pods share: who serves whom, and what was said."""

    def __init__(self) -> None:
        self.pods: dict[str, ClusterPod] = {}
        self.owners: dict[str, str] = {}
        self.histories: dict[str, list[Update]] = {}
        self.log_id = "log-1"
        # How long a user of a pod that died belongs to it.
        self.lease = 0.0
        # Feeds open while it is set.
        self.gate = asyncio.Event()
        self.gate.set()
        self._stacks: dict[str, AsyncExitStack] = {}

    async def start(self) -> ClusterPod:
        """Start another pod."""
        pod = ClusterPod(self)
        stack = AsyncExitStack()
        server = await stack.enter_async_context(running(pod.register, draining=pod.feeds.drain))
        pod.address = server.target
        self.pods[pod.address] = pod
        self._stacks[pod.address] = stack
        return pod

    async def kill(self, address: str) -> None:
        """End a pod without a word; its users are free when their lease is over."""
        loop = asyncio.get_running_loop()
        self.pods[address].dead_at = loop.time()
        await self._stacks.pop(address).aclose()

    async def close(self) -> None:
        """End all pods."""
        for address in list(self._stacks):
            await self.kill(address)

    def require(self, user: str, address: str) -> None:
        """Let the pod pass that serves a user, or can from now on.

        Raises:
            Failure: NOT_OWNER.
        """
        owner = self.owners.get(user, address)
        if owner != address:
            died = self.pods[owner].dead_at
            if died is None or asyncio.get_running_loop().time() < died + self.lease:
                raise not_owner(owner)
        self.owners[user] = address

    def append(self, agent: str) -> None:
        """Add an event to an agent's history."""
        history = self.histories.setdefault(agent, [])
        history.append(event(len(history) + 1))
        owner = self.owners.get(_user(agent))
        if owner is not None:
            for cursor in self.pods[owner].cursors.get(agent, ()):
                cursor.mark()

    def release(self, user: str) -> None:
        """Let go of a user, as a pod does that drains."""
        owner = self.owners.pop(user)
        for agent, cursors in self.pods[owner].cursors.items():
            if _user(agent) == user:
                for cursor in cursors:
                    cursor.end = failure("DRAINING")
                    cursor.mark()
                cursors.clear()


class ClusterPod:
    """One pod; its address is known once it serves."""

    def __init__(self, cluster: Cluster) -> None:
        self.address = ""
        self.dead_at: float | None = None
        self.cluster = cluster
        self.cursors: dict[str, list[Cursor]] = {}
        self.feeds: Feeds[feed_pb2.SubscribedUpdates, feed_pb2.OpenFeedResponse] = Feeds(
            response=feed_pb2.OpenFeedResponse, empty=feed_pb2.OpenFeedResponse
        )
        self.subscribes = 0
        self.asked: list[str] = []

    def cut(self) -> None:
        """End its feeds; it goes on to serve."""
        for _, feed in self.feeds._feeds.values():
            feed.end(failure("SERVICE_UNAVAILABLE"))

    def register(self, server: Any) -> None:
        """Add its services to a server."""
        feed_pb2_grpc.add_SessionFeedServiceServicer_to_server(_Feed(self), server)
        sessions_pb2_grpc.add_SessionServiceServicer_to_server(
            _Sessions(self),  # type: ignore[abstract]
            server,
        )
        agents_pb2_grpc.add_AgentServiceServicer_to_server(
            _Agents(self),  # type: ignore[abstract]
            server,
        )


class _Feed(feed_pb2_grpc.SessionFeedServiceServicer):
    def __init__(self, pod: ClusterPod) -> None:
        self._pod = pod

    async def OpenFeed(
        self, request: feed_pb2.OpenFeedRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[feed_pb2.OpenFeedResponse]:
        await self._pod.cluster.gate.wait()
        async for response in self._pod.feeds.open(request.feed_id, caller().user):
            yield response

    async def Subscribe(self, request: feed_pb2.SubscribeRequest, context: Any) -> Any:
        pod, watch = self._pod, request.watch_events
        pod.subscribes += 1
        pod.cluster.require(caller().user, pod.address)
        history = pod.cluster.histories.setdefault(watch.parent, [])
        known = watch.log_id in ("", pod.cluster.log_id)
        if watch.after_sequence > len(history) or not known:
            raise failure("SEQUENCE_UNKNOWN")
        feed = pod.feeds.get(request.feed_id)
        number = request.subscription
        cursor = Cursor(
            history, pod.cluster.log_id, watch.after_sequence, lambda: feed.mark(number)
        )
        pod.cursors.setdefault(watch.parent, []).append(cursor)
        feed.add(number, cursor)
        return feed_pb2.SubscribeResponse()

    async def Unsubscribe(self, request: feed_pb2.UnsubscribeRequest, context: Any) -> Any:
        self._pod.feeds.get(request.feed_id).remove(request.subscription)
        return feed_pb2.UnsubscribeResponse()


class _Sessions(sessions_pb2_grpc.SessionServiceServicer):
    def __init__(self, pod: ClusterPod) -> None:
        self._pod = pod

    async def ReleaseSession(
        self, request: sessions_pb2.ReleaseSessionRequest, context: Any
    ) -> Any:
        if self._pod.cluster.owners.get(request.name) == self._pod.address:
            self._pod.cluster.release(request.name)
        return sessions_pb2.ReleaseSessionResponse()


class _Agents(agents_pb2_grpc.AgentServiceServicer):
    def __init__(self, pod: ClusterPod) -> None:
        self._pod = pod

    async def GetAgent(self, request: agents_pb2.GetAgentRequest, context: Any) -> Any:
        self._pod.asked.append(request.name)
        self._pod.cluster.require(caller().user, self._pod.address)
        if request.name not in self._pod.cluster.histories:
            raise not_found()
        return agents_pb2.GetAgentResponse(agent=agents_pb2.Agent(name=request.name))


class Reach:
    """A gateway's way to a cluster, which it discovers."""

    def __init__(self, pool: Pool[SessionPod], tasks: Tasks) -> None:
        loop = asyncio.get_running_loop()
        metrics = Metrics(service="test")
        self.pool = pool
        self.tasks = tasks
        self.router = Router(pods=pool)
        self.link = RoutedLink(router=self.router, tasks=tasks)
        self.delivery = Delivery(
            link=self.link, stalls=Stalls(loop=loop), tasks=tasks, loop=loop, metrics=metrics
        )

    def watch(self, client: Any, agent: str, *, after: int = 0, log_id: str = "") -> None:
        """Watch an agent's events."""
        request = events_pb2.WatchEventsRequest(parent=agent, after_sequence=after, log_id=log_id)
        self.delivery.watch(client, 1, request, user=_user(agent))


@asynccontextmanager
async def cluster(pods: int) -> AsyncIterator[tuple[Cluster, Reach]]:
    """Yield a cluster with so many pods, and a gateway's way to it."""
    made = Cluster()
    signer, metrics = Signer(key=KEY), Metrics(service="test")

    async def resolve(_: str, __: int) -> Iterable[str]:
        return [address for address, pod in made.pods.items() if pod.dead_at is None]

    def open_pod(address: str) -> SessionPod:
        peer = Peer(service="session", target=address, signer=signer, metrics=metrics)
        return SessionPod(peer=peer, on_time=lambda _: None)

    try:
        for _ in range(pods):
            await made.start()
        period = timedelta(milliseconds=20)
        async with (
            Discovery(target="dns:///pods:1", period=period, resolve=resolve) as discovery,
            Pool(discovery=discovery, open=open_pod) as pool,
            Tasks() as tasks,
        ):
            yield made, Reach(pool, tasks)
    finally:
        await made.close()


def connected(reach: Reach, count: int) -> Callable[[], bool]:
    """Tell whether so many pods are there."""
    return lambda: sum(pod.connected for pod in reach.pool.discovered()) == count


def _user(agent: str) -> str:
    return "/".join(agent.split("/")[:2])
