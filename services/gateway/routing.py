"""Finds the pod that serves a user, and brings calls there.

One pod at a time owns a user; which one only the pods know, by the database. A
gateway guesses, and a pod that is asked in vain says who the owner is. Does not
know what the calls are about.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TypeVar

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.chassis.rendezvous import ranked
from services.gateway.pods import Pod, Pods
from services.gateway.upstream import PASSING

T = TypeVar("T")

HOPS = 3
"""How often a call is sent on at once."""
SILENT_SECONDS = 5.0
"""A call to a pod that says nothing, not even on its feed, is given up after so long."""
FIRST_DELAY = 0.05
"""Before the second round through the pods; each later one waits twice as long."""
LAST_DELAY = 1.0
"""At most this long."""
SHORT_SECONDS = 7.0
"""How long a call is tried again when it is the store or room that is missing."""
SEVERED_SECONDS = 20.0
"""An owner that is named after so long out of reach lives: a dead one's lease is over sooner."""
USERS = 100_000
"""How many users' pods are remembered."""

UNTOUCHED = frozenset(
    {
        errors_pb2.ERROR_REASON_NOT_OWNER,
        errors_pb2.ERROR_REASON_SESSION_CAPACITY,
        errors_pb2.ERROR_REASON_DRAINING,
    }
)
"""Reasons of a pod that has done nothing about a call."""
_UNREACHABLE = frozenset(
    {errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE, errors_pb2.ERROR_REASON_CALL_TIMEOUT}
)
_FULL = frozenset({errors_pb2.ERROR_REASON_SESSION_CAPACITY, errors_pb2.ERROR_REASON_DRAINING})
_SHORT = frozenset(
    {errors_pb2.ERROR_REASON_STORE_UNAVAILABLE, errors_pb2.ERROR_REASON_SESSION_CAPACITY}
)


class Owners:
    """Where users were found last; forgets who was not looked for the longest time."""

    def __init__(self, *, size: int = USERS) -> None:
        self._size = size
        self._addresses: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._addresses)

    def get(self, user: str) -> str:
        """Return the address of a user's pod; empty when it is not known."""
        return self._addresses.get(user, "")

    def put(self, user: str, address: str) -> None:
        """Remember it."""
        self._addresses.pop(user, None)
        self._addresses[user] = address
        if len(self._addresses) > self._size:
            del self._addresses[next(iter(self._addresses))]

    def forget(self, user: str, address: str) -> None:
        """Forget that a user was there."""
        if self._addresses.get(user) == address:
            del self._addresses[user]

    def items(self) -> list[tuple[str, str]]:
        """Return every user with the address."""
        return list(self._addresses.items())


class _Trip:
    """One call on its way."""

    __slots__ = ("delay", "end", "failure", "hops", "start", "target", "tried", "unreachable")

    def __init__(self, start: float, seconds: float) -> None:
        self.start = start
        self.end = start + seconds
        self.delay = FIRST_DELAY
        # Where it was sent on to, and how often since it last rested.
        self.target = ""
        self.hops = 0
        # Addresses that failed since it last rested; and when others did not answer.
        self.tried: set[str] = set()
        self.unreachable: dict[str, float] = {}
        # What to say when the time is up.
        self.failure: Failure | None = None

    def note(self, failure: Failure) -> None:
        """Keep what explains most.

        That the time is up explains least: it is how the last attempt ends, whatever
        the ones before it met.
        """
        known = self.failure
        if known is None or (
            known.reason != errors_pb2.ERROR_REASON_STORE_UNAVAILABLE
            and failure.reason != errors_pb2.ERROR_REASON_CALL_TIMEOUT
        ):
            self.failure = failure

    def silent(self, pod: Pod) -> bool:
        """True when the pod did not answer and has given no sign of life since."""
        since = self.unreachable.get(pod.address)
        return since is not None and pod.heard <= since


