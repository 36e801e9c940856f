"""Limits that the logic holds to, as one value handed down from the settings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much and how long.

    Attributes:
        agents: Agents of one user.
        keys: API keys of one user.
        queued_turns: Turns that may wait for one agent.
        prompt: Characters of a prompt.
        instructions: Characters of an agent's instructions.
        display_name: Characters of a display name.
        sessions: Users in memory at once.
        attempts: Executions of one turn.
        unreachable: How long an executor may be away before its executions are
            given up.
        permission: How long a permission request waits; zero means for ever.
        idle: How long a session stays in memory with nothing to do.
        month_budget: What a user's agents may cost in a month, in millionths of a US
            dollar; 0 for no limit.
        lease: How long a lease on a user lasts; a session with nothing to do is
            given back after about as long.
        gather: How long what is not urgent waits for company in a commit.
        linger: The same for text that is shown already.
        pace: Least time between two writes of an agent's summary.
    """

    agents: int = 200
    keys: int = 100
    queued_turns: int = 20
    prompt: int = 100_000
    instructions: int = 20_000
    display_name: int = 63
    sessions: int = 10_000
    attempts: int = 3
    unreachable: timedelta = timedelta(seconds=20)
    permission: timedelta = timedelta(0)
    idle: timedelta = timedelta(minutes=30)
    month_budget: int = 0
    lease: timedelta = timedelta(seconds=15)
    gather: timedelta = timedelta(0)
    linger: timedelta = timedelta(0)
    pace: timedelta = timedelta(0)
