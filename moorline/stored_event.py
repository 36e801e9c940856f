"""What all events have in common. Does not know their kinds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

_EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Anything that arrives about an agent.

    Attributes:
        raw: The `session.v1.EventUpdate` it came from, as the WebSocket's JSON.
    """

    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent(Event):
    """A fact that is recorded for good and never changes.

    Attributes:
        sequence: Its number in the agent's history: 1, 2, 3 …
        turn_id: The turn it belongs to.
        create_time: When it happened.
    """

    sequence: int
    turn_id: str
    create_time: datetime


def parse_object(text: str) -> Mapping[str, Any]:
    """Read a JSON object; anything else is an empty one."""
    try:
        value = json.loads(text)
    except ValueError:
        return _EMPTY
    return value if isinstance(value, dict) else _EMPTY
