"""Tests of `moorline.permissions`: what an agent asks, answered by a program."""

from __future__ import annotations

import pytest

import moorline
from tests.unit.moorline.scripted import Gateway
from tests.unit.moorline.scripted_platform import Turn


@pytest.mark.parametrize("allowed", [True, False])
async def test_a_callback_decides_about_permissions(
    gateway: Gateway, client: moorline.AsyncClient, allowed: bool
) -> None:
    """`on_permission` is asked once for each request and its answer is sent."""

    async def script(turn: Turn) -> None:
        decision = await turn.ask("Bash")
        await turn.say("yes" if decision["allowed"] else "no")

    gateway.platform.script = script
    agent = await client.agents.create()
    asked: list[object] = []

    async def decide(request: moorline.PermissionRequest) -> bool:
        asked.append(request.input)
        return allowed

    async with agent.run("go", on_permission=decide) as stream:
        result = await stream.wait()
    assert "yes" if allowed else "no" == result.text
    assert [{"text": "x"}] == asked


async def test_a_permission_request_is_answered_by_itself(
    gateway: Gateway, client: moorline.AsyncClient
) -> None:
    """The event has `allow` and `deny`; the second, other answer is a conflict."""

    async def script(turn: Turn) -> None:
        await turn.ask("Bash")

    gateway.platform.script = script
    agent = await client.agents.create()
    async with agent.run("go") as stream:
        async for event in stream:
            match event:
                case moorline.PermissionRequest(tool_name="Bash"):
                    await event.deny("not today")
                    await event.deny("not today")
                    with pytest.raises(moorline.ConflictError):
                        await event.allow()
                case moorline.PermissionDecision(allowed=allowed, reason=reason):
                    assert (False, "not today") == (allowed, reason)


async def test_questions_are_answered_and_suggestions_taken(
    gateway: Gateway, client: moorline.AsyncClient
) -> None:
    """What is asked arrives typed; an answer says all that there is to say."""
    decisions: list[object] = []
    option = {"label": "red", "description": "like a rose"}

    async def script(turn: Turn) -> None:
        asked = {"question": "Which?", "header": "Colour", "options": [option], "multiple": True}
        decisions.append(await turn.ask("AskUserQuestion", kind="KIND_QUESTION", questions=[asked]))
        suggestion = {"suggestionId": "s1", "acceptEdits": True}
        plan = {"kind": "KIND_PLAN", "plan": "# Plan", "suggestions": [suggestion]}
        decisions.append(await turn.ask("ExitPlanMode", **plan))

    gateway.platform.script = script
    agent = await client.agents.create()
    decided: list[moorline.PermissionDecision] = []
    async with agent.run("go") as stream:
        async for event in stream:
            match event:
                case moorline.AsyncPermissionRequest(kind=moorline.PermissionKind.QUESTION):
                    (question,) = event.questions
                    assert question.multiple
                    await event.reply({question.question: [question.options[0].label, "blue"]})
                case moorline.AsyncPermissionRequest(kind=moorline.PermissionKind.PLAN):
                    assert "# Plan" == event.plan
                    await event.allow(event.suggestions[0])
                case moorline.PermissionDecision():
                    decided.append(event)
    answers = [{"question": "Which?", "answers": ["red", "blue"]}]
    assert [answers, "s1"] == [decisions[0]["answers"], decisions[1]["suggestionId"]]  # type: ignore[index]
    assert {"Which?": ("red", "blue")} == decided[0].answers
    assert "s1" == decided[1].suggestion_id