class Router:
    """Brings calls to the pod that owns the user.

    The owner that is remembered is asked, else the one that every gateway would
    choose among the pods it can reach.

    Args:
        pods: The pods there are.
        silent_seconds: How long a pod may say nothing during a call.
        short_seconds: How long a call is repeated when the store or room is missing.
        on_severed: Called with a user whose owner lives, by what other pods say, but
            cannot be reached from here; again and again for as long as that is so.
    """

    def __init__(
        self,
        *,
        pods: Pods,
        silent_seconds: float = SILENT_SECONDS,
        short_seconds: float = SHORT_SECONDS,
        on_severed: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.owners = Owners()
        self._pods = pods
        self._silent_seconds = silent_seconds
        self._short_seconds = short_seconds
        self._on_severed = on_severed
        # By address: until when a pod that takes no new users is not chosen.
        self._full: dict[str, float] = {}

    async def route(
        self,
        user: str,
        attempt: Callable[[Pod, timedelta], Awaitable[T]],
        *,
        timeout: timedelta,  # noqa: ASYNC109
        repeat: bool = True,
        remember: bool = True,
        last_delay: Callable[[], float] = lambda: LAST_DELAY,
    ) -> T:
        """Make a call at the pod that serves a user, however often it takes.

        Args:
            user: `users/{user}`; or any key when `remember` is False.
            attempt: Makes the call, at a pod and within a time.
            timeout: How long all of it may take.
            repeat: False for a call that may have an effect each time: it is made
                again only when it surely had none.
            remember: False for a call that any pod may answer.
            last_delay: Seconds between two rounds at most.

        Raises:
            Failure: What the owner answered; or why none could be found in time,
                which is never NOT_OWNER.
        """
        trip = _Trip(asyncio.get_running_loop().time(), timeout.total_seconds())
        while True:
            pod = self._choose(user if remember else "", user, trip)
            if pod is None:
                await self._rest(trip, FIRST_DELAY, last_delay())
                continue
            try:
                answer = await self._attempt(pod, attempt, trip)
            except Failure as failure:
                if not passes(failure) or not (repeat or failure.reason in UNTOUCHED):
                    raise
                self.owners.forget(user, pod.address)
                if failure.reason != errors_pb2.ERROR_REASON_NOT_OWNER:
                    self._learn(pod, failure, trip)
                elif not self._follow(pod, failure, trip):
                    if remember and self._is_severed(failure):
                        self._on_severed(user)
                    hint = failure.retry_delay or timedelta(0)
                    await self._rest(trip, hint.total_seconds(), last_delay())
            else:
                if remember:
                    self.owners.put(user, pod.address)
                return answer

    def _choose(self, owned: str, key: str, trip: _Trip) -> Pod | None:
        """Return whom to ask next; None when nobody is left that has not failed just now."""
        if trip.target:
            target, trip.target = trip.target, ""
            return self._pods.get(target)
        pods = {pod.address: pod for pod in self._pods.discovered()}
        owner = self.owners.get(owned)
        if owner:
            pods[owner] = self._pods.get(owner)
        now = asyncio.get_running_loop().time()

        def reluctance(address: str) -> tuple[bool, bool, bool, bool]:
            pod = pods[address]
            full = address != owner and self._full.get(address, now) > now
            return pod.lost or trip.silent(pod), not pod.connected, full, address != owner

        choices = [address for address in ranked(key, pods) if address not in trip.tried]
        return pods[min(choices, key=reluctance)] if choices else None

    def _follow(self, pod: Pod, failure: Failure, trip: _Trip) -> bool:
        """Go where a pod says the owner is, unless that leads nowhere now."""
        address = failure.metadata.get("address", "")
        if not address or address == pod.address or trip.hops == HOPS:
            return False
        owner = self._pods.get(address)
        if owner.lost or trip.silent(owner):
            return False
        trip.hops += 1
        trip.target = address
        return True

    def _is_severed(self, failure: Failure) -> bool:
        address = failure.metadata.get("address", "")
        return bool(address) and self._pods.get(address).away_seconds >= SEVERED_SECONDS

    def _learn(self, pod: Pod, failure: Failure, trip: _Trip) -> None:
        now = asyncio.get_running_loop().time()
        trip.tried.add(pod.address)
        trip.note(failure)
        if failure.reason in _UNREACHABLE:
            trip.unreachable[pod.address] = now
        if failure.reason in _FULL:
            delay = failure.retry_delay or timedelta(seconds=LAST_DELAY)
            self._full = {address: end for address, end in self._full.items() if end > now}
            self._full[pod.address] = now + min(delay.total_seconds(), 5 * LAST_DELAY)
        if failure.reason in _SHORT:
            trip.end = min(trip.end, trip.start + self._short_seconds)

    async def _attempt(
        self, pod: Pod, attempt: Callable[[Pod, timedelta], Awaitable[T]], trip: _Trip
    ) -> T:
        left = trip.end - asyncio.get_running_loop().time()
        try:
            async with _answering(pod, self._silent_seconds, trip.end):
                return await attempt(pod, timedelta(seconds=max(left, 0.001)))
        except TimeoutError:
            raise Failure(
                errors_pb2.ERROR_REASON_CALL_TIMEOUT,
                "The session service did not answer in time. Try again.",
                retry_delay=timedelta(seconds=LAST_DELAY),
            ) from None

    async def _rest(self, trip: _Trip, least: float, most: float) -> None:
        """Wait before the next round.

        Raises:
            Failure: There is no time for another one.
        """
        delay = max(min(trip.delay, most), min(least, LAST_DELAY))
        delay *= random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
        if asyncio.get_running_loop().time() + delay >= trip.end:
            raise trip.failure or _unavailable()
        await asyncio.sleep(delay)
        trip.delay = min(most, trip.delay * 2)
        trip.hops = 0
        trip.tried.clear()


@asynccontextmanager
async def _answering(pod: Pod, seconds: float, end: float) -> AsyncIterator[None]:
    """Wait in the block until `end`, and for as long as the pod says something.

    Raises:
        TimeoutError: It said nothing for `seconds`, or the time is up.
    """
    loop = asyncio.get_running_loop()
    begin = loop.time()
    timer: asyncio.TimerHandle

    def look() -> None:
        nonlocal timer
        due = max(begin, pod.heard) + seconds
        if loop.time() < due:
            timer = loop.call_at(due, look)
        elif not scope.expired():
            scope.reschedule(0)

    async with asyncio.timeout_at(end) as scope:
        timer = loop.call_at(begin + seconds, look)
        try:
            yield
        finally:
            timer.cancel()


def passes(failure: Failure) -> bool:
    """True for what may be otherwise at another pod, or later."""
    # What the session service says about an executor is its answer.
    return failure.reason in PASSING and failure.metadata.get("service", "session") == "session"


def _unavailable() -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
        "The session service cannot be reached. Try again.",
        retry_delay=timedelta(seconds=LAST_DELAY),
        service="session",
    )
