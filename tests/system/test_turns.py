"""What a person sees of a turn, through the three real services."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from tests.system.clusters import words
from tests.system.held import HOLD, allow, asked
from tests.system.stack import Stack
from tests.system.wire import Transcript, Wire, follow, open_wire

KOREAN = "Claude Code CLI가 Kubernetes 환경에서 실행 중입니다.\n\n사용자 메시지: 안녕하세요"
ENGLISH = "The Claude Code CLI is running in the Kubernetes environment.\n\nUser message: hello"


async def answer(wire: Wire, prompt: str) -> Transcript:
    """The transcript of a new agent after one prompt."""
    agent = await wire.agent()
    turn = await wire.prompt(agent, prompt)
    return await follow(wire, agent, Transcript(), turn)


async def test_a_korean_prompt_is_answered_in_korean(wire: Wire) -> None:
    """The simulated agent answers a Korean prompt as the source document says."""
    transcript = await answer(wire, "안녕하세요")

    assert [message["text"] for message in transcript.items("agentMessage")] == [KOREAN]


async def test_an_english_prompt_is_answered_in_english(wire: Wire) -> None:
    """The simulated agent answers another prompt in English."""
    transcript = await answer(wire, "hello")

    assert [message["text"] for message in transcript.items("agentMessage")] == [ENGLISH]


async def test_a_script_yields_every_kind_of_item_in_order(wire: Wire) -> None:
    """Thoughts, messages, tool calls and their results arrive in the script's order."""
    script = "\n".join(
        [
            "/sim think about it",
            "/sim say I will write",
            "/sim write notes/a.txt hello world",
            "/sim read notes/a.txt",
            "/sim write ../escape.txt no",
            "/sim usage 120 30 4500",
        ]
    )
    transcript = await answer(wire, script)

    kinds = [next(iter(event["item"])) for event in transcript.events]
    assert kinds == [
        "userMessage",
        "agentThought",
        "agentMessage",
        *["toolCall", "toolResult"] * 3,
        "fileChanges",
        "turnOutcome",
    ]
    written, read, refused = transcript.items("toolResult")
    assert not written.get("failed")
    assert read["output"] == "hello world"
    assert refused["failed"]
    usage = transcript.items("turnOutcome")[0]["usage"]
    assert usage == {"inputTokens": 120, "outputTokens": 30, "costUsdMicros": 4500}


async def test_retracted_text_is_taken_back(wire: Wire) -> None:
    """A piece the agent withdrew is shown, then removed, and never stored."""
    agent = await wire.agent()
    turn = await wire.prompt(agent, "/sim retract wrong words\n/sim say right")
    transcript = await follow(wire, agent, Transcript(), turn)

    assert [message["text"] for message in transcript.items("agentMessage")] == ["right"]
    assert transcript.open == {}


async def test_each_provider_failure_has_its_own_reason(wire: Wire) -> None:
    """A failed turn says why in a form a program can act on."""
    reasons = {
        "auth": "PROVIDER_AUTHENTICATION",
        "rate_limited": "PROVIDER_RATE_LIMITED",
        "overloaded": "PROVIDER_OVERLOADED",
        "provider": "PROVIDER_FAILED",
        "provider_unreachable": "PROVIDER_UNREACHABLE",
        "bad_request": "PROVIDER_REJECTED",
        "max_turns": "MAX_STEPS",
        "budget_exhausted": "BUDGET_EXHAUSTED",
        "session_lost": "CONVERSATION_LOST",
    }
    agent = await wire.agent()
    turns = [await wire.prompt(agent, f"/sim fail {name}") for name in reasons]
    transcript = await follow(wire, agent, Transcript(), *turns)

    outcomes = transcript.items("turnOutcome")
    assert ["STATE_FAILED"] * len(reasons) == [outcome["state"] for outcome in outcomes]
    assert [f"ERROR_REASON_{reason}" for reason in reasons.values()] == [
        outcome["error"]["reason"] for outcome in outcomes
    ]


async def test_a_crash_fails_the_turn_keeps_its_text_and_the_next_prompt_works(wire: Wire) -> None:
    """Nothing shown is thrown away when the agent's process dies."""
    agent = await wire.agent()
    crashed = await wire.prompt(agent, "/sim stream 30 10\n/sim crash")
    following = await wire.prompt(agent, "/sim say still here")
    transcript = await follow(wire, agent, Transcript(), crashed, following)

    first, second = transcript.items("turnOutcome")
    assert first["error"]["reason"] == "ERROR_REASON_AGENT_CRASHED"
    assert second["state"] == "STATE_FINISHED"
    assert transcript.items("agentMessage")[-1]["text"] == "still here"


