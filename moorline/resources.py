"""What the platform keeps for a user, as values: agents, turns, backends, keys.

Does not know how they are read or changed; the clients hand out subclasses
that do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from moorline.decoding import EPOCH, last_part, parse_enum, parse_time
from moorline.exceptions import MoorlineError, from_error


class PermissionMode(StrEnum):
    """What an agent may do without asking."""

    ASK = "ask"
    ACCEPT_EDITS = "accept-edits"
    ACCEPT_ALL = "accept-all"
    PLAN = "plan"
    UNKNOWN = "unknown"

    @property
    def wire(self) -> str:
        """Its name in the protocol."""
        return f"PERMISSION_MODE_{self.name}"


class AgentState(StrEnum):
    """What an agent is doing."""

    IDLE = "idle"
    WORKING = "working"
    NEEDS_YOU = "needs-you"
    UNKNOWN = "unknown"


class TurnState(StrEnum):
    """Where a turn stands; treat `UNKNOWN` as still running."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"
    LOST = "lost"
    UNKNOWN = "unknown"

    @property
    def final(self) -> bool:
        """True when nothing will follow."""
        return self in {TurnState.FINISHED, TurnState.CANCELLED, TurnState.FAILED, TurnState.LOST}


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a turn consumed.

    Attributes:
        input_tokens: Tokens read by the model, without the cached ones.
        output_tokens: Tokens written by the model.
        cache_read_tokens: Input tokens served from the provider's cache.
        cache_write_tokens: Input tokens written to the provider's cache.
        cost_usd_micros: Cost in millionths of a US dollar.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd_micros: int = 0

    @property
    def all_input_tokens(self) -> int:
        """Tokens read by the model, cached or not."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens

    @property
    def cost_usd(self) -> float:
        """Cost in US dollars."""
        return self.cost_usd_micros / 1_000_000


NO_USAGE = Usage()


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageTotal(Usage):
    """What many turns consumed together.

    Attributes:
        turns: Turns that ended.
    """

    turns: int = 0


NO_USAGE_TOTAL = UsageTotal()


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthlyUsage:
    """What all of a user's agents consumed in one month, of UTC.

    Attributes:
        name: `users/{user}/usage/{month}`, the month as `2026-11`.
        total: Turns that ended in it, and what they consumed.
        budget_usd_micros: What may be consumed in a month; 0 for no limit.
    """

    name: str
    total: UsageTotal = NO_USAGE_TOTAL
    budget_usd_micros: int = 0

    @property
    def month(self) -> str:
        """The month, as `2026-11`."""
        return last_part(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """A long-lived conversation partner with its own history, settings and files.

    The facts are those of the moment it was read; `refresh()` of the clients'
    subclasses reads again.

    Attributes:
        name: `users/{user}/agents/{agent}`.
        display_name: For people.
        instructions: Appended to its standing instructions.
        backend: What runs its turns; empty for the platform's default.
        permission_mode: What it may do without asking.
        state: What it is doing.
        running_turn: Id of the turn that runs; empty when idle.
        queued_turns: Ids of the turns that wait, in the order they will run.
        head_sequence: Number of its newest event; 0 for an empty history.
        etag: Changes whenever a setting does.
        create_time: When it was made.
        update_time: When a setting changed last.
        activity_time: When the newest event happened.
        model: Model that answers; empty for the backend's default.
        turn_budget_usd_micros: What one turn may cost; 0 for no limit.
        budget_usd_micros: What all turns together may cost; 0 for no limit.
        max_steps: Answers of the model one turn may take; 0 for no limit.
        allowed_rules: Uses of tools that need no question.
        usage: What all turns that ended consumed.
        queue_position: While the running turn waits for room: its place, 1 for the next.
        turn_usage: What the running turn consumed so far.
    """

    name: str
    display_name: str = ""
    instructions: str = ""
    backend: str = ""
    permission_mode: PermissionMode = PermissionMode.ASK
    state: AgentState = AgentState.IDLE
    running_turn: str = ""
    queued_turns: tuple[str, ...] = ()
    head_sequence: int = 0
    etag: str = ""
    create_time: datetime = EPOCH
    update_time: datetime = EPOCH
    activity_time: datetime = EPOCH
    model: str = ""
    turn_budget_usd_micros: int = 0
    budget_usd_micros: int = 0
    max_steps: int = 0
    allowed_rules: tuple[str, ...] = ()
    usage: UsageTotal = NO_USAGE_TOTAL
    queue_position: int = 0
    turn_usage: Usage = NO_USAGE

    @property
    def id(self) -> str:
        """Last part of the name."""
        return last_part(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One prompt and everything the agent does until it stops.

    Attributes:
        name: `users/{user}/agents/{agent}/turns/{turn}`.
        prompt: The text it began with.
        state: Where it stands.
        error: Why it failed or was lost; None otherwise.
        usage: What it consumed; zeros before its end.
        sequence: Number of its first event; 0 when it has none yet.
        attempt: Executions begun for it.
        create_time: When it was recorded.
        end_time: When it ended; None before.
        background: True when nobody asked for it: the agent goes on with work it had left.
    """

    name: str
    prompt: str = ""
    state: TurnState = TurnState.QUEUED
    error: MoorlineError | None = None
    usage: Usage = NO_USAGE
    sequence: int = 0
    attempt: int = 0
    create_time: datetime = EPOCH
    end_time: datetime | None = None
    background: bool = False

    @property
    def id(self) -> str:
        """Last part of the name."""
        return last_part(self.name)

    @property
    def agent(self) -> str:
        """Name of its agent."""
        return self.name.rsplit("/", 2)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A way of running agents.

    Attributes:
        name: `backends/{backend}`.
        available: False when switched off, not configured or unreachable.
        detail: Why it is not available; empty when it is.
        default: True for the one used when an agent names none.
        deltas: Streams text while it is written.
        permissions: Can wait for a decision.
        resume: Continues a conversation in another process.
        durable_workspace: Keeps files between turns.
        models: Models to choose from, the default first; empty when there is no choice.
    """

    name: str
    available: bool = False
    detail: str = ""
    default: bool = False
    deltas: bool = False
    permissions: bool = False
    resume: bool = False
    durable_workspace: bool = False
    models: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Last part of the name."""
        return last_part(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An API key, without its secret.

    Attributes:
        name: `users/{user}/keys/{key}`.
        display_name: For people.
        create_time: When it was made.
        expire_time: From here on it is refused; None when it stays good.
        revoke_time: When it was revoked; None when it was not.
    """

    name: str
    display_name: str = ""
    create_time: datetime = EPOCH
    expire_time: datetime | None = None
    revoke_time: datetime | None = None

    @property
    def id(self) -> str:
        """Last part of the name."""
        return last_part(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey(Key):
    """A key just made: the only time its secret is seen.

    Attributes:
        secret: What to send as bearer token.
    """

    secret: str = ""

    def __repr__(self) -> str:
        return f"NewKey(name={self.name!r})"


Fields = dict[str, Any]


def usage_from(usage: Mapping[str, Any]) -> Usage:
    """Read a `transcript.v1.Usage`."""
    return Usage(
        input_tokens=usage.get("inputTokens", 0),
        output_tokens=usage.get("outputTokens", 0),
        cache_read_tokens=usage.get("cacheReadTokens", 0),
        cache_write_tokens=usage.get("cacheWriteTokens", 0),
        cost_usd_micros=usage.get("costUsdMicros", 0),
    )


def usage_total_from(total: Mapping[str, Any]) -> UsageTotal:
    """Read a `session.v1.UsageTotal`; JSON has its numbers as text, being of 64 bits."""
    return UsageTotal(
        input_tokens=int(total.get("inputTokens", 0)),
        output_tokens=int(total.get("outputTokens", 0)),
        cache_read_tokens=int(total.get("cacheReadTokens", 0)),
        cache_write_tokens=int(total.get("cacheWriteTokens", 0)),
        cost_usd_micros=int(total.get("costUsdMicros", 0)),
        turns=int(total.get("turns", 0)),
    )


def monthly_usage_from(usage: Mapping[str, Any]) -> MonthlyUsage:
    """Read a `session.v1.MonthlyUsage`."""
    return MonthlyUsage(
        name=usage["name"],
        total=usage_total_from(usage.get("total", {})),
        budget_usd_micros=int(usage.get("budgetUsdMicros", 0)),
    )


def agent_fields(agent: Mapping[str, Any]) -> Fields:
    """Read a `session.v1.Agent` into the fields of `Agent`."""
    mode = agent.get("permissionMode", 0) or "PERMISSION_MODE_ASK"
    return {
        "name": agent["name"],
        "display_name": agent.get("displayName", ""),
        "instructions": agent.get("instructions", ""),
        "backend": agent.get("backend", ""),
        "permission_mode": parse_enum(PermissionMode, mode, "PERMISSION_MODE_"),
        "state": parse_enum(AgentState, agent.get("state", 0), "STATE_"),
        "running_turn": last_part(agent.get("runningTurn", "")),
        "queued_turns": tuple(last_part(name) for name in agent.get("queuedTurns", ())),
        "head_sequence": agent.get("headSequence", 0),
        "etag": agent.get("etag", ""),
        "create_time": parse_time(agent.get("createTime")) or EPOCH,
        "update_time": parse_time(agent.get("updateTime")) or EPOCH,
        "activity_time": parse_time(agent.get("activityTime")) or EPOCH,
        "model": agent.get("model", ""),
        "turn_budget_usd_micros": int(agent.get("turnBudgetUsdMicros", 0)),
        "budget_usd_micros": int(agent.get("budgetUsdMicros", 0)),
        "max_steps": agent.get("maxSteps", 0),
        "allowed_rules": tuple(agent.get("allowedRules", ())),
        "usage": usage_total_from(agent.get("usage", {})),
        "queue_position": agent.get("queuePosition", 0),
        "turn_usage": usage_from(agent.get("turnUsage", {})),
    }


def turn_fields(turn: Mapping[str, Any]) -> Fields:
    """Read a `session.v1.Turn` into the fields of `Turn`."""
    return {
        "name": turn["name"],
        "prompt": turn.get("prompt", {}).get("text", ""),
        "state": parse_enum(TurnState, turn.get("state", 0), "STATE_"),
        "error": from_error(turn["error"]) if "error" in turn else None,
        "usage": usage_from(turn.get("usage", {})),
        "sequence": turn.get("sequence", 0),
        "attempt": turn.get("attempt", 0),
        "create_time": parse_time(turn.get("createTime")) or EPOCH,
        "end_time": parse_time(turn.get("endTime")),
        "background": turn.get("background", False),
    }


def backend_from(backend: Mapping[str, Any]) -> Backend:
    """Read an `executor.v1.Backend`."""
    capabilities = backend.get("capabilities", {})
    return Backend(
        name=backend["name"],
        available=backend.get("available", False),
        detail=backend.get("detail", ""),
        default=backend.get("default", False),
        deltas=capabilities.get("deltas", False),
        permissions=capabilities.get("permissions", False),
        resume=capabilities.get("resume", False),
        durable_workspace=capabilities.get("durableWorkspace", False),
        models=tuple(backend.get("models", ())),
    )


def key_fields(key: Mapping[str, Any]) -> Fields:
    """Read a `session.v1.Key` into the fields of `Key`."""
    return {
        "name": key["name"],
        "display_name": key.get("displayName", ""),
        "create_time": parse_time(key.get("createTime")) or EPOCH,
        "expire_time": parse_time(key.get("expireTime")),
        "revoke_time": parse_time(key.get("revokeTime")),
    }
