"""Subscriptions that follow their user from pod to pod.

Does not know what is followed, nor how a pod is found.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial

from google.protobuf.message import Message

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.chassis.feed_link import Subscription
from services.chassis.identity import Identity
from services.chassis.tasks import Tasks
from services.gateway.pods import Pod
from services.gateway.routing import LAST_DELAY, Router, passes
from services.gateway.upstream import Update

_FIRST_PATIENCE = timedelta(seconds=10)
_PATIENCE = timedelta(seconds=60)
# When many users have lost their pod: how many of them begin to look for another one
# a second, and how many ask again a second while there is none.
_MOVES = 500.0
_MOST_SPREAD = 2.0
_ROUNDS = 250.0
_MOST_DELAY = 4.0


class _Stay:
    """A subscription at one pod."""

    __slots__ = ("failure", "inner", "pod")

    def __init__(self, pod: Pod) -> None:
        self.pod = pod
        self.inner: Subscription[Update] | None = None
        # Why it was over before it had begun.
        self.failure: Failure | None = None


class RoutedLink:
    """A `Link` to whichever pod serves the user.

    When a pod lets go of a user, or is gone, all that is followed of the user is
    followed elsewhere, from the position reached. The users of a pod that is gone
    are not looked for all at once.

    Args:
        router: Finds the pods.
        tasks: Owns the looking.
    """

    def __init__(self, *, router: Router, tasks: Tasks) -> None:
        self._router = router
        self._tasks = tasks
        # Where each is; and by user those that are nowhere at the moment.
        self._stays: dict[Subscription[Update], _Stay] = {}
        self._moving: dict[str, dict[Subscription[Update], None]] = {}

    def __len__(self) -> int:
        return len(self._stays)

    @property
    def moving(self) -> int:
        """How many users are looked for."""
        return len(self._moving)

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
        subscription = Subscription(
            identity=identity,
            request=request,
            on_updates=on_updates,
            on_end=on_end,
            on_reset=on_reset,
        )
        await self._place(subscription, _FIRST_PATIENCE)
        return subscription

    async def unsubscribe(self, subscription: Subscription[Update]) -> None:
        """See `Link`."""
        subscription.open = False
        stay = self._stays.pop(subscription, None)
        if stay is not None and stay.inner is not None:
            await stay.pod.link.unsubscribe(stay.inner)

    async def _place(self, subscription: Subscription[Update], patience: timedelta) -> None:
        """Subscribe at the pod that serves the user.

        Raises:
            Failure: Why it cannot be followed, or not yet.
        """

        async def attempt(pod: Pod, _: timedelta) -> None:
            async with pod.slots:
                await self._subscribe(subscription, pod)

        await self._router.route(
            subscription.identity.user, attempt, timeout=patience, last_delay=self._last_delay
        )

    async def _subscribe(self, subscription: Subscription[Update], pod: Pod) -> None:
        if not subscription.open:
            raise _abandoned()
        stay = _Stay(pod)

        def request(feed_id: str, number: int) -> Message:
            # An attempt before this one may have brought something, which is kept.
            subscription.on_reset()
            return subscription.request(feed_id, number)

        stay.inner = await pod.link.subscribe(
            identity=subscription.identity,
            request=request,
            on_updates=subscription.on_updates,
            on_end=partial(self._ended, subscription, stay),
            on_reset=_nothing,
        )
        if stay.failure is not None:
            raise stay.failure
        if not subscription.open:
            await pod.link.unsubscribe(stay.inner)
            raise _abandoned()
        self._stays[subscription] = stay

    def _ended(self, subscription: Subscription[Update], stay: _Stay, failure: Failure) -> None:
        if self._stays.get(subscription) is not stay:
            stay.failure = failure
            return
        del self._stays[subscription]
        if not passes(failure):
            _end(subscription, failure)
            return
        user = subscription.identity.user
        if failure.reason != errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE:
            # Else its feed broke, which says nothing about the user.
            self._router.owners.forget(user, stay.pod.address)
        waiting = self._moving.get(user)
        if waiting is not None:
            waiting[subscription] = None
            return
        self._moving[user] = {subscription: None}
        self._tasks.spawn(self._move(user), name="move")

    async def _move(self, user: str) -> None:
        """Follow again what is followed of a user, one after the other.

        The first finds the pod, and the others find it remembered.
        """
        spread = min(_MOST_SPREAD, len(self._moving) / _MOVES)
        await asyncio.sleep(random.uniform(0, spread))  # noqa: S311
        waiting = self._moving[user]
        try:
            while waiting:
                subscription = next(iter(waiting))
                try:
                    await self._place(subscription, _PATIENCE)
                except Failure as failure:
                    if passes(failure) and subscription.open:
                        continue
                    _end(subscription, failure)
                del waiting[subscription]
        finally:
            del self._moving[user]

    def _last_delay(self) -> float:
        return min(_MOST_DELAY, max(LAST_DELAY, len(self._moving) / _ROUNDS))


def _end(subscription: Subscription[Update], failure: Failure) -> None:
    if subscription.open:
        subscription.open = False
        subscription.on_end(failure)


def _abandoned() -> Failure:
    return Failure(errors_pb2.ERROR_REASON_CALL_CANCELLED, "It is not followed any more.")


def _nothing() -> None:
    """Do nothing: `request` resets by itself."""
