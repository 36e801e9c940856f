"""The documents behind agents and turns: their paths and their fields.

The one place that knows how they are laid out in the store:

    users/{user}/agents/{agent}                      settings and summary
    users/{user}/usage/deleted                       what deleted agents consumed
    users/{user}/agents/{agent}/turns/{turn}         one turn
    users/{user}/agents/{agent}/order/{log}-{sequence}    turns by number
    users/{user}/agents/{agent}/log/{log}-{position}      a segment of events
    users/{user}/agents/{agent}/transcript/{log}-{position}    a piece of its own transcript
    work/{user}~{agent}~{turn}                       a turn that has not ended
    work/{user}~{agent}~!{workspace}                 an agent being deleted

Does not read or write the store.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from google.protobuf import json_format

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import turns_pb2
from moorline.transcript.v1 import transcript_pb2
from services.session.encoding import message_fields, parse_time, time_text, timestamp
from services.session.names import AgentName, TurnName
from services.session.store import Document

WORK = "work"
"""Collection of what has not ended; read whole again and again."""

FINAL_STATES = frozenset(
    {
        turns_pb2.Turn.STATE_FINISHED,
        turns_pb2.Turn.STATE_CANCELLED,
        turns_pb2.Turn.STATE_FAILED,
        turns_pb2.Turn.STATE_LOST,
    }
)

# Makes execution ids of turns; any fixed UUID does.
_EXECUTIONS = uuid.UUID("8f1f5a3e-6d0c-4d8e-9c5a-3b7e2f9d1a60")


def number(sequence: int) -> str:
    """Return a sequence as an id that sorts like it."""
    return f"{sequence:010d}"


def log_prefix(log: str) -> str:
    """Return what stands before a number in the ids of a history's documents.

    So nothing that is written late, for an agent that was deleted or lost with its
    database, can come between what the next agent of that name has.
    """
    return f"{log}-" if log else ""


def turns_path(agent: AgentName) -> str:
    """Return the collection of an agent's turns."""
    return f"{agent}/turns"


def order_path(agent: AgentName) -> str:
    """Return the collection that finds an agent's turns by number."""
    return f"{agent}/order"


def log_path(agent: AgentName) -> str:
    """Return the collection of an agent's log."""
    return f"{agent}/log"


def transcript_path(agent: AgentName) -> str:
    """Return the collection of what an agent's program has written down of a conversation."""
    return f"{agent}/transcript"


def deleted_usage_path(user: str) -> str:
    """Return the document with what a user's deleted agents had consumed."""
    return f"users/{user}/usage/deleted"


def turn_work_path(turn: TurnName) -> str:
    """Return the document that exists until a turn has ended."""
    return f"{WORK}/{turn.user}~{turn.agent}~{turn.turn}"


def deletion_work_path(agent: AgentName, workspace: str) -> str:
    """Return the document that exists until an agent's deletion is complete."""
    return f"{WORK}/{agent.user}~{agent.agent}~!{workspace}"


def work_range(agent: AgentName) -> tuple[str, str]:
    """Return the bounds of the ids of an agent's unfinished turns."""
    # "0" is the least character that a turn's id begins with, and "." stands before it without
    # being a path's; "{" follows the greatest.
    return f"{agent.user}~{agent.agent}~.", f"{agent.user}~{agent.agent}~" + "{"


def user_work_range(user: str) -> tuple[str, str]:
    """Return the bounds of the ids of a user's unfinished turns and deletions."""
    # An agent's id begins with a letter, and "{" follows the greatest.
    return f"{user}~", f"{user}~" + "{"


def work_fields(turn: TurnName) -> dict[str, Any]:
    """Return the fields of a turn's work entry."""
    return {"kind": "turn", "user": turn.user, "agent": turn.agent, "turn": turn.turn}


def deletion_fields(agent: AgentName, workspace: str) -> dict[str, Any]:
    """Return the fields of a deletion's work entry."""
    return {
        "kind": "deletion",
        "user": agent.user,
        "agent": agent.agent,
        "workspace": workspace,
    }


