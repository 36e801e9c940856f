"""Who is in memory: one session for each user that this process owns.

A session has no id and nobody depends on it surviving: whatever it knows comes
back from the store. Does not know gRPC, nor what happens inside an agent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import TypeVar

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.session.agent_deletion import delete_workspace
from services.session.agents import LiveAgent
from services.session.environment import Environment
from services.session.loading import outdated
from services.session.names import AgentName
from services.session.outcomes import moved
from services.session.ownership.keeping import SessionKeeper
from services.session.ownership.lease import not_owner
from services.session.ownership.ownership import Ownership
from services.session.session import Session
from services.session.store import unavailable

T = TypeVar("T")

log = logging.getLogger(__name__)

_SWEEP_SECONDS = 30.0
_CALL_SECONDS = 7.0
"""How long a call waits for a shared store, in all: whoever asked the gateway shall hear of an
outage within 8 s."""

_DRAIN_SECONDS = 2.0
_HANDED_OVER_SECONDS = 2.0
"""How long a user who was handed over is not taken back: others get a chance."""

_AT_ONCE = 64
_RETRY_DELAY = timedelta(seconds=1)


class Sessions:
    """The users whose session is in memory.

    Args:
        environment: What sessions work with.
        ownership: Says which users are ours.
    """

    def __init__(self, *, environment: Environment, ownership: Ownership) -> None:
        self._environment = environment
        self._ownership = ownership
        self._sessions: dict[str, Session] = {}
        # What is under way, by user.
        self._opening: dict[str, asyncio.Task[Session | Failure]] = {}
        self._closing: dict[str, asyncio.Task[None]] = {}
        # Loop times until which users are left to others.
        self._handed_over: dict[str, float] = {}
        self._deleting: set[str] = set()
        self._draining: Failure | None = None

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def suspended(self) -> int:
        """How many users wait for the database to say that they are still ours."""
        return sum(not session.lease.held for session in self._sessions.values())

    @property
    def draining(self) -> bool:
        """True once every user is being let go of, for good."""
        return self._draining is not None

    async def start(self) -> None:
        """Begin to let go of what is idle.

        Raises:
            Failure: STORE_UNAVAILABLE; calling it again goes on.
        """
        environment = self._environment
        environment.clock.observe(await environment.store.now())
        environment.tasks.spawn(self._sweep(), name="session-sweep")

    def find(self, user: str) -> Session | None:
        """Return a user's session if it is in memory."""
        return self._sessions.get(user)

    async def session(self, user: str, *, admit: bool = False) -> Session:
        """Return a user's session, loaded if need be, of whom we are surely the owner.

        Args:
            user: Id of the user.
            admit: True lets it in although there is no room.

        Raises:
            Failure: NOT_OWNER, SESSION_CAPACITY, DRAINING, STORE_UNAVAILABLE.
        """
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                while True:
                    if self._draining is not None:
                        raise self._draining
                    session = self._sessions.get(user) or await self._opened(user, admit=admit)
                    try:
                        await session.lease.confirm()
                        await session.load()
                    except Failure:
                        if not session.closed:
                            raise
                    if not session.closed:
                        return session
        except TimeoutError:
            raise unavailable() from None

    async def with_session(self, user: str, operation: Callable[[Session], Awaitable[T]]) -> T:
        """Run an operation on a user's session, once more when it was not ours meanwhile.

        Raises:
            Failure: NOT_OWNER, SESSION_CAPACITY, DRAINING, STORE_UNAVAILABLE, and
                what the operation raises.
        """
        try:
            async with asyncio.timeout(_CALL_SECONDS if self._ownership.shared else None):
                with suppress(_AgainError):
                    return await self._once(user, operation)
                return await self._once(user, operation)
        except _AgainError as again:
            raise again.failure from None
        except TimeoutError:
            raise unavailable() from None

    async def with_agent(
        self, name: AgentName, operation: Callable[[LiveAgent], Awaitable[T]]
    ) -> T:
        """Run an operation on a loaded agent, once more when it was not ours meanwhile.

        Raises:
            Failure: RESOURCE_NOT_FOUND, and as for `with_session`.
        """

        async def run(session: Session) -> T:
            return await operation(await session.agent(name.agent))

        return await self.with_session(name.user, run)

    async def agent(self, name: AgentName, *, known: int = 0, log_id: str = "") -> LiveAgent:
        """Return a loaded agent of a user who is surely ours until the next wait.

        Args:
            name: Its name.
            known: Number of an event that the caller knows.
            log_id: Id of the history that it is in; empty when that is not known.

        Raises:
            Failure: RESOURCE_NOT_FOUND, and as for `with_session`.
        """

        async def loaded(session: Session) -> LiveAgent:
            agent = await session.agent(name.agent)
            if known > agent.log.head or log_id not in ("", agent.record.log_id):
                # Whoever knows more than we do may have read what we have not heard of
                # yet, or have it from another owner.
                await agent.log.caught_up()
                await session.lease.verify()
                if await outdated(agent):
                    session.fenced(name.agent)
                    return await session.agent(name.agent)
            return agent

        return await self.with_session(name.user, loaded)

    async def drain(self) -> None:
        """Let go of every running turn and of every user, and end what follows.

        Executions go on at their executors. Each user is given back as soon as
        nothing of theirs is in flight; one for whom that takes too long is not.
        """
        self._draining = Failure(
            errors_pb2.ERROR_REASON_DRAINING,
            "This server is shutting down. Connect again.",
            retry_delay=timedelta(milliseconds=100),
        )
        slots = asyncio.Semaphore(_AT_ONCE)
        under_way = [*self._opening.values(), *self._closing.values()]
        await asyncio.gather(
            *(
                self._hand_over(session, self._draining, slots)
                for session in list(self._sessions.values())
            ),
            *(asyncio.wait([task], timeout=_DRAIN_SECONDS) for task in under_way),
        )
        if self._closing:
            # Of users who were being opened.
            await asyncio.wait(self._closing.values(), timeout=_DRAIN_SECONDS)

    def release(self, user: str) -> None:
        """Have a user served elsewhere, as soon as none of the user's turns runs."""
        session = self._sessions.get(user)
        if session is not None and self._ownership.shared:
            session.when_free(lambda: self._leave(user, session))

    def sweep(self) -> None:
        """Evict what was idle for too long."""
        for user, session in list(self._sessions.items()):
            if session.evict_idle():
                self._let_go(user, session)

    def delete_workspace(self, agent: AgentName, workspace: str) -> None:
        """Begin to remove the files of an agent that is gone, unless that began before."""
        if workspace not in self._deleting:
            self._deleting.add(workspace)
            self._environment.tasks.spawn(
                self._deleted_workspace(agent, workspace), name="delete-workspace"
            )

    async def _once(self, user: str, operation: Callable[[Session], Awaitable[T]]) -> T:
        """Run an operation, and make sure after it that the user was still ours."""
        session = await self.session(user)
        with session.in_use():
            try:
                result = await operation(session)
            except Failure as failure:
                if failure.reason == errors_pb2.ERROR_REASON_FENCED:
                    await self._sure(session, verify=True)
                    raise _AgainError(failure) from failure
                await self._sure(session)
                raise
            await self._sure(session)
            return result

    async def _sure(self, session: Session, *, verify: bool = False) -> None:
        """Check that nobody else owned a session's user while a call was served."""
        try:
            await (session.lease.verify() if verify else session.lease.confirm())
        except Failure as failure:
            if session.closed:
                raise _AgainError(failure) from failure
            raise
        if session.closed:
            raise _AgainError(not_owner())

    async def _opened(self, user: str, *, admit: bool) -> Session:
        """Return a new session; concurrent calls get the same one."""
        opening = self._opening.get(user)
        if opening is None:
            opening = self._opening[user] = self._environment.tasks.spawn(
                self._open(user, admit=admit), name="session-open"
            )
        session = await asyncio.shield(opening)
        if isinstance(session, Failure):
            raise session
        return session

    async def _open(self, user: str, *, admit: bool) -> Session | Failure:
        """Become the owner of a user; return why not, since this is a task."""
        try:
            closing = self._closing.get(user)
            if closing is not None:
                await asyncio.wait([closing])
            self._require_free(user)
            self._make_room(admit=admit)
            keeper = SessionKeeper(
                let_go=lambda session: self._let_go(user, session),
                drop=lambda session: self._drop(user, session),
            )
            lease = await self._ownership.acquire(user, keeper)
            session = keeper.session = Session(
                environment=self._environment,
                user=user,
                lease=lease,
                delete_workspace=self.delete_workspace,
            )
            self._sessions[user] = session
            self._count()
            if self._draining is not None:
                self._let_go(user, session)
                raise self._draining
        except Failure as failure:
            return failure
        else:
            return session
        finally:
            del self._opening[user]

    def _require_free(self, user: str) -> None:
        until = self._handed_over.get(user)
        if until is None:
            return
        if asyncio.get_running_loop().time() < until:
            raise _handed_over()
        del self._handed_over[user]

    def _make_room(self, *, admit: bool) -> None:
        """See that one more session fits."""
        # Those being opened count, this one included.
        taken = len(self._sessions) + len(self._opening) - 1
        if admit or taken < self._environment.limits.sessions:
            return
        idle = [user for user, session in self._sessions.items() if not session.busy]
        if not idle:
            raise Failure(
                errors_pb2.ERROR_REASON_SESSION_CAPACITY,
                "There is no room for another session. Try again after a second.",
                retry_delay=_RETRY_DELAY,
            )
        user = min(idle, key=lambda user: self._sessions[user].used)
        self._let_go(user, self._sessions[user])

    def _leave(self, user: str, session: Session) -> None:
        """Hand a user over to whoever comes first, but us."""
        now = asyncio.get_running_loop().time()
        self._handed_over = {
            other: until for other, until in self._handed_over.items() if now < until
        }
        self._handed_over[user] = now + _HANDED_OVER_SECONDS
        self._drop(user, session)
        self._close(user, lambda: self._hand_over(session, _handed_over(), asyncio.Semaphore()))

    async def _hand_over(
        self, session: Session, failure: Failure, slots: asyncio.Semaphore
    ) -> None:
        """Let go of a user's turns, then of the user, then of whoever follows."""
        limit = _DRAIN_SECONDS if self._ownership.shared else None
        try:
            async with asyncio.timeout(limit), slots:
                await session.settle()
                await session.lease.release(failure)
        except TimeoutError:
            # Something may still be in flight: the lease has to expire.
            log.warning("user not handed over in time")
        session.close(failure)

    def _let_go(self, user: str, session: Session) -> None:
        """Let go of a user for whom there is nothing to do."""
        session.close(moved())
        self._drop(user, session)
        self._close(user, lambda: session.lease.release(not_owner()))

    def _close(self, user: str, closing: Callable[[], Awaitable[None]]) -> None:
        async def close() -> None:
            try:
                # Made here: a task that is cancelled before it begins would leave it behind.
                await closing()
            finally:
                # One that took too long may have been given up, and another begun.
                if self._closing.get(user) is task:
                    del self._closing[user]

        task = self._closing[user] = self._environment.tasks.spawn(close(), name="session-close")

    def _drop(self, user: str, session: Session) -> None:
        if self._sessions.get(user) is session:
            del self._sessions[user]
            self._count()

    def _count(self) -> None:
        self._environment.measures.sessions.set(len(self._sessions))

    async def _sweep(self) -> None:
        while True:
            idle = self._environment.limits.idle.total_seconds()
            await asyncio.sleep(min(_SWEEP_SECONDS, idle))
            self.sweep()

    async def _deleted_workspace(self, agent: AgentName, workspace: str) -> None:
        try:
            await delete_workspace(self._environment, agent, workspace)
        except Failure as failure:
            # The work entry stays, and whoever sweeps next tries again.
            log.warning(
                "workspace not deleted",
                extra={"agent": str(agent), "reason": failure.reason_name},
            )
        finally:
            self._deleting.discard(workspace)


class _AgainError(Exception):
    """Raised when an operation may have met what was not ours any more."""

    def __init__(self, failure: Failure) -> None:
        super().__init__()
        self.failure = failure


def _handed_over() -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_DRAINING,
        "This user is served elsewhere from now on. Connect again.",
        retry_delay=timedelta(milliseconds=100),
    )
