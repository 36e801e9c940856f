"""An agent's settings: what a user gives, and what it makes of a record.

Does not know the store.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import agents_pb2
from services.chassis.failures import Failure
from services.session.agent_record import AgentRecord
from services.session.names import AgentName
from services.session.options import Options

_ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """What a user may set about an agent; None leaves it as it is.

    Attributes:
        options: New values of some of the agent's `Options`, by attribute.
    """

    display_name: str | None = None
    instructions: str | None = None
    backend: str | None = None
    permission_mode: agents_pb2.Agent.PermissionMode.ValueType | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The same for equal settings only."""
        parts = (
            self.display_name or "",
            self.instructions or "",
            self.backend or "",
            str(self.permission_mode or 0),
            # Nothing when nothing was chosen, as before there was anything to choose.
            *Options(**self.options).words,
        )
        return hashlib.sha256("\0".join(map(repr, parts)).encode()).hexdigest()[:32]


def random_id() -> str:
    """Return an id for an agent that nobody has named."""
    return "a" + "".join(secrets.choice(_ID_ALPHABET) for _ in range(15))


def new_record(name: AgentName, settings: AgentSettings, now: datetime) -> AgentRecord:
    """Return the record of an agent that is created now; what is None is empty."""
    return AgentRecord(
        name=name,
        display_name=settings.display_name or "",
        instructions=settings.instructions or "",
        backend=settings.backend or "",
        permission_mode=settings.permission_mode or agents_pb2.Agent.PERMISSION_MODE_ASK,
        create_time=now,
        update_time=now,
        revision=1,
        origin=settings.digest,
        head=0,
        activity_time=now,
        log="".join(secrets.choice(_ID_ALPHABET) for _ in range(10)),
        options=Options(**settings.options),
    )


def change(record: AgentRecord, settings: AgentSettings, now: datetime) -> None:
    """Change what is not None."""
    if settings.display_name is not None:
        record.display_name = settings.display_name
    if settings.instructions is not None:
        record.instructions = settings.instructions
    if settings.backend is not None:
        record.backend = settings.backend
    if settings.permission_mode is not None:
        record.permission_mode = settings.permission_mode
    record.options = replace(record.options, **settings.options)
    record.revision += 1
    record.update_time = now


def require_etag(record: AgentRecord, etag: str) -> None:
    """Check that an etag is empty or the current one.

    Raises:
        Failure: ETAG_MISMATCH.
    """
    if etag and etag != record.etag:
        raise Failure(
            errors_pb2.ERROR_REASON_ETAG_MISMATCH,
            "The agent was changed meanwhile. Read it, then try again.",
        )
