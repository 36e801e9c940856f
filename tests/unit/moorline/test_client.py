"""Tests of the synchronous client: the same names, the same behaviour."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest

import moorline
from tests.unit.moorline.scripted import Gateway
from tests.unit.moorline.scripted_platform import TOKEN, Turn

T = TypeVar("T")


async def in_thread(gateway: Gateway, work: Callable[[moorline.Client], T]) -> T:
    """Run a synchronous program beside the gateway's loop."""

    def program() -> T:
        with moorline.Client(gateway.url, TOKEN, environ={}) as client:
            return work(client)

    return await asyncio.to_thread(program)


async def test_a_turn_runs_and_streams(gateway: Gateway) -> None:
    """`run`, streams, events and history are those of the asynchronous client."""

    def work(client: moorline.Client) -> None:
        assert "You said: hi" == client.run("hi").text
        agent = client.agents.create(agent_id="one")
        with agent.run("there", turn_id="t1") as stream:
            assert "t1" == stream.turn.id
            texts = [event.text for event in stream if isinstance(event, moorline.TextDelta)]
        assert "You said: there" == "".join(texts) == stream.result.text
        assert stream.result_or_raise() == agent.turn("t1").refresh().wait()
        with agent.events(deltas=False) as events:
            kinds = [type(next(events)).__name__ for _ in range(4)]
        assert ["UserMessage", "Message", "TurnOutcome", "Checkpoint"] == kinds
        assert 3 == events.sequence == len(agent.history())
        with agent.turns()[0].stream() as again:
            assert stream.result == again.wait()
        assert "You said: x" == client.run("x", agent="one").text
        assert agent.send("y").cancel().state is not moorline.TurnState.UNKNOWN

    await in_thread(gateway, work)


async def test_permissions_are_answered(gateway: Gateway) -> None:
    """By a callback on the caller's thread, or by the event's own methods."""

    async def script(turn: Turn) -> None:
        for tool in ("Bash", "Edit", "Write"):
            decision = await turn.ask(tool)
            await turn.say(f"{tool} {decision['allowed']}")

    gateway.platform.script = script

    def work(client: moorline.Client) -> None:
        agent = client.agents.create()
        with agent.run("go") as stream:
            for event in stream:
                if isinstance(event, moorline.PermissionRequest):
                    event.deny("no") if event.tool_name == "Bash" else event.allow()
        assert "Bash False\n\nEdit True\n\nWrite True" == stream.result.text

        def decide(request: moorline.PermissionRequest) -> bool | None:
            if request.tool_name == "Write":
                agent.turns()[0].cancel()
                return None
            return request.tool_name == "Bash"

        with agent.run("go", on_permission=decide) as stream:
            result = stream.wait()
        assert "Bash True\n\nEdit False" == result.text
        pending = [e for e in agent.history() if isinstance(e, moorline.PermissionRequest)]
        assert 6 == len(pending)

    await in_thread(gateway, work)


async def test_agents_keys_and_backends(gateway: Gateway) -> None:
    """The remaining calls."""

    def work(client: moorline.Client) -> None:
        agent = client.agents.create(agent_id="one", display_name="One")
        assert (agent,) == client.agents.list()
        assert "Two" == agent.update(display_name="Two").display_name
        assert "Three" == client.agents.update("one", display_name="Three").display_name
        assert "Three" == agent.refresh().display_name == client.agents.get("one").display_name
        changes = client.agents.watch()
        assert agent.name == next(changes).name  # type: ignore[union-attr]
        assert moorline.AgentsListed(names=frozenset({agent.name})) == next(changes)
        changes.close()  # type: ignore[attr-defined]
        agent.delete()
        with pytest.raises(moorline.NotFoundError):
            client.agents.delete("one")
        key = client.keys.create(display_name="ci")
        assert key.id == client.keys.list()[0].id
        assert client.keys.revoke(key.id).revoke_time is not None
        assert 2 == len(client.backends())
        assert ("users/ada", "1.2.3") == (client.user, client.server_version)

    await in_thread(gateway, work)


async def test_a_cancelled_turn_is_not_a_result(gateway: Gateway) -> None:
    """`stream.cancel` stops the turn; `run` raises how it ended."""

    async def script(turn: Turn) -> None:
        await asyncio.Event().wait()

    gateway.platform.script = script

    def work(client: moorline.Client) -> None:
        with client.agents.create().run("hang") as stream:
            stream.cancel()
            assert not stream.wait().finished

    await in_thread(gateway, work)


async def test_a_closed_client_says_so(gateway: Gateway) -> None:
    """Closing twice is fine; calls after it are a mistake of the program."""

    def program() -> None:
        client = moorline.Client(gateway.url, TOKEN, environ={})
        client.close()
        client.close()
        with pytest.raises(RuntimeError, match="closed"):
            client.backends()
        with pytest.raises(moorline.AuthenticationError):
            moorline.Client(gateway.url, "bad", environ={})

    await asyncio.to_thread(program)
