"""Tests of `services.gateway.agent_streams`."""

from __future__ import annotations

from typing import Any

import orjson

from moorline.session.v1 import feed_pb2
from services.gateway.agent_streams import AgentReader, AgentStream
from services.gateway.encoding import JSON
from tests.unit.gateway.fakes import agent, agents_checkpoint

ALL = 1 << 30


def agents(*updates: feed_pb2.EncodedUpdate) -> AgentStream:
    """A list of agents that has taken in updates."""
    stream = AgentStream(parent="users/ada", encoding=JSON)
    assert stream.apply(updates)
    return stream


def taken(source: AgentReader, budget: int = ALL) -> list[Any]:
    """What a reader gets, parsed; all of it within the budget."""
    return [orjson.loads(update) for update in source.take(budget)[0]]


def test_a_reader_gets_every_agent_and_a_checkpoint() -> None:
    """In the order of their last change, each as it is now."""
    stream = agents(agent("a"), agent("b"), agents_checkpoint(), agent("a", 2))

    assert [
        {"agent": {"name": "b", "headSequence": 1}},
        {"agent": {"name": "a", "headSequence": 2}},
        {"checkpoint": {}},
    ] == taken(AgentReader(stream))


def test_changes_between_takes_come_as_one() -> None:
    """A reader that waits gets the last state only."""
    stream = agents(agent("a"), agents_checkpoint())
    source = AgentReader(stream)
    taken(source)
    stream.apply([agent("a", 2), agent("a", 3)])

    assert [{"agent": {"name": "a", "headSequence": 3}}] == taken(source)
    assert [] == taken(source)


def test_a_removal_is_told_to_who_was_there() -> None:
    """Who came later never saw the agent."""
    stream = agents(agent("a"), agents_checkpoint())
    old = AgentReader(stream)
    taken(old)
    stream.apply([agent("a", removed=True)])

    assert [{"removed": "a"}] == taken(old)
    assert [{"checkpoint": {}}] == taken(AgentReader(stream))


def test_a_budget_ends_a_take() -> None:
    """The rest comes with the next one."""
    stream = agents(agent("a"), agent("b"))
    source = AgentReader(stream)
    updates, more = source.take(1)

    assert (1, True) == (len(updates), more)
    assert [{"agent": {"name": "b", "headSequence": 1}}] == taken(source)


def test_a_new_subscription_tells_only_what_changed() -> None:
    """What is repeated is no news; what is not has been removed."""
    stream = agents(agent("a"), agent("b"), agents_checkpoint())
    source = AgentReader(stream)
    taken(source)
    stream.reset()
    stream.apply([agent("a")])
    assert [] == taken(source)
    stream.apply([agents_checkpoint()])

    assert [{"removed": "b"}] == taken(source)


def test_removed_agents_are_forgotten() -> None:
    """Their traces are kept until every reader has them."""
    stream = agents(agent("a"), agent("b"), agent("a", removed=True), agent("b", removed=True))
    stream.forget_removed(3)

    assert ["b"] == list(stream.agents)


def test_it_asks_for_the_list() -> None:
    """The whole list, each time."""
    request = feed_pb2.SubscribeRequest()
    agents().fill(request)

    assert "users/ada" == request.watch_agents.parent
