"""Brings what users follow from the session service to their connections.

Everything that asks for the same thing shares one upstream subscription. What
arrives is put into a stream and its watches are marked; one pass over the marked
ones, later in the same turn of the event loop, writes one frame for each. No
task, queue or lock is made for an update or a connection. Does not know the
WebSocket, nor who may follow what: the session service decides.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence

from google.protobuf.message import Message

from moorline.session.v1 import agents_pb2, events_pb2, feed_pb2
from services.chassis.failures import Failure
from services.chassis.identity import Identity
from services.chassis.metrics import Metrics
from services.chassis.tasks import Tasks
from services.gateway.agent_streams import AgentReader, AgentStream
from services.gateway.encoding import AGENTS, EVENTS
from services.gateway.stalls import Stalls
from services.gateway.streams import EventReader, EventStream, Reader
from services.gateway.upstream import PASSING, Link, Update
from services.gateway.watches import Client, Key, Source, Watch

log = logging.getLogger(__name__)

HELD_BYTES = 16 * 1024
"""Bytes of one stream held for who may join, or for clients that do not read.

With `limits.watches` streams and `connection.MAX_BUFFERED` it bounds what a client costs."""
RING_BYTES = 1 << 20
"""Bytes of events held for readers of one stream that are behind, though they read."""
FRAME_BYTES = 64 * 1024
"""About how many bytes one frame of a stream carries at most."""
RETRY_SECONDS = 0.5
"""About how long to wait before a subscription that could not be made is tried again."""
_REMOVED_AGENTS = 100


class Delivery:
    """All watches of this server.

    Args:
        link: The feed of the session service.
        stalls: Looks after clients that do not read.
        tasks: Owns the subscribing.
        loop: Runs the flushes.
        metrics: Gets `moorline_updates_sent_total`.
        held_bytes: Bytes of one stream held for nobody who reads.
        ring_bytes: Bytes of one stream held for readers that are behind.
        retry_seconds: About how long to wait before subscribing is tried again.
    """

    def __init__(
        self,
        *,
        link: Link,
        stalls: Stalls,
        tasks: Tasks,
        loop: asyncio.AbstractEventLoop,
        metrics: Metrics,
        held_bytes: int = HELD_BYTES,
        ring_bytes: int = RING_BYTES,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._link = link
        self._stalls = stalls
        self._tasks = tasks
        self._loop = loop
        self._held_bytes = held_bytes
        self._ring_bytes = ring_bytes
        self._retry_seconds = retry_seconds
        name, text = "moorline_updates_sent_total", "Updates sent to clients."
        sent = metrics.tallies(name, text, label="kind", values=("event", "agent"))
        self._sent = {EventStream: sent["event"], AgentStream: sent["agent"]}
        # The mutable state: what is followed, and which watches have news.
        self._sources: dict[Key, list[Source]] = {}
        self._marked: list[Watch] = []

    def __len__(self) -> int:
        return sum(len(sources) for sources in self._sources.values())

    def watch(
        self,
        client: Client,
        id: int,  # noqa: A002
        request: Message,
        *,
        user: str,
    ) -> Watch:
        """Start to send a stream; its frames follow, the first at the next flush.

        Args:
            client: Where they go.
            id: The call's number, part of each frame.
            request: A `WatchEventsRequest` or a `WatchAgentsRequest`.
            user: Whom the session service is told.
        """
        reader: Reader
        if isinstance(request, events_pb2.WatchEventsRequest):
            source, reader, reply = self._join_events(client, request, user)
        elif isinstance(request, agents_pb2.WatchAgentsRequest):
            source, reader, reply = self._join_agents(client, request, user)
        else:
            raise TypeError(type(request))
        watch = Watch(client, id, client.encoding.opening(id, reply), source, reader)
        source.watches[watch] = None
        self._mark(watch)
        return watch

    def leave(self, watch: Watch) -> None:
        """End a watch; leaving twice changes nothing."""
        source, watch.source = watch.source, None
        if source is None:
            return
        del source.watches[watch]
        if not source.watches:
            self._drop(source)

    def resume(self, watch: Watch) -> None:
        """Go on with a watch whose client is writable again."""
        if watch.waiting:
            watch.waiting = False
            self._mark(watch)

    def _join_events(
        self, client: Client, request: events_pb2.WatchEventsRequest, user: str
    ) -> tuple[Source, EventReader, str]:
        key = Key(user, request.parent, client.encoding)
        after, log_id = request.after_sequence, request.log_id
        for source in self._sources.get(key, ()):
            stream = source.stream
            if isinstance(stream, EventStream) and stream.covers(after, log_id):
                break
        else:
            stream = EventStream(
                parent=key.parent, after=after, encoding=key.encoding, log_id=log_id
            )
            source = self._open(key, stream)
        return source, EventReader(stream, after=after, deltas=request.include_deltas), EVENTS

    def _join_agents(
        self, client: Client, request: agents_pb2.WatchAgentsRequest, user: str
    ) -> tuple[Source, AgentReader, str]:
        key = Key(user, request.parent, client.encoding)
        for source in self._sources.get(key, ()):
            stream = source.stream
            if isinstance(stream, AgentStream) and stream.failure is None:
                break
        else:
            stream = AgentStream(parent=key.parent, encoding=key.encoding)
            source = self._open(key, stream)
        return source, AgentReader(stream), AGENTS

    def _open(self, key: Key, stream: EventStream | AgentStream) -> Source:
        siblings = self._sources.setdefault(key, [])
        source = Source(key, stream, siblings)
        siblings.append(source)
        self._subscribe(source)
        return source

    def _drop(self, source: Source) -> None:
        source.siblings.remove(source)
        if not source.siblings:
            del self._sources[source.key]
        self._unsubscribe(source)

    def _subscribe(self, source: Source) -> None:
        source.paused = False
        source.follower = follower = _Follower(self, source)
        source.subscribing = self._tasks.spawn(self._follow(source, follower), name="subscribe")

    def _unsubscribe(self, source: Source) -> None:
        source.follower = None
        if source.subscribing is not None:
            source.subscribing.cancel()
            source.subscribing = None
        subscription, source.subscription = source.subscription, None
        if subscription is not None:
            self._tasks.spawn(self._link.unsubscribe(subscription), name="unsubscribe")

    async def _follow(self, source: Source, follower: _Follower) -> None:
        """Subscribe, however long it takes; a cancel takes it back."""
        while True:
            source.stream.reset()
            try:
                subscription = await self._link.subscribe(
                    identity=Identity(user=source.key.user),
                    request=follower.request,
                    on_updates=follower.on_updates,
                    on_end=follower.on_end,
                    on_reset=source.stream.reset,
                )
            except Failure as failure:
                if failure.reason not in PASSING:
                    follower.on_end(failure)
                    return
            else:
                if subscription.open:
                    source.subscription = subscription
                    source.subscribing = None
                return
            await asyncio.sleep(self._retry_seconds * random.uniform(0.5, 1.5))  # noqa: S311

    def arrived(self, source: Source, updates: Sequence[Update]) -> None:
        """Take in updates of a source. Called by the link, from the event loop."""
        stream = source.stream
        if not stream.apply(updates):
            log.error("updates are missing from the feed")
            self._unsubscribe(source)
            self._subscribe(source)
        for watch in source.watches:
            self._mark(watch)
        if isinstance(stream, AgentStream):
            if stream.removed > _REMOVED_AGENTS:
                stream.forget_removed(min(_versions(source)))
        else:
            self._bound(source, stream)

    def ended(self, source: Source, failure: Failure) -> None:
        """Note that a source will bring nothing more. Called by the link."""
        source.stream.failure = failure
        source.subscription = None
        source.subscribing = None
        for watch in source.watches:
            self._mark(watch)

    def _bound(self, source: Source, stream: EventStream) -> None:
        """Keep a stream within its bytes, at the cost of nobody who reads.

        While all its clients do not read, upstream waits for them.
        """
        # Nobody could bring again what one that has ended gives up.
        if stream.held <= self._held_bytes or stream.failure is not None:
            return
        if not source.trim(stream, held=self._held_bytes, ring=self._ring_bytes):
            source.paused = True
            self._unsubscribe(source)

    def _mark(self, watch: Watch) -> None:
        if not watch.marked:
            watch.marked = True
            self._marked.append(watch)
            if len(self._marked) == 1:
                self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        marked, self._marked = self._marked, []
        stalled: dict[Source, EventStream] = {}
        for watch in marked:
            watch.marked = False
            if watch.source is None:
                continue
            if watch.client.writable():
                self._deliver(watch, watch.source)
            else:
                watch.waiting = True
                self._stalls.add(watch.client)
                if isinstance(watch.source.stream, EventStream):
                    stalled[watch.source] = watch.source.stream
        for source, stream in stalled.items():
            self._bound(source, stream)

    def _deliver(self, watch: Watch, source: Source) -> None:
        if isinstance(watch.reader, EventReader) and watch.reader.fallen:
            source = self._restart(watch, watch.reader, source)
        updates, more = watch.reader.take(FRAME_BYTES)
        if updates:
            watch.client.send(watch.client.encoding.splice(watch.opening, updates))
            self._sent[type(source.stream)].count += len(updates)
        if more:
            self._mark(watch)
        elif source.stream.failure is not None:
            failure = source.stream.failure
            self.leave(watch)
            watch.client.watch_ended(watch.id, failure)
        elif source.paused:
            if watch.client.writable():
                # It has all that was held: go on.
                self._subscribe(source)
            else:
                self._mark(watch)
        elif isinstance(watch.reader, EventReader):
            self._merge(watch, watch.reader, source)

    def _merge(self, watch: Watch, reader: EventReader, source: Source) -> None:
        """Let a watch that has caught up share the oldest stream of its agent again."""
        first = source.siblings[0]
        if first is source or first.paused or not source.stream.live or not first.stream.live:
            return
        if isinstance(first.stream, EventStream) and reader.fits(first.stream):
            self._move(watch, reader, first, first.stream)
            self._mark(watch)

    def _restart(self, watch: Watch, reader: EventReader, source: Source) -> Source:
        """Give a watch that fell out of its stream one of its own, from its position."""
        stream = EventStream(
            parent=source.key.parent,
            after=reader.sequence,
            encoding=source.key.encoding,
            log_id=reader.log_id,
        )
        own = self._open(source.key, stream)
        self._move(watch, reader, own, stream)
        return own

    def _move(self, watch: Watch, reader: EventReader, source: Source, stream: EventStream) -> None:
        reader.move(stream)
        self.leave(watch)
        watch.source = source
        source.watches[watch] = None


def _versions(source: Source) -> list[int]:
    readers = (watch.reader for watch in source.watches)
    return [reader.version for reader in readers if isinstance(reader, AgentReader)]


class _Follower:
    """What the link calls for one subscription attempt of a source.

    A source can be subscribed to again while the link still holds calls of the
    subscription before; those must not reach it.
    """

    __slots__ = ("_delivery", "_source")

    def __init__(self, delivery: Delivery, source: Source) -> None:
        self._delivery = delivery
        self._source = source

    def request(self, feed_id: str, subscription: int) -> Message:
        request = feed_pb2.SubscribeRequest(feed_id=feed_id, subscription=subscription)
        self._source.stream.fill(request)
        return request

    def on_updates(self, updates: Sequence[Update]) -> None:
        if self._source.follower is self:
            self._delivery.arrived(self._source, updates)

    def on_end(self, failure: Failure) -> None:
        if self._source.follower is self:
            self._delivery.ended(self._source, failure)
