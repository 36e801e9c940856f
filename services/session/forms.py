"""The forms in which updates leave this service: for a feed, or as messages.

Does not know what is sent when.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias, TypeVar

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import agents_pb2, events_pb2, feed_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.session.blocks import Block
from services.session.encoding import LoggedEvent, agent_update_json, removed_update_json

U_co = TypeVar("U_co", covariant=True)

FeedUpdate: TypeAlias = feed_pb2.EncodedUpdate | errors_pb2.Error
"""What a feed's subscription yields; an error is its end."""


class EventForm(Protocol[U_co]):
    """Makes the updates of an agent's history."""

    def event(self, event: LoggedEvent) -> U_co:
        """Return the update for a stored event."""
        ...

    def delta(self, block: Block, seen: int, *, snapshot: bool) -> U_co:
        """Return the update for a block's text after its first `seen` characters."""
        ...

    def discarded(self, block_id: str) -> U_co:
        """Return the update for a block that was taken back."""
        ...

    def checkpoint(self, sequence: int, log_id: str) -> U_co:
        """Return the update that says the stream of a history is complete up to here."""
        ...

    def end(self, failure: Failure) -> tuple[U_co, ...]:
        """Return the update that ends the subscription, if this form has one."""
        ...


class AgentForm(Protocol[U_co]):
    """Makes the updates of a user's list of agents."""

    def agent(self, agent: agents_pb2.Agent) -> U_co:
        """Return the update for an agent that was added or changed."""
        ...

    def removed(self, name: str) -> U_co:
        """Return the update for an agent that was deleted."""
        ...

    def checkpoint(self) -> U_co:
        """Return the update that says the list is complete."""
        ...

    def end(self, failure: Failure) -> tuple[U_co, ...]:
        """Return the update that ends the subscription, if this form has one."""
        ...


class _FeedForm:
    def end(self, failure: Failure) -> tuple[FeedUpdate, ...]:
        return (failure.to_error(),)


class FeedEvents(_FeedForm):
    """Updates of a history for a feed, in one encoding."""

    def __init__(self, *, json: bool) -> None:
        self._json = json

    def event(self, event: LoggedEvent) -> FeedUpdate:
        """See `EventForm`."""
        return feed_pb2.EncodedUpdate(
            event=feed_pb2.EncodedEvent(
                sequence=event.sequence,
                encoded=event.update_json if self._json else event.update_protobuf,
                block_id=event.block_id,
                closes_blocks=event.closes_blocks,
            )
        )

    def delta(self, block: Block, seen: int, *, snapshot: bool) -> FeedUpdate:
        """See `EventForm`."""
        # Set in place: half the time of building a message that is copied into another.
        update = feed_pb2.EncodedUpdate()
        delta = update.delta
        delta.block_id = block.block_id
        if block.thought:
            delta.thought = True
        if snapshot:
            delta.snapshot = True
        delta.text = (
            block.escaped(seen) if self._json else block.text(seen).encode("utf-8", "replace")
        )
        return update

    def discarded(self, block_id: str) -> FeedUpdate:
        """See `EventForm`."""
        return feed_pb2.EncodedUpdate(discarded_block_id=block_id)

    def checkpoint(self, sequence: int, log_id: str) -> FeedUpdate:
        """See `EventForm`."""
        checkpoint = events_pb2.Checkpoint(sequence=sequence, log_id=log_id)
        return feed_pb2.EncodedUpdate(checkpoint=checkpoint)


class FeedAgents(_FeedForm):
    """Updates of a list of agents for a feed, in one encoding."""

    def __init__(self, *, json: bool) -> None:
        self._json = json

    def agent(self, agent: agents_pb2.Agent) -> FeedUpdate:
        """See `AgentForm`."""
        if self._json:
            encoded = agent_update_json(agent)
        else:
            encoded = agents_pb2.AgentUpdate(agent=agent).SerializeToString()
        return feed_pb2.EncodedUpdate(agent=feed_pb2.EncodedAgent(name=agent.name, encoded=encoded))

    def removed(self, name: str) -> FeedUpdate:
        """See `AgentForm`."""
        if self._json:
            encoded = removed_update_json(name)
        else:
            encoded = agents_pb2.AgentUpdate(removed=name).SerializeToString()
        return feed_pb2.EncodedUpdate(
            agent=feed_pb2.EncodedAgent(name=name, encoded=encoded, removed=True)
        )

    def checkpoint(self) -> FeedUpdate:
        """See `AgentForm`."""
        return feed_pb2.EncodedUpdate(agents_checkpoint=agents_pb2.AgentsCheckpoint())


class MessageEvents:
    """Updates of a history as `EventUpdate` messages."""

    def event(self, event: LoggedEvent) -> events_pb2.EventUpdate:
        """See `EventForm`."""
        return events_pb2.EventUpdate(event=event.message)

    def delta(self, block: Block, seen: int, *, snapshot: bool) -> events_pb2.EventUpdate:
        """See `EventForm`."""
        return events_pb2.EventUpdate(
            delta=transcript_pb2.MessageDelta(
                block_id=block.block_id,
                thought=block.thought,
                snapshot=snapshot,
                text=block.text(seen),
            )
        )

    def discarded(self, block_id: str) -> events_pb2.EventUpdate:
        """See `EventForm`."""
        return events_pb2.EventUpdate(
            message_discarded=transcript_pb2.MessageDiscarded(block_id=block_id)
        )

    def checkpoint(self, sequence: int, log_id: str) -> events_pb2.EventUpdate:
        """See `EventForm`."""
        checkpoint = events_pb2.Checkpoint(sequence=sequence, log_id=log_id)
        return events_pb2.EventUpdate(checkpoint=checkpoint)

    def end(self, failure: Failure) -> tuple[events_pb2.EventUpdate, ...]:
        """See `EventForm`; the stream's status tells the failure."""
        del failure
        return ()


class MessageAgents:
    """Updates of a list of agents as `AgentUpdate` messages."""

    def agent(self, agent: agents_pb2.Agent) -> agents_pb2.AgentUpdate:
        """See `AgentForm`."""
        return agents_pb2.AgentUpdate(agent=agent)

    def removed(self, name: str) -> agents_pb2.AgentUpdate:
        """See `AgentForm`."""
        return agents_pb2.AgentUpdate(removed=name)

    def checkpoint(self) -> agents_pb2.AgentUpdate:
        """See `AgentForm`."""
        return agents_pb2.AgentUpdate(checkpoint=agents_pb2.AgentsCheckpoint())

    def end(self, failure: Failure) -> tuple[agents_pb2.AgentUpdate, ...]:
        """See `AgentForm`; the stream's status tells the failure."""
        del failure
        return ()
