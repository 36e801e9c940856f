"""A stand-in for one execution, in a test's hands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from moorline.executor.v1 import executions_pb2
from moorline.transcript.v1 import transcript_pb2
from services.session.executors.executor import Listener

Item = transcript_pb2.Item
Outcome = transcript_pb2.TurnOutcome


@dataclass
class FakeExecution:
    """One execution: what it was asked to do, and what it has done.

    Attributes:
        positions: After which event each listener began.
    """

    id: str
    asked: executions_pb2.Execution
    events: list[executions_pb2.ExecutionEvent] = field(default_factory=list)
    blocks: dict[str, str] = field(default_factory=dict)
    listeners: list[Listener] = field(default_factory=list)
    cancellations: int = 0
    positions: list[int] = field(default_factory=list)
    decisions: list[transcript_pb2.PermissionDecision] = field(default_factory=list)

    def send(self, *updates: executions_pb2.ExecutionUpdate) -> None:
        """Send updates to whoever follows."""
        for listener in list(self.listeners):
            listener.updates(updates)

    def add(self, item: Item, conversation: str = "") -> None:
        """Record an item."""
        event = executions_pb2.ExecutionEvent(
            sequence=len(self.events) + 1, item=item, conversation=conversation
        )
        event.create_time.GetCurrentTime()
        self.events.append(event)
        self.send(executions_pb2.ExecutionUpdate(event=event))

    def grow(
        self, *entries: str, conversation: str = "c1", file: str = "", last_entry: str = ""
    ) -> None:
        """Let the agent's own transcript grow; an entry's id is its text."""
        part = executions_pb2.TranscriptPart(
            conversation=conversation,
            file=file,
            entries=entries,
            last_entry=last_entry or entries[-1],
        )
        event = executions_pb2.ExecutionEvent(sequence=len(self.events) + 1, transcript=part)
        event.create_time.GetCurrentTime()
        self.events.append(event)
        self.send(executions_pb2.ExecutionUpdate(event=event))

    def say(self, block_id: str, text: str, *, snapshot: bool = False) -> None:
        """Write a fragment of a message."""
        known = "" if snapshot else self.blocks.get(block_id, "")
        self.blocks[block_id] = known + text
        delta = transcript_pb2.MessageDelta(block_id=block_id, text=text, snapshot=snapshot)
        self.send(executions_pb2.ExecutionUpdate(delta=delta))

    def complete(self, block_id: str) -> None:
        """Turn a message being written into an item."""
        text = self.blocks.pop(block_id)
        self.add(Item(agent_message=transcript_pb2.AgentMessage(block_id=block_id, text=text)))

    def discard(self, block_id: str) -> None:
        """Take a message back."""
        self.blocks.pop(block_id, None)
        discarded = transcript_pb2.MessageDiscarded(block_id=block_id)
        self.send(executions_pb2.ExecutionUpdate(message_discarded=discarded))

    def call_tool(self, tool_call_id: str = "t1") -> None:
        """Call a tool."""
        call = transcript_pb2.ToolCall(tool_call_id=tool_call_id, tool_name="Bash")
        self.add(Item(tool_call=call))

    def ask(
        self, permission_id: str = "p1", *, tool_call_id: str = "", **request_fields: Any
    ) -> None:
        """Ask for a permission."""
        request = transcript_pb2.PermissionRequest(
            permission_id=permission_id,
            tool_name="Bash",
            tool_call_id=tool_call_id,
            **request_fields,
        )
        self.add(Item(permission_request=request))

    def end(
        self,
        state: Outcome.State.ValueType = Outcome.STATE_FINISHED,
        *,
        conversation: str = "",
        **outcome: Any,
    ) -> None:
        """End with an outcome."""
        self.add(Item(turn_outcome=Outcome(state=state, **outcome)), conversation)

    def replay(self, listener: Listener) -> None:
        """Bring a new listener to where the execution is."""
        self.positions.append(listener.position())
        updates = [
            executions_pb2.ExecutionUpdate(event=event)
            for event in self.events[listener.position() :]
        ]
        updates += [
            executions_pb2.ExecutionUpdate(
                delta=transcript_pb2.MessageDelta(block_id=block_id, text=text, snapshot=True)
            )
            for block_id, text in self.blocks.items()
        ]
        listener.updates(updates)
