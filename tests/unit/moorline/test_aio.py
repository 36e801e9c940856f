"""Tests of the asynchronous client's calls."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

import moorline
from tests.unit.moorline.scripted import Gateway
from tests.unit.moorline.scripted_platform import TOKEN, RefusedError, Turn


async def test_a_turn_streams_its_events_and_has_a_result(client: moorline.AsyncClient) -> None:
    """A turn's events arrive in order, typed, up to its outcome; the result sums up."""
    agent = await client.agents.create(display_name="echo")
    kinds: list[str] = []
    deltas = ""
    async with agent.run("hello there") as stream:
        async for event in stream:
            if isinstance(event, moorline.TextDelta):
                deltas += event.text
            else:
                kinds.append(type(event).__name__)
    assert ["UserMessage", "Message", "TurnOutcome"] == kinds
    assert stream.result.text == "You said: hello there" == deltas
    assert stream.result.usage.cost_usd == 0.0015
    assert stream.result.duration == timedelta(seconds=1.5)
    assert stream.result_or_raise().outcome.state is moorline.OutcomeState.FINISHED


async def test_the_result_is_not_there_before_the_end(client: moorline.AsyncClient) -> None:
    """Asking for the result of a running turn is a mistake of the program."""
    agent = await client.agents.create()
    async with agent.run("hello") as stream:
        with pytest.raises(RuntimeError, match="not over"):
            _ = stream.result
    with pytest.raises(RuntimeError, match="context manager"):
        await anext(agent.run("again"))


async def test_leaving_a_stream_does_not_cancel_the_turn(
    gateway: Gateway, client: moorline.AsyncClient
) -> None:
    """A turn whose stream was left ends finished."""
    agent = await client.agents.create()
    async with agent.run("hello", turn_id="t1") as stream:
        await anext(stream)
    result = await agent.turn("t1").wait()
    assert result.finished
    assert "cancelTurn" not in [name for name, _ in gateway.platform.calls]


async def test_the_same_turn_id_joins_the_turn_it_made(
    gateway: Gateway, client: moorline.AsyncClient
) -> None:
    """Running twice with one id is one turn; with another prompt it is a conflict."""
    agent = await client.agents.create()
    for _ in range(2):
        async with agent.run("hello", turn_id="t1") as stream:
            assert "You said: hello" == (await stream.wait()).text
    assert ["t1"] == [turn.id for turn in await agent.turns()]
    with pytest.raises(moorline.ConflictError) as refused:
        await agent.send("other", turn_id="t1")
    assert "RESOURCE_EXISTS" == refused.value.reason


@pytest.mark.parametrize("silent", [True, False])
async def test_a_queued_turn_shows_only_its_own_text(
    gateway: Gateway, client: moorline.AsyncClient, silent: bool
) -> None:
    """Text of the turns ahead is not taken for its own, whenever its prompt is recorded."""
    go = asyncio.Event()
    gateway.platform.silent_queue = silent

    async def script(turn: Turn) -> None:
        await go.wait()
        await turn.say(f"answer to {turn.prompt}")

    gateway.platform.script = script
    agent = await client.agents.create()
    await agent.send("first")
    async with agent.run("second") as stream:
        assert 1 == stream.ahead
        go.set()
        events = [event async for event in stream]
    assert isinstance(events[0], moorline.UserMessage)
    texts = [event.text for event in events if isinstance(event, moorline.TextDelta)]
    assert "answer to second" == "".join(texts)


async def test_a_callback_may_leave_a_request_open_or_come_too_late(
    gateway: Gateway, client: moorline.AsyncClient
) -> None:
    """None sends nothing; an answer after somebody else's changes nothing."""

    async def script(turn: Turn) -> None:
        decision = await turn.ask("Bash")
        await turn.say(str(decision["allowed"]))

    gateway.platform.script = script
    agent = await client.agents.create()

    def elsewhere(request: moorline.PermissionRequest) -> bool:
        waiting = gateway.platform.running[request.turn_id].answers[request.permission_id]
        waiting.set_result({"permissionId": request.permission_id, "allowed": True})
        return False

    async with agent.run("go", on_permission=elsewhere) as stream:
        assert "True" == (await stream.wait()).text
    async with agent.run("go", on_permission=lambda _: None) as stream:
        async for event in stream:
            if isinstance(event, moorline.PermissionRequest):
                await event.allow()
    assert "True" == stream.result.text


async def test_cancelling_ends_the_turn_as_cancelled(
    gateway: Gateway, client: moorline.AsyncClient
) -> None:
    """`cancel` asks; the outcome tells; `result_or_raise` raises."""

    async def script(turn: Turn) -> None:
        await asyncio.Event().wait()

    gateway.platform.script = script
    agent = await client.agents.create()
    async with agent.run("hang") as stream:
        await stream.cancel()
        result = await stream.wait()
    assert moorline.OutcomeState.CANCELLED is result.outcome.state
    with pytest.raises(moorline.TurnFailedError) as failed:
        stream.result_or_raise()
    assert failed.value.outcome is result.outcome


