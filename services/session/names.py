"""Resource names: parsed, checked and owned in this one place.

A name is also the path of the resource's document in the store. Does not know
whether anything exists.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from services.chassis.failures import field_invalid, not_found
from services.chassis.identity import Identity

_USER = r"[a-z0-9][a-z0-9_-]{0,62}"
_AGENT = r"[a-z][a-z0-9-]{0,62}"
_TURN = r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}"
_KEY = r"[a-z0-9]{8,16}"
_MONTH = r"[1-9][0-9]{3}-(?:0[1-9]|1[0-2])|current"

_USER_NAME = re.compile(f"users/({_USER})")
_AGENT_NAME = re.compile(f"users/({_USER})/agents/({_AGENT})")
_TURN_NAME = re.compile(f"users/({_USER})/agents/({_AGENT})/turns/({_TURN})")
_KEY_NAME = re.compile(f"users/({_USER})/keys/({_KEY})")
_USAGE_NAME = re.compile(f"users/({_USER})/usage/({_MONTH})")
_AGENT_ID = re.compile(_AGENT)
_TURN_ID = re.compile(_TURN)


@dataclass(frozen=True, slots=True)
class UserName:
    """`users/{user}`."""

    user: str

    def __str__(self) -> str:
        return f"users/{self.user}"


@dataclass(frozen=True, slots=True)
class AgentName:
    """`users/{user}/agents/{agent}`."""

    user: str
    agent: str

    def __str__(self) -> str:
        return f"users/{self.user}/agents/{self.agent}"

    def turn(self, turn: str) -> TurnName:
        """Return the name of a turn of this agent."""
        return TurnName(self.user, self.agent, turn)


@dataclass(frozen=True, slots=True)
class TurnName:
    """`users/{user}/agents/{agent}/turns/{turn}`."""

    user: str
    agent: str
    turn: str

    def __str__(self) -> str:
        return f"users/{self.user}/agents/{self.agent}/turns/{self.turn}"

    @property
    def parent(self) -> AgentName:
        """The agent whose turn it is."""
        return AgentName(self.user, self.agent)


@dataclass(frozen=True, slots=True)
class KeyName:
    """`users/{user}/keys/{key}`."""

    user: str
    key: str

    def __str__(self) -> str:
        return f"users/{self.user}/keys/{self.key}"


@dataclass(frozen=True, slots=True)
class UsageName:
    """`users/{user}/usage/{month}`; the month may be `current`."""

    user: str
    month: str

    def __str__(self) -> str:
        return f"users/{self.user}/usage/{self.month}"


def parse_user(field: str, value: str) -> UserName:
    """Return the user a field names.

    Raises:
        Failure: FIELD_INVALID.
    """
    return UserName(*_match(_USER_NAME, field, value, "be users/{user}"))


def parse_agent(field: str, value: str) -> AgentName:
    """Return the agent a field names.

    Raises:
        Failure: FIELD_INVALID.
    """
    return AgentName(*_match(_AGENT_NAME, field, value, "be users/{user}/agents/{agent}"))


def parse_turn(field: str, value: str) -> TurnName:
    """Return the turn a field names.

    Raises:
        Failure: FIELD_INVALID.
    """
    rule = "be users/{user}/agents/{agent}/turns/{turn}"
    return TurnName(*_match(_TURN_NAME, field, value, rule))


def parse_key(field: str, value: str) -> KeyName:
    """Return the key a field names.

    Raises:
        Failure: FIELD_INVALID.
    """
    return KeyName(*_match(_KEY_NAME, field, value, "be users/{user}/keys/{key}"))


def parse_usage(field: str, value: str) -> UsageName:
    """Return the month of a user that a field names.

    Raises:
        Failure: FIELD_INVALID.
    """
    rule = "be users/{user}/usage/{month}, the month as 2026-11, or `current`"
    return UsageName(*_match(_USAGE_NAME, field, value, rule))


def check_agent_id(field: str, value: str) -> None:
    """Check the last part of a new agent's name.

    Raises:
        Failure: FIELD_INVALID.
    """
    _match(_AGENT_ID, field, value, f"match {_AGENT}")


def check_turn_id(field: str, value: str) -> None:
    """Check the last part of a new turn's name.

    Raises:
        Failure: FIELD_INVALID.
    """
    _match(_TURN_ID, field, value, f"match {_TURN}")


def require_owner(
    name: UserName | AgentName | TurnName | KeyName | UsageName,
    caller: Identity,
    *,
    or_administrator: bool = False,
) -> None:
    """Let only the user whose resource it is pass.

    Args:
        name: The resource, or the parent of one.
        caller: Whom the call is made for.
        or_administrator: True lets an administrator pass too.

    Raises:
        Failure: RESOURCE_NOT_FOUND, the same as for a name that does not exist.
    """
    if caller.user == f"users/{name.user}" or (or_administrator and caller.admin):
        return
    raise not_found()


def _match(pattern: re.Pattern[str], field: str, value: str, rule: str) -> tuple[str, ...]:
    match = pattern.fullmatch(value)
    if match is None:
        raise field_invalid(field, rule)
    return match.groups()
