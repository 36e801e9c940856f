"""An agent as its document has it.

Does not read or write the store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from moorline.session.v1 import agents_pb2
from services.session.account import NOTHING, Account, read_account
from services.session.encoding import parse_time, time_text, timestamp
from services.session.names import AgentName
from services.session.options import DEFAULTS, Options, read_options
from services.session.store import Document


@dataclass(slots=True)
class AgentRecord:
    """An agent's settings, and its summary as of the end of its last turn.

    Attributes:
        revision: Rises with every change of the settings.
        origin: Digest of the settings it was created with.
        head: Number of the newest event.
        conversation: Handle by which the executor goes on with the conversation.
        executor: Address of the executor that ran its last turn, whose files and
            process are there; empty when there is none.
        deleted: True from the moment of its deletion until nothing is left.
        log: Random id of its history; empty for an agent from before there was one.
        options: What was chosen about its turns.
        account: What its turns have consumed.
    """

    name: AgentName
    display_name: str
    instructions: str
    backend: str
    permission_mode: agents_pb2.Agent.PermissionMode.ValueType
    create_time: datetime
    update_time: datetime
    revision: int
    origin: str
    head: int
    activity_time: datetime
    conversation: str = ""
    executor: str = ""
    deleted: bool = False
    log: str = ""
    options: Options = DEFAULTS
    account: Account = NOTHING

    @property
    def log_id(self) -> str:
        """Which history its events are numbered in; never that of another agent."""
        return self.log or self.workspace

    @property
    def etag(self) -> str:
        """Changes whenever a setting does, and with the agent itself."""
        made = self.create_time.isoformat()
        return hashlib.sha256(f"{made} {self.revision}".encode()).hexdigest()[:16]

    @property
    def workspace(self) -> str:
        """Id of its files; a later agent of the same name has another one."""
        made = f"{self.name.user} {self.name.agent} {self.create_time.isoformat()}"
        return hashlib.sha256(made.encode()).hexdigest()[:32]

    def fields(self) -> dict[str, Any]:
        """Return the document's fields."""
        return {
            "displayName": self.display_name,
            "instructions": self.instructions,
            "backend": self.backend,
            "permissionMode": agents_pb2.Agent.PermissionMode.Name(self.permission_mode),
            "createTime": time_text(self.create_time),
            "updateTime": time_text(self.update_time),
            "revision": self.revision,
            "origin": self.origin,
            "head": self.head,
            "activityTime": time_text(self.activity_time),
            "conversation": self.conversation,
            "executor": self.executor,
            "deleted": self.deleted,
            "log": self.log,
            "options": self.options.stored(),
            "account": self.account.fields(),
        }

    def summary(self) -> dict[str, Any]:
        """Return what turns change, for a segment to carry."""
        return {
            "head": self.head,
            "activityTime": time_text(self.activity_time),
            "conversation": self.conversation,
            "executor": self.executor,
            "account": self.account.summary(),
        }

    def recall(self, summary: Mapping[str, Any]) -> None:
        """Take in what a segment has carried, if anything."""
        if not summary:
            return
        self.head = summary["head"]
        self.activity_time = parse_time(summary["activityTime"])
        self.conversation = summary["conversation"]
        self.executor = summary["executor"]
        self.account = self.account.recalled(summary.get("account"))

    def message(self) -> agents_pb2.Agent:
        """Return the agent as an idle one."""
        agent = agents_pb2.Agent(
            name=str(self.name),
            display_name=self.display_name,
            instructions=self.instructions,
            backend=self.backend,
            permission_mode=self.permission_mode,
            create_time=timestamp(self.create_time),
            update_time=timestamp(self.update_time),
            etag=self.etag,
            state=agents_pb2.Agent.STATE_IDLE,
            head_sequence=self.head,
            activity_time=timestamp(self.activity_time),
            usage=self.account.total.message(),
        )
        self.options.fill(agent)
        return agent


def read_agent(user: str, document: Document) -> AgentRecord:
    """Return the agent that a document holds."""
    fields = document.fields
    return AgentRecord(
        name=AgentName(user, document.id),
        display_name=fields["displayName"],
        instructions=fields["instructions"],
        backend=fields["backend"],
        permission_mode=agents_pb2.Agent.PermissionMode.Value(fields["permissionMode"]),
        create_time=parse_time(fields["createTime"]),
        update_time=parse_time(fields["updateTime"]),
        revision=fields["revision"],
        origin=fields["origin"],
        head=fields["head"],
        activity_time=parse_time(fields["activityTime"]),
        conversation=fields["conversation"],
        executor=fields.get("executor", ""),
        deleted=fields["deleted"],
        log=fields.get("log", ""),
        options=read_options(fields.get("options", {})),
        account=read_account(fields.get("account", {})),
    )
