"""The subcommands: lists, agents, keys, contexts, status.

Each is a few lines of the client's calls; what is more has a module of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from time import perf_counter
from typing import Any

import moorline
from moorline import contexts
from moorline.cli.exits import Exit
from moorline.cli.invocation import Invocation, Output, WrongUsage
from moorline.cli.memory import Memory
from moorline.cli.tables import (
    AGENT_COLUMNS,
    BACKEND_COLUMNS,
    KEY_COLUMNS,
    USAGE_COLUMNS,
    Row,
    agent_row,
    backend_row,
    key_row,
    usage_row,
)


async def named_or_last(
    client: moorline.AsyncClient, invocation: Invocation, name: str | None
) -> moorline.AsyncAgent:
    """The agent named, else the last one, else the one most recently active.

    Raises:
        WrongUsage: There is none.
    """
    if name:
        return await client.agents.get(name)
    last = await Memory(client, invocation.environ).last()
    if last is not None:
        return last
    agents = await client.agents.list(limit=1)
    if not agents:
        raise WrongUsage(invocation.texts("agent.none"))
    return agents[0]


async def list_agents(client: moorline.AsyncClient, invocation: Invocation) -> None:
    """`moorline ls`."""
    texts = invocation.texts if invocation.output is Output.TEXT else None
    rows = [agent_row(agent, texts) for agent in await client.agents.list()]
    invocation.write_rows(AGENT_COLUMNS, rows)


async def create_agent(
    client: moorline.AsyncClient,
    invocation: Invocation,
    settings: Mapping[str, Any],
) -> None:
    """`moorline new`."""
    given = {name: value for name, value in settings.items() if value is not None}
    agent = await client.agents.create(**given)
    Memory(client, invocation.environ).keep(agent)
    if invocation.output is Output.TEXT:
        invocation.write(f"{agent.id}\n")
    else:
        invocation.write_json(agent_row(agent, None))


async def delete_agents(
    client: moorline.AsyncClient, invocation: Invocation, names: list[str]
) -> None:
    """`moorline rm`."""
    for name in names:
        await client.agents.delete(name)
        invocation.say("agent.deleted", agent=name)


async def show_usage(client: moorline.AsyncClient, invocation: Invocation, month: str) -> None:
    """`moorline usage`."""
    texts = invocation.texts if invocation.output is Output.TEXT else None
    invocation.write_rows(USAGE_COLUMNS, [usage_row(await client.usage(month), texts)])


async def show_status(client: moorline.AsyncClient, invocation: Invocation) -> None:
    """`moorline status`."""
    began = perf_counter()
    agents = await client.agents.list()
    spent = perf_counter() - began
    backends = await client.backends()
    if invocation.output is Output.TEXT:
        invocation.say(
            "status.connected",
            url=client.target.url,
            user=client.user,
            version=client.server_version,
            milliseconds=spent * 1000,
        )
        rows = [backend_row(backend, invocation.texts) for backend in backends]
        invocation.write_rows(BACKEND_COLUMNS, rows)
        return
    invocation.write_json(
        {
            "url": client.target.url,
            "context": client.target.context,
            "user": client.user,
            "version": client.server_version,
            "milliseconds": round(spent * 1000, 1),
            "agents": {
                state.value: sum(agent.state is state for agent in agents)
                for state in moorline.AgentState
            },
            "backends": [backend_row(backend, None) for backend in backends],
        }
    )


async def create_key(
    client: moorline.AsyncClient,
    invocation: Invocation,
    *,
    user: str | None,
    name: str,
    ttl: timedelta | None,
) -> None:
    """`moorline key create`: the secret to standard output, alone."""
    key = await client.keys.create(user=user, display_name=name, ttl=ttl)
    if invocation.output is Output.TEXT:
        invocation.write(f"{key.secret}\n")
        invocation.say("key.once")
    else:
        invocation.write_json({**key_row(key, None), "secret": key.secret})


async def list_keys(
    client: moorline.AsyncClient, invocation: Invocation, *, user: str | None
) -> None:
    """`moorline key ls`."""
    texts = invocation.texts if invocation.output is Output.TEXT else None
    rows = [key_row(key, texts) for key in await client.keys.list(user=user)]
    invocation.write_rows(KEY_COLUMNS, rows)


async def revoke_key(
    client: moorline.AsyncClient, invocation: Invocation, key: str, *, user: str | None
) -> None:
    """`moorline key revoke`."""
    revoked = await client.keys.revoke(key, user=user)
    invocation.say("key.revoked", key=revoked.id)


def list_contexts(invocation: Invocation) -> None:
    """`moorline context ls`; the current one has a star."""
    configuration = contexts.read(contexts.config_path(invocation.environ))
    rows: list[Row] = []
    for name, context in sorted(configuration.contexts.items()):
        current = name == configuration.current
        mark = " *" if current and invocation.output is Output.TEXT else ""
        rows.append({"context": f"{name}{mark}", "url": context.url, "current": current})
    invocation.write_rows(("context", "url"), rows)


def use_context(invocation: Invocation, name: str) -> None:
    """`moorline context use`."""
    contexts.use_context(name, environ=invocation.environ)
    invocation.say("context.used", context=name)


def parse_ttl(invocation: Invocation, text: str | None) -> timedelta | None:
    """Read `30d` or `12h`.

    Raises:
        WrongUsage: It is neither.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)([dh])", text)
    if found is None:
        raise WrongUsage(invocation.texts("usage.duration", value=text))
    return timedelta(**{{"d": "days", "h": "hours"}[found[2]]: int(found[1])})


def require_attended(invocation: Invocation) -> Exit | None:
    """Refuse to talk without a terminal to talk at."""
    if invocation.attended:
        return None
    invocation.say("usage.prompt")
    return Exit.USAGE