async def test_a_permission_is_answered_from_another_connection_and_the_first_wins(
    stack: Stack, wire: Wire
) -> None:
    """A permission request outlives its connection, and has one answer."""
    agent = await wire.agent()
    turn = await wire.prompt(agent, "/sim ask Bash rm -rf build\n/sim say done")
    seen = Transcript()
    async for update in wire.watch(agent):
        seen.apply(update)
        if seen.items("permissionRequest"):
            break
    request = seen.items("permissionRequest")[0]
    answer = {"permissionId": request["permissionId"], "allowed": True}

    async with open_wire(stack.url, stack.token) as other:
        listed = await other.call("getAgent", {"name": agent})
        await other.call("resolvePermission", {"name": turn, "decision": answer})
        again = await other.send("resolvePermission", {"name": turn, "decision": answer})
        refused = await other.send(
            "resolvePermission", {"name": turn, "decision": {**answer, "allowed": False}}
        )
        assert "resolvePermissionResponse" in await other.reply(again)
        error = (await other.reply(refused))["error"]
        transcript = await follow(other, agent, Transcript(), turn)

    assert listed["agent"]["state"] == "STATE_NEEDS_YOU"
    assert error["reason"] == "ERROR_REASON_PERMISSION_RESOLVED"
    assert transcript.items("toolResult")[0]["output"] == "ok"
    assert [item["allowed"] for item in transcript.items("permissionDecision")] == [True]


async def test_a_busy_agent_queues_turns_in_order_up_to_twenty(wire: Wire) -> None:
    """A working agent takes twenty more turns, refuses the next, and runs them in order."""
    agent = await wire.agent()
    running = await wire.prompt(agent, f"{HOLD}\n/sim say 0")
    permission = await asked(wire, agent)
    queued = [await wire.prompt(agent, f"/sim say {n}") for n in range(1, 21)]
    number = await wire.send(
        "createTurn",
        {"parent": agent, "turnId": "one-too-many", "turn": {"prompt": {"text": "x"}}},
    )
    refused = (await wire.reply(number))["error"]
    listed = await wire.call("listTurns", {"parent": agent, "unfinishedOnly": True})
    await allow(wire, running, permission)
    transcript = await follow(wire, agent, Transcript(), running, *queued)

    assert refused["reason"] == "ERROR_REASON_QUEUE_FULL"
    assert [running, *queued] == [turn["name"] for turn in listed["turns"]]
    assert [str(n) for n in range(21)] == [
        message["text"] for message in transcript.items("agentMessage")
    ]


async def test_the_list_of_agents_is_live(stack: Stack, wire: Wire) -> None:
    """Adding, working and deleting shows in another connection's list."""
    async with open_wire(stack.url, stack.token) as other:
        number = await other.send("watchAgents", {"parent": other.user})
        agent = await wire.agent(displayName="live")
        async with contextlib.aclosing(states(other, number, agent)) as shown:
            assert "STATE_IDLE" == await anext(shown)
            turn = await wire.prompt(agent, "/sim hang")
            assert "STATE_WORKING" == await anext(shown)
            await wire.call("cancelTurn", {"name": turn})
            assert "STATE_IDLE" == await anext(shown)
            await wire.call("deleteAgent", {"name": agent})
            assert "removed" == await anext(shown)


async def states(wire: Wire, number: int, agent: str) -> AsyncGenerator[str, None]:
    """Each new state of an agent that a list shows, and `removed` at last."""
    last = ""
    while last != "removed":
        frame = await wire.reply(number)
        for update in frame["watchAgentsResponse"].get("updates", []):
            if update.get("removed") == agent:
                state = "removed"
            elif update.get("agent", {}).get("name") == agent:
                state = update["agent"]["state"]
            else:
                continue
            if state != last:
                last = state
                yield state


async def test_every_backend_is_listed_with_its_reason(wire: Wire) -> None:
    """Backends that are switched off are listed, and say so."""
    reply = await wire.call("listBackends", {})

    backends = {backend["name"]: backend for backend in reply["backends"]}
    assert set(backends) == {
        "backends/simulation",
        "backends/process",
        "backends/docker",
        "backends/cloud_run",
    }
    assert backends["backends/simulation"]["available"]
    assert backends["backends/process"]["detail"]
    assert "DISABLE_DOCKER" in backends["backends/docker"]["detail"]
    assert backends["backends/cloud_run"]["detail"]


async def test_a_waiting_turn_that_is_cancelled_takes_no_text_from_the_running_one(
    wire: Wire,
) -> None:
    """The running turn's text goes on whole, for whoever watches meanwhile."""
    agent = await wire.agent()
    running = await wire.prompt(agent, "/sim stream 1000 20")
    waiting = await wire.prompt(agent, "/sim say never")
    transcript, before, after = Transcript(), list[str](), list[str]()
    async with contextlib.aclosing(wire.watch(agent)) as updates:
        async for update in updates:
            transcript.apply(update)
            if "delta" in update:
                shown = after if transcript.outcome(waiting) else before
                shown.extend(transcript.open.values())
                if shown is before and len(before) == 1:
                    await wire.call("cancelTurn", {"name": waiting})
                if shown is after and len(after) == 2:
                    await wire.call("cancelTurn", {"name": running})
            if transcript.outcome(running):
                break

    assert all(words(1000).startswith(text) for text in [*before, *after])
    assert len(before[-1]) <= len(after[0]) < len(after[1])
