"""Tests of what the command offers for agents that run a real model."""

from __future__ import annotations

import asyncio
import io
import re

import pytest

from moorline.cli import waiting
from moorline.cli.invocation import Surroundings
from moorline.cli.main import run
from tests.unit.moorline.cli.conftest import Moorline
from tests.unit.moorline.scripted import Gateway
from tests.unit.moorline.scripted_platform import Json, Turn, until

SUGGESTION = {"suggestionId": "s1", "rules": ["Bash(npm test:*)"]}
QUESTION = {"question": "Which colour?", "options": [{"label": "red"}, {"label": "blue"}]}


async def test_settings_are_given_and_changed(gateway: Gateway, moorline: Moorline) -> None:
    """Amounts are in dollars, rules may be several; what is not given stays."""
    made = await moorline(
        *("new", "--model", "opus", "--turn-budget", "0.10", "--rule", "Edit", "--rule", "Read"),
        *("--permission-mode", "plan", "--max-steps", "7"),
    )
    agent = made.out.strip()
    assert 0 == (await moorline("set", agent, "--budget", "5", "--model", "haiku")).code
    fields = gateway.platform.agents[f"users/ada/agents/{agent}"].fields
    assert ("haiku", 100_000, 5_000_000, 7, ["Edit", "Read"], "PERMISSION_MODE_PLAN") == (
        fields["model"],
        fields["turnBudgetUsdMicros"],
        fields["budgetUsdMicros"],
        fields["maxSteps"],
        fields["allowedRules"],
        fields["permissionMode"],
    )
    row = (await moorline("set", agent, "--budget", "6.5", "-o", "json")).lines[0]
    assert 6.5 == row["budget"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [([], "--help"), (["--budget", "a lot"], "a lot"), (["--budget", "-1"], "")],
)
async def test_wrong_settings_are_told(
    gateway: Gateway, moorline: Moorline, arguments: list[str], word: str
) -> None:
    """Nothing is changed by them."""
    agent = (await moorline("new")).out.strip()
    done = await moorline("set", agent, *arguments)
    assert 2 == done.code
    assert word in done.err
    assert "updateAgent" not in [name for name, _ in gateway.platform.calls]


async def test_a_request_is_allowed_for_the_time_to_come(
    gateway: Gateway, moorline: Moorline
) -> None:
    """`--always` takes the suggestion, `--answer` answers questions in their order."""
    decisions: list[object] = []

    async def script(turn: Turn) -> None:
        more = {"suggestions": [SUGGESTION]} if turn.prompt == "a" else {"questions": [QUESTION]}
        decisions.append(await turn.ask("Tool", **more))

    gateway.platform.script = script
    for prompt in "ab":
        await moorline("-p", prompt, "--new", "--detach")
    first, second = gateway.platform.agents.values()
    await until(lambda: all(a.fields["state"] == "STATE_NEEDS_YOU" for a in (first, second)))
    first_id, second_id = (a.fields["name"].rpartition("/")[2] for a in (first, second))
    assert 2 == (await moorline("approve", second_id)).code
    assert 2 == (await moorline("approve", second_id, "--always", "--answer", "2")).code
    assert 0 == (await moorline("approve", first_id, "--always")).code
    assert 0 == (await moorline("approve", second_id, "--answer", "2")).code
    await until(lambda: len(decisions) == 2)
    assert [("s1", None), (None, [{"question": "Which colour?", "answers": ["blue"]}])] == [
        (decision.get("suggestionId"), decision.get("answers"))  # type: ignore[attr-defined]
        for decision in decisions
    ]


