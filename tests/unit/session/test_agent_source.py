"""Tests of `services.session.agent_source`: the list, then what changes."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import agents_pb2, feed_pb2
from services.chassis.failures import not_found
from services.session.agent_source import AgentFollower, AgentSource
from services.session.forms import FeedAgents, MessageAgents
from services.session.ownership.ownership import Lease, SoleLease

BUDGET = 1 << 20


class FakeAgents:
    """A list of agents in the test's hands."""

    def __init__(self, *ids: str) -> None:
        self.agents = {id_: agents_pb2.Agent(name=self.agent_name(id_)) for id_ in ids}
        self.followers: list[AgentFollower] = []

    @property
    def lease(self) -> Lease:
        """See `AgentList`."""
        return SoleLease()

    def agent_ids(self) -> list[str]:
        """See `AgentList`."""
        return list(self.agents)

    def find(self, agent_id: str) -> agents_pb2.Agent | None:
        """See `AgentList`."""
        return self.agents.get(agent_id)

    def agent_name(self, agent_id: str) -> str:
        """See `AgentList`."""
        return f"users/ada/agents/{agent_id}"

    def follow(self, follower: AgentFollower) -> None:
        """See `AgentList`."""
        self.followers.append(follower)

    def leave(self, follower: AgentFollower) -> None:
        """See `AgentList`."""
        if follower in self.followers:
            self.followers.remove(follower)


def make(agents: FakeAgents, form: Any = None) -> tuple[AgentSource[Any], list[None]]:
    """Return a source and the marks it makes."""
    marks: list[None] = []
    source: AgentSource[Any] = AgentSource(
        agents=agents, form=form or MessageAgents(), mark=lambda: marks.append(None)
    )
    return source, marks


def take(source: AgentSource[Any], budget: int = BUDGET) -> tuple[Any, bool]:
    """Return what a source gives, and whether there is more."""
    news = agents_pb2.WatchAgentsResponse()
    taken, more = source.take(budget, news)
    assert bool(news.updates) == bool(taken)
    return list(news.updates), more


def shown(updates: Any) -> list[str]:
    """Return what a client is told, in short."""
    return [
        update.agent.name or f"-{update.removed}" if not update.HasField("checkpoint") else "*"
        for update in updates
    ]


def test_the_list_comes_first() -> None:
    """Every agent, then the checkpoint, once."""
    source, _ = make(FakeAgents("a", "b"))

    updates, more = take(source)

    assert ["users/ada/agents/a", "users/ada/agents/b", "*"] == shown(updates)
    assert not more
    assert ([], False) == take(source)


def test_an_empty_list_is_complete() -> None:
    """There is a checkpoint all the same."""
    source, _ = make(FakeAgents())

    assert ["*"] == shown(take(source)[0])


def test_changes_that_follow_quickly_are_one() -> None:
    """An agent is sent as it is when it is taken."""
    agents = FakeAgents("a", "b")
    source, marks = make(agents)
    take(source)
    for _ in range(5):
        source.changed("b")
    source.changed("a")
    del agents.agents["a"]

    updates, _ = take(source)

    assert ["users/ada/agents/b", "-users/ada/agents/a"] == shown(updates)
    assert 6 == len(marks)


def test_a_budget_is_kept_but_for_one_update() -> None:
    """The checkpoint waits for the last agent."""
    source, _ = make(FakeAgents("a", "b", "c"))

    takes = []
    more = True
    while more:
        updates, more = take(source, 1)
        takes.append(shown(updates))

    assert [["users/ada/agents/a"], ["users/ada/agents/b"]] == takes[:2]
    assert ["users/ada/agents/c", "*"] == takes[2]


@pytest.mark.parametrize("json", [True, False])
def test_a_feed_carries_the_same(json: bool) -> None:
    """Each agent by name and encoded, removals marked."""
    agents = FakeAgents("a")
    source, _ = make(agents, FeedAgents(json=json))
    news = feed_pb2.SubscribedUpdates()
    source.take(BUDGET, news)
    del agents.agents["a"]
    source.changed("a")
    source.take(BUDGET, news)
    added, checkpoint, removed = news.updates

    assert ("users/ada/agents/a", False) == (added.agent.name, added.agent.removed)
    assert checkpoint.HasField("agents_checkpoint")
    assert ("users/ada/agents/a", True) == (removed.agent.name, removed.agent.removed)
    if json:
        assert {"removed": "users/ada/agents/a"} == orjson.loads(removed.agent.encoded)
    else:
        update = agents_pb2.AgentUpdate.FromString(added.agent.encoded)
        assert "users/ada/agents/a" == update.agent.name


def test_it_ends_with_a_failure() -> None:
    """Once, in place of what is left; messages leave it to the stream's status."""
    agents = FakeAgents("a")
    feed, _ = make(agents, FeedAgents(json=True))
    plain, _ = make(agents)
    for source in (feed, plain):
        source.end(not_found())
        source.end(not_found())

    news = feed_pb2.SubscribedUpdates()
    feed.take(BUDGET, news)

    assert errors_pb2.ERROR_REASON_RESOURCE_NOT_FOUND == news.end.reason
    assert ([], False) == take(plain)
    assert feed.done
    assert plain.done
    assert [] == agents.followers


def test_closing_stops_following() -> None:
    """Twice is the same as once."""
    agents = FakeAgents("a")
    source, _ = make(agents)

    source.close()
    source.close()

    assert [] == agents.followers
