"""The forms in which updates leave this service: for a feed, or as messages.

Each method adds one update to a message that is about to be sent, and returns about how
many bytes that took. Does not know what is sent when.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from moorline.session.v1 import agents_pb2, events_pb2, feed_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.session.blocks import Block
from services.session.encoding import LoggedEvent, agent_update_json, removed_update_json

N_contra = TypeVar("N_contra", contravariant=True)

_BESIDES_BYTES = 48
"""About what an update has besides the text or the event in it."""


class EventForm(Protocol[N_contra]):
    """Adds the updates of an agent's history."""

    def event(self, news: N_contra, event: LoggedEvent) -> int:
        """Add a stored event."""
        ...

    def delta(self, news: N_contra, block: Block, seen: int | None) -> int:
        """Add a block's text after its first `seen` characters; None says that it is new."""
        ...

    def discarded(self, news: N_contra, block_id: str) -> int:
        """Add that a block was taken back."""
        ...

    def checkpoint(self, news: N_contra, sequence: int, log_id: str) -> int:
        """Add that the stream of a history is complete up to here."""
        ...

    def end(self, news: N_contra, failure: Failure) -> int:
        """Add that the subscription has ended, if this form tells; 0 if it does not."""
        ...


class AgentForm(Protocol[N_contra]):
    """Adds the updates of a user's list of agents."""

    def agent(self, news: N_contra, agent: agents_pb2.Agent) -> int:
        """Add an agent that is new or has changed."""
        ...

    def removed(self, news: N_contra, name: str) -> int:
        """Add that an agent was deleted."""
        ...

    def checkpoint(self, news: N_contra) -> int:
        """Add that the list is complete."""
        ...

    def end(self, news: N_contra, failure: Failure) -> int:
        """Add that the subscription has ended, if this form tells; 0 if it does not."""
        ...


class _FeedForm:
    def end(self, news: feed_pb2.SubscribedUpdates, failure: Failure) -> int:
        news.end.CopyFrom(failure.to_error())
        return _BESIDES_BYTES


class FeedEvents(_FeedForm):
    """Updates of a history for a feed, in one encoding."""

    def __init__(self, *, json: bool) -> None:
        self._json = json

    def event(self, news: feed_pb2.SubscribedUpdates, event: LoggedEvent) -> int:
        """See `EventForm`."""
        encoded = news.updates.add().event
        encoded.sequence = event.sequence
        encoded.encoded = event.update_json if self._json else event.update_protobuf
        encoded.block_id = event.block_id
        encoded.closes_blocks = event.closes_blocks
        return len(event.json) + _BESIDES_BYTES

    def delta(self, news: feed_pb2.SubscribedUpdates, block: Block, seen: int | None) -> int:
        """See `EventForm`."""
        delta = news.updates.add().delta
        delta.block_id = block.block_id
        if block.thought:
            delta.thought = True
        if seen is None:
            delta.snapshot = True
            seen = 0
        delta.text = (
            block.escaped(seen) if self._json else block.text(seen).encode("utf-8", "replace")
        )
        return block.length - seen + _BESIDES_BYTES

    def discarded(self, news: feed_pb2.SubscribedUpdates, block_id: str) -> int:
        """See `EventForm`."""
        news.updates.add().discarded_block_id = block_id
        return _BESIDES_BYTES

    def checkpoint(self, news: feed_pb2.SubscribedUpdates, sequence: int, log_id: str) -> int:
        """See `EventForm`."""
        checkpoint = events_pb2.Checkpoint(sequence=sequence, log_id=log_id)
        news.updates.add(checkpoint=checkpoint)
        return _BESIDES_BYTES


class FeedAgents(_FeedForm):
    """Updates of a list of agents for a feed, in one encoding."""

    def __init__(self, *, json: bool) -> None:
        self._json = json

    def agent(self, news: feed_pb2.SubscribedUpdates, agent: agents_pb2.Agent) -> int:
        """See `AgentForm`."""
        if self._json:
            encoded = agent_update_json(agent)
        else:
            encoded = agents_pb2.AgentUpdate(agent=agent).SerializeToString()
        news.updates.add(agent=feed_pb2.EncodedAgent(name=agent.name, encoded=encoded))
        return len(encoded) + _BESIDES_BYTES

    def removed(self, news: feed_pb2.SubscribedUpdates, name: str) -> int:
        """See `AgentForm`."""
        if self._json:
            encoded = removed_update_json(name)
        else:
            encoded = agents_pb2.AgentUpdate(removed=name).SerializeToString()
        removed = feed_pb2.EncodedAgent(name=name, encoded=encoded, removed=True)
        news.updates.add(agent=removed)
        return len(encoded) + _BESIDES_BYTES

    def checkpoint(self, news: feed_pb2.SubscribedUpdates) -> int:
        """See `AgentForm`."""
        news.updates.add(agents_checkpoint=agents_pb2.AgentsCheckpoint())
        return _BESIDES_BYTES


class MessageEvents:
    """Updates of a history as `EventUpdate` messages."""

    def event(self, news: events_pb2.WatchEventsResponse, event: LoggedEvent) -> int:
        """See `EventForm`."""
        news.updates.add(event=event.message)
        return len(event.json) + _BESIDES_BYTES

    def delta(self, news: events_pb2.WatchEventsResponse, block: Block, seen: int | None) -> int:
        """See `EventForm`."""
        text = block.text(seen or 0)
        news.updates.add(
            delta=transcript_pb2.MessageDelta(
                block_id=block.block_id, thought=block.thought, snapshot=seen is None, text=text
            )
        )
        return len(text) + _BESIDES_BYTES

    def discarded(self, news: events_pb2.WatchEventsResponse, block_id: str) -> int:
        """See `EventForm`."""
        news.updates.add(message_discarded=transcript_pb2.MessageDiscarded(block_id=block_id))
        return _BESIDES_BYTES

    def checkpoint(self, news: events_pb2.WatchEventsResponse, sequence: int, log_id: str) -> int:
        """See `EventForm`."""
        checkpoint = events_pb2.Checkpoint(sequence=sequence, log_id=log_id)
        news.updates.add(checkpoint=checkpoint)
        return _BESIDES_BYTES

    def end(self, news: events_pb2.WatchEventsResponse, failure: Failure) -> int:
        """See `EventForm`; the stream's status tells the failure."""
        del news, failure
        return 0


class MessageAgents:
    """Updates of a list of agents as `AgentUpdate` messages."""

    def agent(self, news: agents_pb2.WatchAgentsResponse, agent: agents_pb2.Agent) -> int:
        """See `AgentForm`."""
        news.updates.add(agent=agent)
        return agent.ByteSize() + _BESIDES_BYTES

    def removed(self, news: agents_pb2.WatchAgentsResponse, name: str) -> int:
        """See `AgentForm`."""
        news.updates.add(removed=name)
        return len(name) + _BESIDES_BYTES

    def checkpoint(self, news: agents_pb2.WatchAgentsResponse) -> int:
        """See `AgentForm`."""
        news.updates.add(checkpoint=agents_pb2.AgentsCheckpoint())
        return _BESIDES_BYTES

    def end(self, news: agents_pb2.WatchAgentsResponse, failure: Failure) -> int:
        """See `AgentForm`; the stream's status tells the failure."""
        del news, failure
        return 0
