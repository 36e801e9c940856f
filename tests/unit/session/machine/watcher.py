"""A client that follows the agent, and holds the service to what it was shown."""

from __future__ import annotations

from dataclasses import dataclass, field

from moorline.session.v1 import events_pb2
from tests.unit.session.service import AGENT


@dataclass
class Watcher:
    """A client that follows the agent, and comes back with the last number it saw."""

    events: list[events_pb2.Event] = field(default_factory=list)
    blocks: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def begin(self) -> events_pb2.WatchEventsRequest:
        """Return the request for what it has not seen."""
        # The server tells whole what is being written when a stream begins.
        self.blocks.clear()
        return events_pb2.WatchEventsRequest(
            parent=AGENT, after_sequence=len(self.events), include_deltas=True
        )

    def hear(self, update: events_pb2.EventUpdate) -> None:
        """Take in an update by the client's rules."""
        match update.WhichOneof("update"):
            case "event":
                self._event(update.event)
            case "delta":
                delta = update.delta
                known = self.blocks.get(delta.block_id)
                if known is None and not delta.snapshot:
                    self.problems.append(f"a fragment of {delta.block_id} without its beginning")
                text = delta.text if delta.snapshot else (known or "") + delta.text
                self.blocks[delta.block_id] = text
            case "message_discarded":
                self.blocks.pop(update.message_discarded.block_id, None)

    def _event(self, event: events_pb2.Event) -> None:
        if event.sequence != len(self.events) + 1:
            self.problems.append(f"event {event.sequence} came after {len(self.events)}")
            return
        self.events.append(event)
        kind = event.item.WhichOneof("kind")
        if kind == "agent_message":
            shown = self.blocks.pop(event.item.agent_message.block_id, "")
            if not event.item.agent_message.text.startswith(shown):
                self.problems.append(f"shown {shown!r}, stored {event.item.agent_message.text!r}")
        elif kind in {"turn_attempt", "turn_outcome"}:
            self.blocks.clear()
