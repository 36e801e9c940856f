"""One execution that is followed over a link.

Does not know the executor, nor what its news mean.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias

from moorline.executor.v1 import executions_pb2, feed_pb2
from services.chassis.failures import Failure
from services.chassis.feed_link import FeedLink, Subscription
from services.chassis.identity import Identity
from services.session.executors.executor import Listener

Update: TypeAlias = executions_pb2.ExecutionUpdate

IDENTITY = Identity(user="services/session")
"""Whom calls to executors are made for."""


def execution_name(execution_id: str) -> str:
    """Return the name of an execution."""
    return f"executions/{execution_id}"


class Owner(Protocol):
    """Whose subscriptions they are."""

    def translate(self, event: executions_pb2.ExecutionEvent) -> None:
        """Put the database's time in the place of the executor's."""

    def forget(self, followed: Followed) -> None:
        """Take a closed subscription off."""


class Followed:
    """One subscription; an `executor.Subscription`.

    Args:
        owner: Whose it is.
        execution_id: The execution.
        listener: Who hears of it; None while nobody does, which keeps what comes.

    Attributes:
        subscription: At the feed; None before `begin`.
        ended: True once the outcome has come, after which the executor sends nothing.
    """

    __slots__ = ("_early", "_execution_id", "_listener", "_owner", "ended", "subscription")

    def __init__(self, owner: Owner, execution_id: str, listener: Listener | None = None) -> None:
        self._owner = owner
        self._execution_id = execution_id
        self._listener = listener
        self._early: list[Sequence[Update]] = []
        self.subscription: Subscription[Update] | None = None
        self.ended = False

    @property
    def open(self) -> bool:
        """True while something may come."""
        return self.subscription is not None and self.subscription.open

    async def begin(
        self, link: FeedLink[Update], call: Callable[[str, int], Awaitable[bool]] | None = None
    ) -> None:
        """Follow it from the listener's position, or from its beginning.

        Args:
            link: The feed.
            call: See `FeedLink.subscribe`.

        Raises:
            Failure: As `FeedLink.subscribe`.
        """
        self.subscription = await link.subscribe(
            identity=IDENTITY,
            request=self._request,
            on_updates=self._updates,
            on_end=self.end,
            on_reset=self._reset,
            call=call,
        )

    def take(self, listener: Listener) -> bool:
        """Let a listener hear all from the beginning; False when that is not to be had."""
        if not self.open or listener.position():
            self.close()
            return False
        self._listener = listener
        early, self._early = self._early, []
        for updates in early:
            listener.updates(updates)
        return True

    def close(self) -> None:
        """Stop following; see `executor.Subscription`."""
        self._owner.forget(self)

    def end(self, failure: Failure) -> None:
        """Pass on that nothing will follow."""
        self._owner.forget(self)
        if self._listener is not None:
            self._listener.end(failure)

    def _request(self, feed_id: str, subscription: int) -> feed_pb2.SubscribeRequest:
        return feed_pb2.SubscribeRequest(
            feed_id=feed_id,
            subscription=subscription,
            watch=executions_pb2.WatchExecutionRequest(
                name=execution_name(self._execution_id),
                after_sequence=0 if self._listener is None else self._listener.position(),
            ),
        )

    def _updates(self, updates: Sequence[Update]) -> None:
        for update in updates:
            if update.HasField("event"):
                self._owner.translate(update.event)
                self.ended = self.ended or update.event.item.HasField("turn_outcome")
        if self._listener is None:
            self._early.append(updates)
        else:
            self._listener.updates(updates)

    def _reset(self) -> None:
        if self._listener is None:
            self._early.clear()
        else:
            self._listener.reset()