async def test_a_failed_turn_says_why(gateway: Gateway, client: moorline.AsyncClient) -> None:
    """`client.run` raises the outcome's reason."""

    async def script(turn: Turn) -> dict[str, object]:
        return {
            "state": "STATE_FAILED",
            "error": {"code": 13, "reason": "ERROR_REASON_AGENT_CRASHED", "message": "It died."},
        }

    gateway.platform.script = script
    with pytest.raises(moorline.TurnFailedError, match="It died") as failed:
        await client.run("go")
    assert "AGENT_CRASHED" == failed.value.reason


async def test_a_new_attempt_replaces_the_text(
    gateway: Gateway, client: moorline.AsyncClient
) -> None:
    """What an attempt that was given up said is not part of the answer."""
    seen = asyncio.Event()

    async def script(turn: Turn) -> None:
        await turn.say("first try")
        turn.agent.write("open", "half a sen")
        await seen.wait()
        turn.record(turnAttempt={"attempt": 2, "error": {"code": 14, "message": "Gone."}})
        await turn.say("second try")

    gateway.platform.script = script
    agent = await client.agents.create()
    discarded = []
    async with agent.run("go") as stream:
        async for event in stream:
            if isinstance(event, moorline.TextDelta) and event.block_id == "open":
                seen.set()
            if isinstance(event, moorline.MessageDiscarded):
                discarded.append(event.block_id)
    assert "second try" == stream.result.text
    assert ["open"] == discarded


async def test_pieces_of_one_long_answer_are_joined_without_a_gap(
    gateway: Gateway, client: moorline.AsyncClient
) -> None:
    """A piece of 64 KiB goes on in the next one; shorter ones are paragraphs."""
    full = "x" * 65536

    async def script(turn: Turn) -> None:
        for text in (full, "rest", "other"):
            turn.record(agentMessage={"blockId": text[:5], "text": text})

    gateway.platform.script = script
    assert f"{full}rest\n\nother" == (await client.run("go")).text


async def test_agents_are_listed_read_changed_and_deleted(client: moorline.AsyncClient) -> None:
    """The calls of `client.agents`, and the same on an agent."""
    first = await client.agents.create(agent_id="one", permission_mode="accept-edits")
    await client.agents.create(agent_id="two", backend="simulation")
    assert ("one", "two") == tuple(agent.id for agent in await client.agents.list())
    assert ("one",) == tuple(agent.id for agent in await client.agents.list(limit=1))
    assert moorline.PermissionMode.ACCEPT_EDITS is first.permission_mode
    assert moorline.AgentState.IDLE is first.state
    changed = await first.update(display_name="New", permission_mode="ask")
    assert ("New", "ask") == (changed.display_name, changed.permission_mode)
    assert changed == await client.agents.update("one", display_name="New")
    assert changed == await client.agents.get(first.name) == await first.refresh()
    await client.agents.delete("one")
    with pytest.raises(moorline.NotFoundError):
        await client.agents.get("one")


async def test_the_list_of_agents_is_followed(
    gateway: Gateway, client: moorline.AsyncClient
) -> None:
    """`watch` yields each agent, then what changes; it goes on after a break."""
    await client.agents.create(agent_id="one")
    async with client.agents.watch() as changes:
        assert "one" == (await anext(changes)).name[-3:]  # type: ignore[union-attr]
        assert moorline.AgentsListed(names=frozenset({"users/ada/agents/one"})) == (
            await anext(changes)
        )
        await client.agents.create(agent_id="two")
        assert "two" == (await anext(changes)).name[-3:]  # type: ignore[union-attr]
        await client.agents.delete("two")
        assert moorline.AgentRemoved(name="users/ada/agents/two") == await anext(changes)
        gateway.cut()
        again = [await anext(changes), await anext(changes)]
        assert moorline.AgentsListed(names=frozenset({"users/ada/agents/one"})) == again[1]


async def test_history_is_read_page_by_page(client: moorline.AsyncClient) -> None:
    """`history` reads all, a part, and from a position."""
    agent = await client.agents.create()
    for number in range(30):
        async with agent.run(f"prompt {number}") as stream:
            await stream.wait()
    events = await agent.history()
    assert list(range(1, 91)) == [event.sequence for event in events]
    assert events[60:] == await agent.history(after=60)
    assert events[:70] == await agent.history(limit=70)


