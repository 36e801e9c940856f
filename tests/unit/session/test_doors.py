"""Tests of the doors together: every RPC's fields, owners, and the same answer for both.

Covers `agents_api`, `turns_api`, `events_api`, `keys_api`, `feed_api`,
`usage_api`, `options` and `checks`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from google.protobuf.message import Message

from moorline.session.v1 import agents_pb2, events_pb2, feed_pb2, keys_pb2, turns_pb2, usage_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.session.store import Update
from tests.unit.session.fakes import FakeExecutor, FaultyStore
from tests.unit.session.service import AGENT, CONTEXT, Service

Agent = agents_pb2.Agent


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | str) else list(value)


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


def _create_agent(service: Service, **request: Any) -> Awaitable[Message]:
    return service.agents.CreateAgent(
        agents_pb2.CreateAgentRequest(parent="users/ada", **request), CONTEXT
    )


def _update_agent(service: Service, *paths: str, **agent: Any) -> Awaitable[Message]:
    request = agents_pb2.UpdateAgentRequest(agent=Agent(name=AGENT, **agent))
    request.update_mask.paths.extend(paths)
    return service.agents.UpdateAgent(request, CONTEXT)


def _set(service: Service, **agent: Any) -> Awaitable[Message]:
    return _update_agent(service, *agent, **agent)


def _get_usage(service: Service, month: str) -> Awaitable[Message]:
    return service.usage.GetUsage(
        usage_pb2.GetUsageRequest(name=f"users/ada/usage/{month}"), CONTEXT
    )


def _list_agents(service: Service, **request: Any) -> Awaitable[Message]:
    return service.agents.ListAgents(
        agents_pb2.ListAgentsRequest(parent="users/ada", **request), CONTEXT
    )


def _create_turn(service: Service, turn_id: str, text: str) -> Awaitable[Message]:
    turn = turns_pb2.Turn(prompt=transcript_pb2.UserMessage(text=text))
    return service.turns.CreateTurn(
        turns_pb2.CreateTurnRequest(parent=AGENT, turn_id=turn_id, turn=turn), CONTEXT
    )


def _list_turns(service: Service, **request: Any) -> Awaitable[Message]:
    return service.turns.ListTurns(turns_pb2.ListTurnsRequest(parent=AGENT, **request), CONTEXT)


def _resolve(service: Service, **decision: Any) -> Awaitable[Message]:
    request = turns_pb2.ResolvePermissionRequest(
        name=f"{AGENT}/turns/t1", decision=transcript_pb2.PermissionDecision(**decision)
    )
    return service.turns.ResolvePermission(request, CONTEXT)


def _list_events(service: Service, **request: Any) -> Awaitable[Message]:
    return service.events.ListEvents(events_pb2.ListEventsRequest(parent=AGENT, **request), CONTEXT)


def _subscribe(service: Service, **request: Any) -> Awaitable[Message]:
    return service.feed.Subscribe(
        feed_pb2.SubscribeRequest(feed_id="f", subscription=1, **request), CONTEXT
    )


def _create_key(service: Service, **request: Any) -> Awaitable[Message]:
    return service.keys.CreateKey(keys_pb2.CreateKeyRequest(parent="users/ada", **request), CONTEXT)


INVALID: list[tuple[str, Callable[[Service], Any]]] = [
    ("agent_id", lambda s: _create_agent(s, agent_id="A")),
    ("agent.display_name", lambda s: _create_agent(s, agent=Agent(display_name="x" * 64))),
    ("agent.instructions", lambda s: _create_agent(s, agent=Agent(instructions="x" * 20_001))),
    ("agent.backend", lambda s: _create_agent(s, agent=Agent(backend="no-dash"))),
    ("agent.permission_mode", lambda s: _create_agent(s, agent=Agent(permission_mode=9))),  # type: ignore[arg-type]
    ("agent.model", lambda s: _create_agent(s, agent=Agent(model="x" * 101))),
    ("agent.model", lambda s: _create_agent(s, agent=Agent(model="a b"))),
    ("agent.turn_budget_usd_micros", lambda s: _set(s, turn_budget_usd_micros=-1)),
    ("agent.budget_usd_micros", lambda s: _set(s, budget_usd_micros=-1)),
    ("agent.max_steps", lambda s: _set(s, max_steps=-1)),
    ("agent.allowed_rules", lambda s: _set(s, allowed_rules=["Edit", ""])),
    ("agent.allowed_rules", lambda s: _set(s, allowed_rules=["Bash()"])),
    ("agent.allowed_rules", lambda s: _set(s, allowed_rules=["Bash(a) Edit"])),
    ("agent.allowed_rules", lambda s: _set(s, allowed_rules=["Bash(a) Edit(b)"])),
    ("agent.allowed_rules", lambda s: _set(s, allowed_rules=["Bash(a\nb)"])),
    ("agent.allowed_rules", lambda s: _set(s, allowed_rules=["Edit,Write"])),
    ("agent.allowed_rules", lambda s: _set(s, allowed_rules=["B(" + "x" * 499 + ")"])),
    ("agent.allowed_rules", lambda s: _set(s, allowed_rules=[f"T{n}" for n in range(101)])),
    ("name", lambda s: _get_usage(s, "2026-13")),
    ("name", lambda s: _get_usage(s, "2026-1")),
    ("name", lambda s: _get_usage(s, "0999-01")),
    ("name", lambda s: _get_usage(s, "2026-11\n")),
    ("name", lambda s: _get_usage(s, "deleted")),
    ("update_mask", _update_agent),
    ("update_mask", lambda s: _update_agent(s, "name")),
    ("update_mask", lambda s: _update_agent(s, "backend", "etag")),
    ("page_size", lambda s: _list_agents(s, page_size=-1)),
    ("page_token", lambda s: _list_agents(s, page_token="x")),
    ("page_token", lambda s: _list_agents(s, page_token="1.2.")),
    ("page_token", lambda s: _list_agents(s, page_token="٣.2.a")),
    ("page_token", lambda s: _list_agents(s, page_token="9" * 5000 + ".1.a")),
    ("page_token", lambda s: _list_agents(s, page_token="1." + "9" * 5000 + ".a")),
    ("page_token", lambda s: _list_agents(s, page_token="1.1000000000.a")),
    ("page_token", lambda s: _list_agents(s, page_token="01.2.a")),
    ("page_token", lambda s: _list_agents(s, page_token="1.2.A")),
    ("page_token", lambda s: _list_agents(s, page_token="1.2.a" + "a" * 63)),
    ("page_token", lambda s: _list_agents(s, page_token="1.2.a\n")),
    ("turn_id", lambda s: _create_turn(s, "", "hi")),
    ("turn.prompt.text", lambda s: _create_turn(s, "t1", "")),
    ("turn.prompt.text", lambda s: _create_turn(s, "t1", "x" * 100_001)),
    ("page_token", lambda s: _list_turns(s, page_token="x")),
    ("page_token", lambda s: _list_turns(s, page_token="9" * 11)),
    ("page_token", lambda s: _list_turns(s, page_token="9" * 5000)),
    ("page_token", lambda s: _list_turns(s, page_token="0")),
    ("page_token", lambda s: _list_turns(s, page_token="01")),
    ("page_token", lambda s: _list_turns(s, page_token="1\n")),
    ("page_token", lambda s: _list_turns(s, page_token="x", unfinished_only=True)),
    ("page_size", lambda s: _list_turns(s, page_size=-1)),
    ("decision.permission_id", _resolve),
    (
        "decision.suggestion_id",
        lambda s: _resolve(s, permission_id="p", suggestion_id="x" * 201),
    ),
    ("decision.reason", lambda s: _resolve(s, permission_id="p", reason="x" * 2001)),
    ("after_sequence", lambda s: _list_events(s, after_sequence=-1)),
    ("page_size", lambda s: _list_events(s, page_size=-1)),
    (
        "after_sequence",
        lambda s: s.events.WatchEvents(
            events_pb2.WatchEventsRequest(parent=AGENT, after_sequence=-1), CONTEXT
        ),
    ),
    ("encoding", _subscribe),
    ("watch", lambda s: _subscribe(s, encoding=feed_pb2.ENCODING_JSON)),
    (
        "watch_events.after_sequence",
        lambda s: _subscribe(
            s,
            encoding=feed_pb2.ENCODING_JSON,
            watch_events=events_pb2.WatchEventsRequest(parent=AGENT, after_sequence=-1),
        ),
    ),
    ("display_name", lambda s: _create_key(s, display_name="x" * 64)),
    ("ttl", lambda s: _create_key(s, ttl={"seconds": 0})),
    ("ttl", lambda s: _create_key(s, ttl={"seconds": 366 * 86400 + 1})),
    ("ttl", lambda s: _create_key(s, ttl={"seconds": 2**62})),
]


class TestFields:
    @pytest.mark.parametrize(("field", "call"), INVALID)
    async def test_bad_fields_are_named(
        self, service: Service, field: str, call: Callable[[Service], Any]
    ) -> None:
        """The failure tells the field and what it must be."""
        with pytest.raises(Failure) as raised:
            await answer(call(service))

        assert "FIELD_INVALID" == raised.value.reason_name
        assert field == raised.value.metadata["field"]

    async def test_the_largest_prompt_is_taken(self, service: Service) -> None:
        """100,000 characters of any script."""
        prompt = "가" * 100_000

        await service.create_turn(prompt=prompt)

        assert prompt == (await service.list_events())[0].item.user_message.text
        assert prompt == (await service.get_turn()).prompt.text

    async def test_an_unset_permission_mode_asks(self, service: Service) -> None:
        """The careful mode is the one meant."""
        await _update_agent(service, "permission_mode")

        assert Agent.PERMISSION_MODE_ASK == (await service.get_agent()).permission_mode


class TestCreateAgent:
    async def test_the_same_call_again_changes_nothing(self, service: Service) -> None:
        """Whoever did not hear the answer hears it now; another agent is refused."""
        first = await service.create_agent("b", display_name="B")

        assert first == await service.create_agent("b", display_name="B")
        with pytest.raises(Failure) as raised:
            await service.create_agent("b", display_name="C")
        assert "RESOURCE_EXISTS" == raised.value.reason_name

    async def test_every_setting_counts(self, service: Service) -> None:
        """One that differs is another agent; unset and default are the same."""
        await service.create_agent("b", model="m", allowed_rules=["Edit"])

        await service.create_agent("b", model="m", allowed_rules=["Edit"], max_steps=0)
        for other in ({"model": "n"}, {"max_steps": 1}, {"budget_usd_micros": 1}):
            with pytest.raises(Failure, match="other content"):
                await service.create_agent("b", **{"model": "m", "allowed_rules": ["Edit"]} | other)


class TestUpdateAgent:
    async def test_each_setting_is_changed_alone(self, service: Service) -> None:
        """Those that the mask does not name stay; each change has a new etag."""
        wanted: dict[str, Any] = {
            "model": "m",
            "turn_budget_usd_micros": 5_000_000_000,
            "budget_usd_micros": 2**62,
            "max_steps": 9,
            "allowed_rules": ["Edit", "mcp__a__b", "Bash(git log (x):*)"],
            "permission_mode": Agent.PERMISSION_MODE_PLAN,
        }
        etags = {(await service.get_agent()).etag}
        for name in wanted:
            await _update_agent(service, name, **wanted)
            etags.add((await service.get_agent()).etag)

        agent = await service.get_agent()
        assert wanted == {name: _plain(getattr(agent, name)) for name in wanted}
        assert len(wanted) + 1 == len(etags)

    async def test_settings_last(
        self, service: Service, make_service: Callable[[], Service]
    ) -> None:
        """The next process has them; a rule given twice is there once."""
        await _set(service, model="m", allowed_rules=["Edit", "Write", "Edit"], max_steps=3)

        async with make_service() as other:
            agent = await other.get_agent()

        assert ("m", ["Edit", "Write"], 3) == (
            agent.model,
            list(agent.allowed_rules),
            agent.max_steps,
        )

    async def test_agents_of_an_older_release_have_none(
        self, service: Service, store: FaultyStore, make_service: Callable[[], Service]
    ) -> None:
        """Their documents lack the fields."""
        document = await store.get(AGENT)
        assert document is not None
        fields = {
            name: value
            for name, value in document.fields.items()
            if name not in ("options", "account")
        }
        await store.commit([Update(AGENT, fields, document.version)])

        async with make_service() as other:
            agent = await other.get_agent()
            assert ("", 0, 0) == (agent.model, agent.budget_usd_micros, agent.usage.turns)
            assert 0 == (await other.month()).total.turns
            assert await other.create_agent() == agent


class TestGetUsage:
    async def test_the_current_month_is_named(self, service: Service) -> None:
        """A month without turns is zero."""
        now = f"{service.environment.clock.now():%Y-%m}"

        assert f"users/ada/usage/{now}" == (await service.month()).name
        assert usage_pb2.MonthlyUsage(
            name="users/ada/usage/2025-01", total=agents_pb2.UsageTotal()
        ) == (await service.month("2025-01"))


class TestListAgents:
    async def test_the_most_recently_active_comes_first_in_pages(self, service: Service) -> None:
        """A page goes on after the one before."""
        for agent_id in ("b", "c", "d"):
            await service.create_agent(agent_id)
        await service.create_turn(agent="users/ada/agents/b")
        names, token = [], ""
        while True:
            page: Any = await _list_agents(service, page_size=2, page_token=token)
            names += [agent.name.rpartition("/")[2] for agent in page.agents]
            token = page.next_page_token
            if not token:
                break

        assert ["b", "d", "c", "a1"] == names


class TestWatchAgents:
    async def test_the_list_then_changes_then_removal(self, service: Service) -> None:
        """A client sees every agent, the checkpoint, and what happens after."""
        stream = service.agents.WatchAgents(
            agents_pb2.WatchAgentsRequest(parent="users/ada"), CONTEXT
        )
        seen: list[agents_pb2.AgentUpdate] = list((await anext(stream)).updates)
        assert [AGENT, ""] == [update.agent.name for update in seen]
        assert seen[1].HasField("checkpoint")

        await service.create_agent("a2")
        added = (await anext(stream)).updates
        assert "users/ada/agents/a2" == added[0].agent.name

        await service.create_turn()
        states = []
        while Agent.STATE_WORKING not in states:
            states += [update.agent.state for update in (await anext(stream)).updates]

        await service.agents.DeleteAgent(
            agents_pb2.DeleteAgentRequest(name="users/ada/agents/a2"), CONTEXT
        )
        removed: list[str] = []
        while not any(removed):
            removed += [update.removed for update in (await anext(stream)).updates]
        assert "users/ada/agents/a2" in removed
        await stream.aclose()  # type: ignore[attr-defined]


class TestWatchEvents:
    async def test_it_replays_and_goes_on(self, service: Service, executor: FakeExecutor) -> None:
        """Events, text being written, the checkpoint, then what happens."""
        await service.create_turn()
        execution = await executor.execution()
        execution.say("b1", "hel")
        stream = service.events.WatchEvents(
            events_pb2.WatchEventsRequest(parent=AGENT, include_deltas=True), CONTEXT
        )
        first = (await anext(stream)).updates
        assert ["event", "delta", "checkpoint"] == [u.WhichOneof("update") for u in first]
        assert ("hel", True) == (first[1].delta.text, first[1].delta.snapshot)

        execution.say("b1", "lo")

        (delta,) = (await anext(stream)).updates
        assert ("lo", False) == (delta.delta.text, delta.delta.snapshot)
        await stream.aclose()  # type: ignore[attr-defined]

    async def test_it_ends_when_the_agent_does(self, service: Service) -> None:
        """With the failure of an agent that does not exist."""
        stream = service.events.WatchEvents(events_pb2.WatchEventsRequest(parent=AGENT), CONTEXT)
        await anext(stream)

        await service.agents.DeleteAgent(agents_pb2.DeleteAgentRequest(name=AGENT), CONTEXT)

        with pytest.raises(Failure) as raised:
            await anext(stream)
        assert "RESOURCE_NOT_FOUND" == raised.value.reason_name

    async def test_it_ends_at_a_drain(self, service: Service) -> None:
        """And none begins after it."""
        request = events_pb2.WatchEventsRequest(parent=AGENT)
        stream = service.events.WatchEvents(request, CONTEXT)
        await anext(stream)
        service.watches.drain()

        for ended in (stream, service.events.WatchEvents(request, CONTEXT)):
            with pytest.raises(Failure) as raised:
                await anext(ended)
            assert "DRAINING" == raised.value.reason_name
