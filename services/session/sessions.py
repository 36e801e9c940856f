"""Who is in memory: one session for each user, with the agents in use.

A session has no id and nobody depends on it surviving: whatever it knows comes
back from the store. Does not know gRPC, nor what happens inside an agent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.session.agents import LiveAgent
from services.session.deletion import delete_documents, delete_workspace
from services.session.environment import Environment
from services.session.names import AgentName
from services.session.records import WORK
from services.session.session import Session

T = TypeVar("T")

log = logging.getLogger(__name__)

_SWEEP_SECONDS = 30.0
_RETRY_DELAY = timedelta(seconds=1)


class Sessions:
    """The users whose session is in memory.

    Args:
        environment: What sessions work with.
    """

    def __init__(self, *, environment: Environment) -> None:
        self._environment = environment
        self._sessions: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    async def start(self) -> None:
        """Take up everything an earlier process left unfinished.

        Raises:
            Failure: STORE_UNAVAILABLE; calling it again goes on.
        """
        environment = self._environment
        environment.clock.observe(await environment.store.now())
        after = ""
        while entries := await environment.store.read(WORK, after=after):
            for entry in entries:
                fields = entry.fields
                agent = AgentName(fields["user"], fields["agent"])
                if fields["kind"] == "deletion":
                    await delete_documents(environment.store, agent)
                    self._delete_workspace(agent, fields["workspace"])
                else:
                    session = await self.session(agent.user, admit=True)
                    # A deletion before it in the list may have taken it with it.
                    if agent.agent in session.agent_ids():
                        await session.agent(agent.agent)
            after = entries[-1].id
        environment.tasks.spawn(self._sweep(), name="session-sweep")

    async def session(self, user: str, *, admit: bool = False) -> Session:
        """Return a user's session, loaded if need be.

        Args:
            user: Id of the user.
            admit: True lets it in although there is no room.

        Raises:
            Failure: SESSION_CAPACITY, STORE_UNAVAILABLE.
        """
        session = self._sessions.get(user)
        if session is None:
            if len(self._sessions) >= self._environment.limits.sessions and not admit:
                self._evict_one()
            session = Session(
                environment=self._environment,
                user=user,
                delete_workspace=self._delete_workspace,
            )
            self._sessions[user] = session
            self._environment.measures.sessions.set(len(self._sessions))
        await session.load()
        return session

    async def with_session(self, user: str, operation: Callable[[Session], Awaitable[T]]) -> T:
        """Run an operation on a user's session, once more when it was fenced meanwhile.

        Raises:
            Failure: SESSION_CAPACITY, STORE_UNAVAILABLE, and what the operation
                raises.
        """
        try:
            return await operation(await self.session(user))
        except Failure as failure:
            if failure.reason != errors_pb2.ERROR_REASON_FENCED:
                raise
        return await operation(await self.session(user))

    async def with_agent(
        self, name: AgentName, operation: Callable[[LiveAgent], Awaitable[T]]
    ) -> T:
        """Run an operation on a loaded agent, once more when it was fenced meanwhile.

        Raises:
            Failure: RESOURCE_NOT_FOUND, SESSION_CAPACITY, STORE_UNAVAILABLE, and
                what the operation raises.
        """

        async def run(session: Session) -> T:
            return await operation(await session.agent(name.agent))

        return await self.with_session(name.user, run)

    async def drain(self) -> None:
        """Let go of every running turn and wait until every commit asked for has ended."""
        for session in list(self._sessions.values()):
            await session.settle()

    def sweep(self) -> None:
        """Evict what was idle for too long."""
        for user, session in list(self._sessions.items()):
            if session.evict_idle():
                self._drop(user)

    async def _sweep(self) -> None:
        while True:
            idle = self._environment.limits.idle.total_seconds()
            await asyncio.sleep(min(_SWEEP_SECONDS, idle))
            self.sweep()

    def _evict_one(self) -> None:
        """Make room for another session."""
        idle = [user for user, session in self._sessions.items() if not session.busy]
        if not idle:
            raise Failure(
                errors_pb2.ERROR_REASON_SESSION_CAPACITY,
                "There is no room for another session. Try again after a second.",
                retry_delay=_RETRY_DELAY,
            )
        user = min(idle, key=lambda user: self._sessions[user].used)
        self._sessions[user].close()
        self._drop(user)

    def _drop(self, user: str) -> None:
        del self._sessions[user]
        self._environment.measures.sessions.set(len(self._sessions))

    def _delete_workspace(self, agent: AgentName, workspace: str) -> None:
        self._environment.tasks.spawn(
            self._deleted_workspace(agent, workspace), name="delete-workspace"
        )

    async def _deleted_workspace(self, agent: AgentName, workspace: str) -> None:
        try:
            await delete_workspace(self._environment, agent, workspace)
        except Failure as failure:
            # The work entry stays, and the next start tries again.
            log.warning(
                "workspace not deleted",
                extra={"agent": str(agent), "reason": failure.reason_name},
            )
