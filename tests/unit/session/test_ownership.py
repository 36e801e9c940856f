"""Tests of every RPC on another user's names: the answer is that of a missing one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from moorline.session.v1 import agents_pb2, events_pb2, feed_pb2, keys_pb2, turns_pb2, usage_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.chassis.identity import act_as
from tests.unit.session.fakes import FakeExecutor
from tests.unit.session.service import ADA, AGENT, BOB, CONTEXT, Service

Agent = agents_pb2.Agent


PROMPT = turns_pb2.Turn(prompt=transcript_pb2.UserMessage(text="hi"))


DECISION = transcript_pb2.PermissionDecision(permission_id="p1")


async def answer(result: Any) -> Message:
    """Return what an RPC answers first."""
    if isinstance(result, AsyncIterator):
        async for response in result:
            await result.aclose()  # type: ignore[attr-defined]
            return response  # type: ignore[no-any-return]
        raise AssertionError("the stream was empty")
    response = await result
    assert isinstance(response, Message)
    return response


def rpcs(service: Service, agent: str, turn: str = "t1", key: str = "abcd2345") -> dict[str, Any]:
    """Return a call of every RPC on an agent of a user's, and on that user."""
    user = agent.partition("/agents")[0]
    name = f"{agent}/turns/{turn}"
    watch_events = events_pb2.WatchEventsRequest(parent=agent)
    watch_agents = agents_pb2.WatchAgentsRequest(parent=user)
    json = feed_pb2.ENCODING_JSON
    return {
        "CreateAgent": lambda: service.agents.CreateAgent(
            agents_pb2.CreateAgentRequest(parent=user, agent_id="new"), CONTEXT
        ),
        "GetUsage": lambda: service.usage.GetUsage(
            usage_pb2.GetUsageRequest(name=f"{user}/usage/current"), CONTEXT
        ),
        "GetAgent": lambda: service.agents.GetAgent(
            agents_pb2.GetAgentRequest(name=agent), CONTEXT
        ),
        "ListAgents": lambda: service.agents.ListAgents(
            agents_pb2.ListAgentsRequest(parent=user), CONTEXT
        ),
        "UpdateAgent": lambda: service.agents.UpdateAgent(
            agents_pb2.UpdateAgentRequest(
                agent=Agent(name=agent), update_mask=FieldMask(paths=["backend"])
            ),
            CONTEXT,
        ),
        "DeleteAgent": lambda: service.agents.DeleteAgent(
            agents_pb2.DeleteAgentRequest(name=agent), CONTEXT
        ),
        "WatchAgents": lambda: service.agents.WatchAgents(watch_agents, CONTEXT),
        "CreateTurn": lambda: service.turns.CreateTurn(
            turns_pb2.CreateTurnRequest(parent=agent, turn_id=turn, turn=PROMPT), CONTEXT
        ),
        "GetTurn": lambda: service.turns.GetTurn(turns_pb2.GetTurnRequest(name=name), CONTEXT),
        "ListTurns": lambda: service.turns.ListTurns(
            turns_pb2.ListTurnsRequest(parent=agent), CONTEXT
        ),
        "CancelTurn": lambda: service.turns.CancelTurn(
            turns_pb2.CancelTurnRequest(name=name), CONTEXT
        ),
        "ResolvePermission": lambda: service.turns.ResolvePermission(
            turns_pb2.ResolvePermissionRequest(name=name, decision=DECISION), CONTEXT
        ),
        "ListEvents": lambda: service.events.ListEvents(
            events_pb2.ListEventsRequest(parent=agent), CONTEXT
        ),
        "WatchEvents": lambda: service.events.WatchEvents(watch_events, CONTEXT),
        "Subscribe events": lambda: service.feed.Subscribe(
            feed_pb2.SubscribeRequest(
                feed_id="f", subscription=1, encoding=json, watch_events=watch_events
            ),
            CONTEXT,
        ),
        "Subscribe agents": lambda: service.feed.Subscribe(
            feed_pb2.SubscribeRequest(
                feed_id="f", subscription=1, encoding=json, watch_agents=watch_agents
            ),
            CONTEXT,
        ),
        "CreateKey": lambda: service.keys.CreateKey(
            keys_pb2.CreateKeyRequest(parent=user), CONTEXT
        ),
        "ListKeys": lambda: service.keys.ListKeys(keys_pb2.ListKeysRequest(parent=user), CONTEXT),
        "RevokeKey": lambda: service.keys.RevokeKey(
            keys_pb2.RevokeKeyRequest(name=f"{user}/keys/{key}"), CONTEXT
        ),
    }


RPCS = list(rpcs(None, AGENT))  # type: ignore[arg-type]


ON_USERS = {
    "GetUsage",
    "CreateAgent",
    "ListAgents",
    "WatchAgents",
    "Subscribe agents",
    "CreateKey",
    "ListKeys",
}


class TestOwnership:
    @pytest.mark.parametrize("rpc", RPCS)
    async def test_foreign_and_missing_are_the_same_bytes(
        self, service: Service, executor: FakeExecutor, rpc: str
    ) -> None:
        """Nobody can tell another user's resource from one that does not exist."""
        await service.create_turn()
        await executor.execution()
        created = await service.keys.CreateKey(
            keys_pb2.CreateKeyRequest(parent="users/ada"), CONTEXT
        )
        key = created.key.name.rpartition("/")[2]
        act_as(BOB)
        answers = []
        for agent in (AGENT, "users/ada/agents/none", "users/nobody/agents/a1"):
            with pytest.raises(Failure) as raised:
                await answer(rpcs(service, agent, key=key)[rpc]())
            answers.append(raised.value.to_status().SerializeToString(deterministic=True))
        if rpc not in ON_USERS and not rpc.startswith("Subscribe"):
            with pytest.raises(Failure) as raised:
                await answer(rpcs(service, "users/bob/agents/a1", key="none2345")[rpc]())
            answers.append(raised.value.to_status().SerializeToString(deterministic=True))

        assert 1 == len(set(answers))
        assert "RESOURCE_NOT_FOUND" == raised.value.reason_name
        act_as(ADA)
        assert agents_pb2.Agent.STATE_WORKING == (await service.get_agent()).state

    @pytest.mark.parametrize("rpc", RPCS)
    @pytest.mark.parametrize("agent", ["users/Ada/agents/a1", "users//agents/"])
    async def test_malformed_names_are_field_invalid(
        self, service: Service, rpc: str, agent: str
    ) -> None:
        """Whoever asks; a name is looked at before its owner is."""
        with pytest.raises(Failure) as raised:
            await answer(rpcs(service, agent)[rpc]())

        assert "FIELD_INVALID" == raised.value.reason_name
        assert raised.value.metadata["field"]
