"""What lists of agents, keys and backends look like, as rows.

Does not know how they are written.
"""

from __future__ import annotations

from datetime import datetime

import moorline
from moorline.cli.language import Texts
from moorline.cli.views import shorten

Row = dict[str, object]

AGENT_COLUMNS = ("agent", "name", "state", "backend", "mode", "cost", "activity")
USAGE_COLUMNS = ("month", "turns", "input", "output", "cost", "budget")
KEY_COLUMNS = ("key", "name", "state", "created", "expires")
BACKEND_COLUMNS = ("backend", "available", "detail")


def agent_row(agent: moorline.Agent, texts: Texts | None) -> Row:
    """An agent as a row; `texts` is None for a program, which gets values as they are."""
    state = agent.state.value
    return {
        "agent": agent.id,
        "name": shorten(agent.display_name) if texts else agent.display_name,
        "state": _state(agent, texts) if texts else state,
        "queue": agent.queue_position,
        "backend": agent.backend or (texts("agent.default") if texts else ""),
        "mode": agent.permission_mode.value,
        "model": agent.model,
        "cost": _dollars(agent.usage.cost_usd_micros, texts),
        "budget": _dollars(agent.budget_usd_micros, texts),
        "activity": moment(agent.activity_time, texts),
    }


def _state(agent: moorline.Agent, texts: Texts) -> str:
    if agent.queue_position:
        return texts("agent.queued", position=agent.queue_position)
    return texts(f"agent.state.{agent.state.value}")


def usage_row(usage: moorline.MonthlyUsage, texts: Texts | None) -> Row:
    """A month as a row."""
    total = usage.total
    return {
        "month": usage.month,
        "turns": total.turns,
        "input": total.all_input_tokens,
        "output": total.output_tokens,
        "cost": _dollars(total.cost_usd_micros, texts),
        "budget": _dollars(usage.budget_usd_micros, texts),
    }


def key_row(key: moorline.Key, texts: Texts | None) -> Row:
    """A key as a row."""
    return {
        "key": key.id,
        "name": shorten(key.display_name) if texts else key.display_name,
        "state": "revoked" if key.revoke_time else "active",
        "created": moment(key.create_time, texts),
        "expires": moment(key.expire_time, texts),
    }


def backend_row(backend: moorline.Backend, texts: Texts | None) -> Row:
    """A backend as a row."""
    available = texts("yes" if backend.available else "no") if texts else backend.available
    return {"backend": backend.id, "available": available, "detail": backend.detail}


def _dollars(micros: int, texts: Texts | None) -> str | float:
    """An amount: short for a person, whole for a program."""
    if texts is None:
        return micros / 1_000_000
    return f"${micros / 1_000_000:.4f}" if micros else "-"


def moment(time: datetime | None, texts: Texts | None) -> str | None:
    """A point in time: local and short for a person, whole for a program."""
    if texts is None:
        return time.isoformat() if time else None
    return f"{time.astimezone():%Y-%m-%d %H:%M}" if time else "-"
