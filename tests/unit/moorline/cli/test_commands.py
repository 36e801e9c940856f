"""Tests of the subcommands."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from moorline.contexts import set_context
from tests.unit.moorline.cli.conftest import Moorline, Spawn
from tests.unit.moorline.scripted import Gateway
from tests.unit.moorline.scripted_platform import Turn, until


async def test_agents_are_made_listed_and_deleted(gateway: Gateway, moorline: Moorline) -> None:
    """`new`, `ls` and `rm`, as text and as JSON."""
    made = await moorline("new", "--name", "한글 이름", "--permission-mode", "accept-edits")
    first = made.out.strip()
    second = (await moorline("new", "-o", "json")).lines[0]["agent"]
    listed = await moorline("ls")
    head, *rows = listed.out.splitlines()
    assert ["agent", "name", "state", "backend", "mode", "cost", "last", "active"] == head.split()
    assert "한글 이름" in rows[0]
    assert "accept-edits" in rows[0]
    rows_json = (await moorline("ls", "--output=json")).lines[0]
    assert [first, second] == [row["agent"] for row in rows_json]
    assert [first, second] == [row["agent"] for row in (await moorline("-o", "jsonl", "ls")).lines]
    assert 0 == (await moorline("rm", first, second)).code
    assert {} == gateway.platform.agents
    gone = await moorline("rm", first)
    assert (2, True) == (gone.code, "moorline ls" in gone.err)
    none = await moorline("stop")
    assert (2, True) == (none.code, "moorline new" in none.err)


async def test_stop_cancels_what_runs_and_waits(gateway: Gateway, moorline: Moorline) -> None:
    """Every unfinished turn is cancelled, the waiting ones first."""

    async def script(turn: Turn) -> None:
        await asyncio.Event().wait()

    gateway.platform.script = script
    ids = [(await moorline("-p", text, "--detach")).out.strip() for text in "abc"]
    done = await moorline("stop")
    assert 0 == done.code
    assert "3 turn(s)" in done.err
    cancelled = [
        request["name"].rpartition("/")[2]
        for name, request in gateway.platform.calls
        if name == "cancelTurn"
    ]
    assert ids[::-1] == cancelled


async def test_the_log_is_printed(gateway: Gateway, moorline: Moorline) -> None:
    """Each event is a line, whatever its kind; JSON is the stored event."""

    async def script(turn: Turn) -> dict[str, object]:
        turn.record(agentThought={"blockId": "t", "text": "hm"})
        turn.record(toolCall={"toolCallId": "c", "toolName": "Bash"})
        turn.record(toolResult={"toolCallId": "c", "output": "no", "failed": True})
        turn.record(turnAttempt={"attempt": 2})
        turn.record(hologram={})
        turn.record(permissionRequest={"permissionId": "p", "toolName": "Edit"})
        turn.record(permissionDecision={"permissionId": "p", "decider": "DECIDER_TIMEOUT"})
        turn.record(agentMessage={"blockId": "m", "text": "hello"})
        return {"state": "STATE_FAILED", "error": {"code": 13, "message": "Bad."}}

    gateway.platform.script = script
    agent = (await moorline("-p", "hi", "-o", "json")).lines[0]["turn"].split("/")[3]
    lines = [line[16:].strip() for line in (await moorline("logs", agent)).out.splitlines()]
    assert [
        "> hi",
        "✻ hm",
        "● Bash {}",
        "⎿ failed: no",
        "attempt 2",
        "hologram (new kind)",
        "? Edit {}",
        "refused (nobody in time)",
        "hello",
        "■ failed: Bad. [UNSPECIFIED]",
    ] == lines
    events = gateway.platform.agents[f"users/ada/agents/{agent}"].events
    assert [events[8:]] == (await moorline("logs", "--after", "8", "-o", "json")).lines
    assert [{"event": event} for event in events] == (await moorline("logs", "-o", "jsonl")).lines
    beyond = await moorline("logs", "--after", "99", "-f")
    assert (2, True) == (beyond.code, "--after" in beyond.err)


async def test_the_log_is_followed(gateway: Gateway, moorline: Moorline, spawn: Spawn) -> None:
    """`logs -f` goes on with what is added, until Ctrl-C."""
    await moorline("-p", "hi")
    (agent,) = gateway.platform.agents.values()
    running = await spawn("logs", "-f", "-o", "jsonl", "--deltas")
    assert running.process.stdout is not None
    await until(lambda: agent.watchers)
    agent.write("b", "new")
    async with asyncio.timeout(10):
        while b'"new"' not in await running.process.stdout.readline():
            pass
    running.process.send_signal(2)
    assert 130 == (await running.finish()).code


async def test_open_requests_are_answered(gateway: Gateway, moorline: Moorline) -> None:
    """`approve` and `deny` answer the only one, or the one named."""
    decisions: list[object] = []

    async def script(turn: Turn) -> None:
        decision = await turn.ask("Bash")
        decisions.append((turn.prompt, decision["allowed"], decision.get("reason", "")))

    gateway.platform.script = script
    assert "No permission" in (await moorline("approve")).err
    for prompt in "abc":
        await moorline("-p", prompt, "--new", "--detach")
    agents = list(gateway.platform.agents.values())
    await until(lambda: all(a.fields["state"] == "STATE_NEEDS_YOU" for a in agents))
    many = await moorline("approve")
    assert 2 == many.code
    places = [line.split()[0] for line in many.out.splitlines()]
    assert 3 == len(places)
    assert 3 == len((await moorline("approve", "-o", "json")).lines)
    assert 0 == (await moorline("approve", places[0])).code
    assert 0 == (await moorline("deny", places[1].split("/")[0], "--reason", "no")).code
    assert 2 == (await moorline("approve", "nonsense")).code
    assert 0 == (await moorline("approve")).code
    await until(lambda: len(decisions) == 3)
    assert [("a", True, ""), ("b", False, "no"), ("c", True, "")] == decisions


async def test_keys_are_made_listed_and_revoked(gateway: Gateway, moorline: Moorline) -> None:
    """The secret goes to standard output alone, once."""
    made = await moorline("key", "create", "--user", "bob", "--name", "ci", "--ttl", "30d")
    assert (0, "moorline_k1_secret\n") == (made.code, made.out)
    assert (
        "createKey",
        {"parent": "users/bob", "displayName": "ci", "ttl": "2592000.000000s"},
    ) == (gateway.platform.calls[-1])
    assert "secret" in (await moorline("key", "create", "-o", "json")).lines[0]
    revoked = await moorline("key", "revoke", "k10000000", "--user", "bob")
    assert (0, "") == (revoked.code, revoked.out)
    listed = await moorline("key", "ls")
    assert "revoked" in listed.out
    assert "secret" not in listed.out
    assert 2 == (await moorline("key", "create", "--ttl", "soon")).code


async def test_status_tells_where_and_what(moorline: Moorline) -> None:
    """Text for people, one object for programs."""
    done = await moorline("status")
    assert "users/ada" in done.err
    assert "DISABLE_DOCKER is set." in done.out
    (facts,) = (await moorline("status", "-o", "json")).lines
    assert ("1.2.3", "users/ada") == (facts["version"], facts["user"])
    assert [True, False] == [backend["available"] for backend in facts["backends"]]


async def test_contexts_are_listed_and_chosen(
    moorline: Moorline, environ: dict[str, str], gateway: Gateway, tmp_path: Path
) -> None:
    """`context ls` and `context use`; a context replaces the environment."""
    token = tmp_path / "token"
    token.write_text("good")
    token.chmod(0o600)
    other = tmp_path / "other"
    other.write_text("bad")
    other.chmod(0o600)
    set_context("work", url=gateway.url, token_file=other, environ=environ)
    set_context("home", url=gateway.url, token_file=token, environ=environ)
    assert "work *" in (await moorline("context", "ls")).out
    assert 0 == (await moorline("context", "use", "home")).code
    rows = (await moorline("context", "ls", "-o", "json")).lines[0]
    assert [("home", True), ("work", False)] == [(row["context"], row["current"]) for row in rows]
    assert 2 == (await moorline("context", "use", "nowhere")).code
    environ.pop("MOORLINE_URL")
    environ.pop("MOORLINE_TOKEN")
    assert 0 == (await moorline("status")).code
    assert 4 == (await moorline("status", "--context", "work")).code


@pytest.mark.parametrize(
    ("arguments", "more"),
    [
        (["--lang", "ko"], {}),
        ([], {"MOORLINE_LANG": "ko"}),
        ([], {"MOORLINE_LANG": "", "LC_ALL": "ko_KR.UTF-8"}),
        ([], {"MOORLINE_LANG": "", "LANG": "ko_KR.UTF-8"}),
    ],
)
async def test_the_command_speaks_korean(
    moorline: Moorline, arguments: list[str], more: dict[str, str]
) -> None:
    """By flag, and by environment."""
    done = await moorline("rm", "nobody", *arguments, **more)
    assert (2, "찾을 수 없습니다. 확인: moorline ls\n") == (done.code, done.err)
