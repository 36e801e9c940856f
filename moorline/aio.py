"""The asynchronous client: one socket, any number of agents.

    async with moorline.AsyncClient() as client:
        agent = await client.agents.create(display_name="fix-login")
        async with agent.run("Fix the failing test.") as turn:
            async for event in turn:
                ...

Knows the calls of the protocol by name, and nothing of sockets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from moorline.async_agent import AsyncAgent
from moorline.async_agents import AsyncAgents
from moorline.checks import Check, check_from
from moorline.connection import Connection, ConnectionState, Patience
from moorline.decoding import format_duration
from moorline.resources import (
    Backend,
    Key,
    MonthlyUsage,
    NewKey,
    backend_from,
    key_fields,
    monthly_usage_from,
)
from moorline.turn_stream import OnPermission, TurnResult


class AsyncClient:
    """A connection of one user.

    Use it as a context manager. Where to connect is taken, in this order, from
    the arguments, from `MOORLINE_URL`, `MOORLINE_TOKEN` and `MOORLINE_CONTEXT`,
    and from `$XDG_CONFIG_HOME/moorline/config.toml`; see `moorline.contexts`.

    A broken connection is mended without the caller's help: calls that are safe
    to repeat are repeated, streams go on where they were.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        context: str | None = None,
        *,
        token_file: Path | None = None,
        patience: Patience | None = None,
        on_state: Callable[[ConnectionState], None] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare; nothing is connected before the context is entered.

        Args:
            url: `http(s)://host[:port]`; None to look further.
            token: Bearer token; None to look further.
            context: Name of a context of the configuration file.
            token_file: File with the token, read at each connection.
            patience: How long to wait for what.
            on_state: Called at each change of the connection's state.
            environ: Environment to look in; None for the process's.

        Raises:
            InvalidRequestError: No server is known, or the context is not.
        """
        # Here, so that `python -m moorline.contexts` finds its module not yet imported.
        from moorline import contexts  # noqa: PLC0415

        self.target = contexts.resolve(
            url=url,
            token=token,
            token_file=token_file,
            context=context,
            environ=contexts.environment() if environ is None else environ,
        )
        self.connection = Connection(
            url=self.target.url,
            token=self.target.token,
            patience=patience or Patience(),
            on_state=on_state or (lambda _: None),
        )
        self.agents = AsyncAgents(self.connection)
        self.keys = AsyncKeys(self.connection)

    async def __aenter__(self) -> Self:
        await self.connection.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave; what the agents do goes on."""
        await self.connection.close()

    @property
    def user(self) -> str:
        """`users/{user}`: who the server takes the client for."""
        return str(self.connection.welcome.get("user", ""))

    @property
    def server_version(self) -> str:
        """Version of the server, for people."""
        return str(self.connection.welcome.get("version", ""))

    async def backends(self) -> tuple[Backend, ...]:
        """Every way of running agents there is, available or not."""
        reply = await self.connection.call("listBackends", {})
        return tuple(backend_from(backend) for backend in reply.get("backends", ()))

    async def usage(self, month: str = "current") -> MonthlyUsage:
        """What all agents of the user consumed in a month.

        Args:
            month: As `2026-11`, in UTC.
        """
        reply = await self.connection.call("getUsage", {"name": f"{self.user}/usage/{month}"})
        return monthly_usage_from(reply["usage"])

    async def diagnose(self) -> tuple[Check, ...]:
        """Look at everything that agents need; for administrators.

        Raises:
            PermissionDeniedError: The user is none.
        """
        reply = await self.connection.call("diagnose", {})
        return tuple(check_from(check) for check in reply.get("checks", ()))

    async def run(
        self,
        prompt: str,
        *,
        agent: str | AsyncAgent | None = None,
        on_permission: OnPermission | None = None,
    ) -> TurnResult:
        """Run one turn to its end.

        Args:
            prompt: What to do, 1 to 100 000 characters.
            agent: Whom to ask; None for a new agent.
            on_permission: Decides about permissions; None to leave them open.

        Raises:
            TurnFailedError: The turn did not finish.
        """
        if agent is None:
            agent = await self.agents.create()
        elif isinstance(agent, str):
            agent = await self.agents.get(agent)
        async with agent.run(prompt, on_permission=on_permission) as stream:
            await stream.wait()
        return stream.result_or_raise()


class AsyncKeys:
    """API keys: how programs prove who they act for."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def create(
        self, *, user: str | None = None, display_name: str = "", ttl: timedelta | None = None
    ) -> NewKey:
        """Make a key; its secret is in the result and nowhere else, ever.

        Args:
            user: For whom, an id; None for the caller. Others need an administrator.
            display_name: For people, at most 63 characters.
            ttl: How long it is good, 1 s to 366 days; None for 90 days.

        Raises:
            ConnectionLostError: The connection broke before the answer; a key
                may have been made that nobody knows the secret of.
        """
        request = {"parent": self._parent(user), "displayName": display_name}
        if ttl is not None:
            request["ttl"] = format_duration(ttl)
        reply = await self._connection.call("createKey", request, repeatable=False)
        return NewKey(**key_fields(reply["key"]), secret=reply.get("secret", ""))

    async def list(self, *, user: str | None = None) -> tuple[Key, ...]:
        """Every key of a user, oldest first, revoked and expired ones included."""
        reply = await self._connection.call("listKeys", {"parent": self._parent(user)})
        return tuple(Key(**key_fields(key)) for key in reply.get("keys", ()))

    async def revoke(self, key: str, *, user: str | None = None) -> Key:
        """Revoke a key; doing it again changes nothing.

        Args:
            key: Its id, or its whole name.
            user: Whose it is, for an id; None for the caller.
        """
        name = key if "/" in key else f"{self._parent(user)}/keys/{key}"
        reply = await self._connection.call("revokeKey", {"name": name})
        return Key(**key_fields(reply["key"]))

    def _parent(self, user: str | None) -> str:
        if user is None:
            return str(self._connection.welcome["user"])
        return user if "/" in user else f"users/{user}"