async def test_a_turn_that_waits_for_room_tells_its_place(
    gateway: Gateway, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each new one, until it runs; other agents' places are nobody's news."""
    monkeypatch.setattr(waiting, "PATIENCE_SECONDS", 0)
    platform, err = gateway.platform, io.StringIO()

    async def script(turn: Turn) -> None:
        (fields,) = (agent.fields for agent in platform.agents.values())
        running = {**fields, "runningTurn": turn.id}
        other = {**running, "name": "users/ada/agents/other", "queuePosition": 7}
        await until(lambda: platform.changes)
        for agent in (other, {**running, "queuePosition": 2}, {**running, "queuePosition": 1}):
            platform.changes[0].put_nowait({"agent": agent})
        await until(lambda: "place 1 in the queue" in err.getvalue())
        platform.changes[0].put_nowait({"agent": running})
        await turn.say("Here.")

    platform.script = script
    surroundings = Surroundings(
        stdin=io.StringIO(), stdout=io.StringIO(), stderr=err, environ=environ
    )
    assert 0 == await asyncio.to_thread(run, ["-p", "x", "--new"], surroundings)
    assert ["2", "1"] == re.findall(r"Waiting for room: place (\d)", err.getvalue())


async def test_a_turn_tells_all_tokens_it_read(gateway: Gateway, moorline: Moorline) -> None:
    """Cached ones too, as the month's sum and the page do."""

    async def script(turn: Turn) -> Json:
        used = {"inputTokens": 420, "cacheReadTokens": 500, "cacheWriteTokens": 10}
        return {"state": "STATE_FINISHED", "usage": {**used, "outputTokens": 5}}

    gateway.platform.script = script

    assert "930 tokens in, 5 out" in (await moorline("-p", "go")).err


async def test_usage_is_told_by_month(gateway: Gateway, moorline: Moorline) -> None:
    """As a table for a person, in whole numbers for a program."""
    gateway.platform.usage = {
        "name": "users/ada/usage/2026-11",
        "total": {"inputTokens": "10", "cacheReadTokens": "5", "costUsdMicros": "1234500"},
        "budgetUsdMicros": "2000000",
    }
    shown = await moorline("usage")
    assert ["2026-11", "0", "15", "0", "$1.2345", "$2.0000"] == shown.out.splitlines()[1].split()
    assert 1.2345 == (await moorline("usage", "2026-11", "-o", "json")).lines[0][0]["cost"]
    assert [{"name": "users/ada/usage/current"}, {"name": "users/ada/usage/2026-11"}] == [
        request for name, request in gateway.platform.calls if name == "getUsage"
    ]


async def test_the_doctor_tells_what_to_mend(gateway: Gateway, moorline: Moorline) -> None:
    """What failed makes the exit code 1; in Korean the remedy comes in both languages."""
    good = {"subject": "SUBJECT_STORE", "state": "STATE_GOOD", "detail": "Answers in 1 ms."}
    bad = {
        "subject": "SUBJECT_IMAGE",
        "state": "STATE_FAILED",
        "detail": "There is no image.",
        "remedy": "Run make agent-image.",
        "address": "127.0.0.1:7003",
    }
    new = {"subject": "SUBJECT_MOON", "state": "STATE_WARNING", "detail": "Full."}
    gateway.platform.checks = [good, new]
    well = await moorline("doctor")
    lines = well.out.splitlines()
    assert (0, f"✓ gateway: {gateway.url} answers as users/ada.") == (well.code, lines[0])
    assert ["✓ store: good. Answers in 1 ms.", "! unknown: note. Full."] == lines[1:]
    gateway.platform.checks = [bad]
    english, korean = await moorline("doctor"), await moorline("doctor", "--lang", "ko")
    assert (1, 1) == (english.code, korean.code)
    assert "→ Run make agent-image." in english.out
    assert "이미지를 만드십시오: make agent-image Run make agent-image." in korean.out
    rows = (await moorline("doctor", "-o", "json")).lines[0]
    assert [("image", "failed")] == [(row["subject"], row["state"]) for row in rows]


async def test_the_doctor_tells_that_nobody_answers(moorline: Moorline) -> None:
    """A server that is not there is a finding, with its remedy."""
    done = await moorline("doctor", MOORLINE_URL="http://127.0.0.1:9")
    assert (7, True) == (done.code, "make run" in done.out)


async def test_what_real_agents_do_is_shown(gateway: Gateway, moorline: Moorline) -> None:
    """Retries, other models, sub-agents, changed files and background work, each in a line."""

    async def script(turn: Turn) -> None:
        turn.record(backgroundWork={"description": "npm test"})
        turn.record(
            providerRetry={
                "attempt": 1,
                "attempts": 6,
                "delay": "2s",
                "error": {"code": 14, "reason": "ERROR_REASON_PROVIDER_OVERLOADED"},
            }
        )
        turn.record(modelFallback={"fromModel": "opus", "toModel": "haiku"})
        turn.record(compaction={"automatic": True, "tokensBefore": 9000})
        turn.record(agentMessage={"blockId": "s", "text": "sub", "parentToolCallId": "c"})
        turn.record(agentMessage={"blockId": "m", "text": "main"})
        changes = [
            {"path": "a.py", "kind": "KIND_ADDED", "addedLines": 3},
            {"path": "b.py", "kind": "KIND_CHANGED", "addedLines": 1, "removedLines": 2},
        ]
        turn.record(fileChanges={"changes": changes, "omittedFiles": 4})

    gateway.platform.script = script
    done = await moorline("-p", "go")
    assert "main\n" == done.out
    for words in ("npm test", "overloaded", "haiku", "9000 tokens", "◦ sub"):
        assert words in done.err
    assert "  + a.py +3 −0\n  ± b.py +1 −2\n  … 4\n" in done.err
    log = (await moorline("logs")).out
    for words in ("npm test", "1/6", "opus", "9000", "a.py, b.py"):
        assert words in log