async def test_backends_and_keys(client: moorline.AsyncClient) -> None:
    """The remaining calls give typed values; a key's secret is not in its repr."""
    backends = await client.backends()
    assert [("simulation", True), ("docker", False)] == [(b.id, b.available) for b in backends]
    key = await client.keys.create(user="bob", display_name="ci", ttl=timedelta(days=1))
    assert "moorline_k1_secret" == key.secret
    assert "secret" not in repr(key)
    (listed,) = await client.keys.list()
    assert (key.name, None) == (listed.name, listed.revoke_time)
    revoked = await client.keys.revoke(key.id, user="bob")
    assert revoked.revoke_time is not None
    assert "users/ada" == client.user
    assert "1.2.3" == client.server_version


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("FIELD_INVALID", moorline.InvalidRequestError),
        ("RESOURCE_NOT_FOUND", moorline.NotFoundError),
        ("FORBIDDEN", moorline.PermissionDeniedError),
        ("QUEUE_FULL", moorline.RateLimitedError),
        ("ETAG_MISMATCH", moorline.ConflictError),
        ("SEQUENCE_UNKNOWN", moorline.SequenceUnknownError),
        ("METHOD_UNKNOWN", moorline.ProtocolError),
        ("INTERNAL", moorline.ServerError),
        ("TOKEN_INVALID", moorline.AuthenticationError),
        ("CALL_TIMEOUT", moorline.CallTimeoutError),
    ],
)
async def test_errors_are_typed(
    gateway: Gateway,
    client: moorline.AsyncClient,
    reason: str,
    kind: type[moorline.MoorlineError],
) -> None:
    """Each kind of refusal is an exception of its own, with the server's facts."""
    gateway.platform.refuse_next = [RefusedError(reason, "Because.", metadata={"limit": "20"})]
    with pytest.raises(kind) as refused:
        await client.backends()
    assert reason == refused.value.reason
    assert "20" == refused.value.metadata["limit"]
    assert not refused.value.retryable
    assert f"Because. [{reason}]" == str(refused.value)


async def test_what_may_succeed_later_is_tried_again(
    gateway: Gateway, client: moorline.AsyncClient
) -> None:
    """UNAVAILABLE and FENCED are repeated after the delay asked for."""
    gateway.platform.refuse_next = [
        RefusedError("SERVICE_UNAVAILABLE", retryDelay="0.010s"),
        RefusedError("FENCED"),
    ]
    assert 2 == len(await client.backends())


async def test_a_rate_limit_is_told_with_its_delay(
    gateway: Gateway, client: moorline.AsyncClient
) -> None:
    """A limit is the caller's to wait for."""
    gateway.platform.refuse_next = [RefusedError("RATE_LIMITED", retryDelay="2s")]
    with pytest.raises(moorline.RateLimitedError) as refused:
        await client.backends()
    assert timedelta(seconds=2) == refused.value.retry_after
    assert refused.value.retryable


async def test_unknown_kinds_do_no_harm(gateway: Gateway, client: moorline.AsyncClient) -> None:
    """Facts, states and updates of a newer server are passed on or skipped."""

    async def script(turn: Turn) -> dict[str, object]:
        turn.record(hologram={"colour": "blue"})
        turn.agent.events[-1]["newField"] = 1
        turn.agent.tell({"newUpdate": {}})
        turn.agent.record(turn.id)
        return {"state": "STATE_TRANSCENDED"}

    gateway.platform.script = script
    agent = await client.agents.create()
    async with agent.run("go") as stream:
        kinds = [e.kind async for e in stream if isinstance(e, moorline.UnknownEvent)]
    assert ["hologram", ""] == kinds
    assert moorline.OutcomeState.UNKNOWN is stream.result.outcome.state


async def test_a_shortcut_runs_a_turn_on_a_named_agent(
    gateway: Gateway, client: moorline.AsyncClient
) -> None:
    """`client.run` takes an agent, its id, or makes one."""
    agent = await client.agents.create(agent_id="one")
    assert "You said: a" == (await client.run("a", agent="one")).text
    assert "You said: b" == (await client.run("b", agent=agent)).text
    assert ["one"] == [agent.id for agent in await client.agents.list()]
    assert "You said: c" == (await client.run("c")).text
    assert 2 == len(gateway.platform.agents)


async def test_a_refusal_that_does_not_pass_ends_the_call(gateway: Gateway) -> None:
    """After the patience with calls; why is told."""
    # Long enough for the refusal to come.
    patience = moorline.Patience(call=timedelta(seconds=2))
    async with moorline.AsyncClient(gateway.url, TOKEN, patience=patience, environ={}) as client:
        gateway.platform.refuse_next = [RefusedError("SERVICE_UNAVAILABLE", retryDelay="60s")]
        with pytest.raises(moorline.UnavailableError):
            await client.backends()


async def test_a_reply_that_does_not_come_ends_the_call(gateway: Gateway) -> None:
    """After the patience with calls."""
    patience = moorline.Patience(call=timedelta(milliseconds=50))
    async with moorline.AsyncClient(gateway.url, TOKEN, patience=patience, environ={}) as client:
        gateway.mute = ["listBackends"]
        with pytest.raises(moorline.CallTimeoutError, match="listBackends"):
            await client.backends()