@dataclass(slots=True)
class TurnRecord:
    """A turn as its document has it.

    Attributes:
        sequence: Number of its first item.
        attempt: Executions begun for it.
        executor: Address of the executor that the current one is, or will be,
            created at; empty while none was chosen.
        cancelled: True once its cancellation was asked for.
        start_time: When its first attempt began; None while it waits.
        usage: What it consumed; what earlier attempts did, while it runs.
        permissions: At the end, what was decided about each of its requests:
            see `answers.summarize`.
        background: True when nobody asked for it: the agent goes on with what it left
            in the background. There is no prompt then.
        log: `AgentRecord.log`. A turn of another history is none of the agent's:
            it was written late, for an agent that was deleted or lost.
    """

    name: TurnName
    prompt: str
    state: turns_pb2.Turn.State.ValueType
    sequence: int
    create_time: datetime
    attempt: int = 0
    executor: str = ""
    cancelled: bool = False
    start_time: datetime | None = None
    end_time: datetime | None = None
    error: errors_pb2.Error | None = None
    usage: transcript_pb2.Usage | None = None
    permissions: dict[str, dict[str, Any]] = field(default_factory=dict)
    background: bool = False
    log: str = ""

    @property
    def final(self) -> bool:
        """True when the turn has its outcome."""
        return self.state in FINAL_STATES

    @property
    def execution(self) -> str:
        """Id of the execution of the current attempt; the same for every caller."""
        return _execution(f"{self.name} {self.create_time.isoformat()} {self.attempt}")

    def fields(self) -> dict[str, Any]:
        """Return the document's fields."""
        return {
            "prompt": self.prompt,
            "state": turns_pb2.Turn.State.Name(self.state),
            "sequence": self.sequence,
            "createTime": time_text(self.create_time),
            "attempt": self.attempt,
            "execution": self.execution,
            "executor": self.executor,
            "cancelled": self.cancelled,
            "startTime": time_text(self.start_time) if self.start_time else None,
            "endTime": time_text(self.end_time) if self.end_time else None,
            "error": message_fields(self.error) if self.error else None,
            "usage": message_fields(self.usage) if self.usage else None,
            "permissions": self.permissions,
            "background": self.background,
            "log": self.log,
        }

    def message(self) -> turns_pb2.Turn:
        """Return the turn as a message."""
        turn = turns_pb2.Turn(
            name=str(self.name),
            prompt=None if self.background else transcript_pb2.UserMessage(text=self.prompt),
            state=self.state,
            error=self.error,
            usage=self.usage if self.final else None,
            sequence=self.sequence,
            attempt=self.attempt,
            create_time=timestamp(self.create_time),
            background=self.background,
        )
        if self.end_time is not None:
            turn.end_time.CopyFrom(timestamp(self.end_time))
        return turn


def order_document(turn: TurnRecord) -> str:
    """Return the document that finds a turn by number; written once."""
    return f"{order_path(turn.name.parent)}/{log_prefix(turn.log)}{number(turn.sequence)}"


def new_turn_documents(turn: TurnRecord) -> dict[str, Mapping[str, Any] | None]:
    """Return what is written beside the log when a turn is created."""
    return {
        str(turn.name): turn.fields(),
        order_document(turn): {"turn": turn.name.turn},
        turn_work_path(turn.name): work_fields(turn.name),
    }


def read_turn(agent: AgentName, document: Document) -> TurnRecord:
    """Return the turn that a document holds."""
    fields = document.fields
    error, usage = fields["error"], fields["usage"]
    return TurnRecord(
        name=agent.turn(document.id),
        prompt=fields["prompt"],
        state=turns_pb2.Turn.State.Value(fields["state"]),
        sequence=fields["sequence"],
        create_time=parse_time(fields["createTime"]),
        attempt=fields["attempt"],
        executor=fields.get("executor", ""),
        cancelled=fields["cancelled"],
        start_time=parse_time(fields["startTime"]) if fields["startTime"] else None,
        end_time=parse_time(fields["endTime"]) if fields["endTime"] else None,
        error=_parsed(error, errors_pb2.Error()) if error else None,
        usage=_parsed(usage, transcript_pb2.Usage()) if usage is not None else None,
        permissions=dict(fields["permissions"]),
        background=fields.get("background", False),
        log=fields.get("log", ""),
    )


@functools.lru_cache(maxsize=1024)
def _execution(attempt: str) -> str:
    """Return an attempt's id; it is asked for again and again while a turn runs."""
    return uuid.uuid5(_EXECUTIONS, attempt).hex


def _parsed(fields: Any, message: Any) -> Any:
    return json_format.ParseDict(fields, message, ignore_unknown_fields=True)
