"""Nothing is done that was to be asked for first."""

from __future__ import annotations

import asyncio

import pytest

from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from tests.contract.agents.conftest import Serve
from tests.contract.agents.executors import ACCEPT_ALL, ACCEPT_EDITS, ASK, PLAN, Agent
from tests.contract.agents.turns import arguments

Request = transcript_pb2.PermissionRequest
EDIT = "/sim edit a.txt one=>two"


@pytest.fixture
async def file(agent: Agent) -> Agent:
    """The agent, with a file that it has written."""
    await agent.run("/sim write a.txt one", permission_mode=ACCEPT_EDITS)
    return agent


async def test_edit_is_asked_for_with_its_difference(file: Agent) -> None:
    """Until it is allowed nothing happens; then exactly that."""
    turn = await file.begin(EDIT)
    request = await file.asked(turn)
    before = (file.files / "a.txt").read_bytes()
    await file.allow(turn, request)
    await file.end(turn)

    assert ("Edit", Request.KIND_TOOL) == (request.tool_name, request.kind)
    assert ("one", "two") == tuple(
        arguments(request)[name] for name in ("old_string", "new_string")
    )
    assert "-one" in request.diff
    assert "+two" in request.diff
    assert (b"one", b"two") == (before, (file.files / "a.txt").read_bytes())
    assert request.tool_call_id == turn.of("tool_call")[0].tool_call_id


async def test_allowed_once_is_asked_for_again(file: Agent) -> None:
    """The next use of the same tool is another question."""
    turn = await file.begin(EDIT, "/sim edit a.txt two=>three")
    await file.allow(turn, await file.asked(turn))
    await file.allow(turn, await file.asked(turn, 2))
    await file.end(turn)

    assert b"three" == (file.files / "a.txt").read_bytes()


async def test_edits_can_be_allowed_for_good(file: Agent) -> None:
    """A suggestion that is taken with the decision spares the next questions."""
    turn = await file.begin(EDIT, "/sim edit a.txt two=>three")
    request = await file.asked(turn)
    (always,) = [one for one in request.suggestions if one.accept_edits]
    await file.allow(turn, request, suggestion_id=always.suggestion_id)
    await file.end(turn)

    assert "finished" == turn.ending
    assert 1 == len(turn.of("permission_request"))
    assert b"three" == (file.files / "a.txt").read_bytes()


async def test_command_can_be_allowed_for_good(agent: Agent) -> None:
    """The rule that comes with the request covers the next use, and another command does not."""
    turn = await agent.begin(
        "/sim bash touch one.txt", "/sim bash touch one.txt", "/sim bash echo x > two.txt"
    )
    request = await agent.asked(turn)
    (rule,) = [one for one in request.suggestions if one.rules]
    await agent.allow(turn, request, suggestion_id=rule.suggestion_id)
    second = await agent.asked(turn, 2)
    await agent.refuse(turn, second)
    await agent.end(turn)

    assert rule.rules[0].startswith("Bash(touch")
    assert "echo x > two.txt" == arguments(second)["command"]
    assert not (agent.files / "two.txt").exists()


async def test_refusal_is_told_with_its_reason(file: Agent) -> None:
    """The tool does not run; the agent hears why, and goes on."""
    turn = await file.begin(EDIT, "/sim say then not")
    await file.refuse(turn, await file.asked(turn), "not on a Friday")
    await file.end(turn)

    assert b"one" == (file.files / "a.txt").read_bytes()
    assert turn.result("Edit").failed
    assert "not on a Friday" in turn.result("Edit").output
    assert ["then not"] == turn.texts


async def test_question_waits_as_long_as_it_takes(serving: Serve) -> None:
    """An agent that waits for a person is not one that hangs."""
    async with serving("patient", STALL_LIMIT="10") as executor:
        agent = executor.agent()
        turn = await agent.begin("/sim bash touch a.txt", "/sim say on")
        request = await agent.asked(turn)
        await asyncio.sleep(10.5)
        await agent.allow(turn, request)
        await agent.end(turn)

    assert "finished" == turn.ending
    assert (agent.files / "a.txt").exists()


async def test_second_answer_changes_nothing(agent: Agent) -> None:
    """Nor does it fail; an answer to what was never asked does."""
    turn = await agent.begin("/sim bash touch a.txt", "/sim sleep 200", "/sim say on")
    request = await agent.asked(turn)
    await agent.refuse(turn, request)
    await agent.allow(turn, request)
    with pytest.raises(Failure) as caught:
        await agent.allow(turn, Request(permission_id="never-asked"))
    await agent.end(turn)

    assert "RESOURCE_NOT_FOUND" == caught.value.reason_name
    assert not (agent.files / "a.txt").exists()
    assert ["on"] == turn.texts


async def test_accepting_edits_asks_for_commands(agent: Agent) -> None:
    """Files are edited freely, and other commands are asked for."""
    turn = await agent.begin(
        "/sim write a.txt one", EDIT, "/sim bash make all", permission_mode=ACCEPT_EDITS
    )
    request = await agent.asked(turn)
    await agent.refuse(turn, request)
    await agent.end(turn)

    assert "Bash" == request.tool_name
    assert b"two" == (agent.files / "a.txt").read_bytes()


async def test_accepting_all_asks_for_nothing(agent: Agent) -> None:
    """Edits and commands alike."""
    turn = await agent.run(
        "/sim write a.txt one", EDIT, "/sim bash touch b.txt", permission_mode=ACCEPT_ALL
    )

    assert "finished" == turn.ending
    assert [] == turn.of("permission_request")
    assert (agent.files / "b.txt").exists()


async def test_allowed_rules_need_no_question(agent: Agent) -> None:
    """What the agent's rules cover runs; what they do not is asked for."""
    turn = await agent.begin(
        "/sim bash touch a.txt", "/sim bash make all", allowed_rules=["Bash(touch:*)"]
    )
    request = await agent.asked(turn)
    await agent.refuse(turn, request)
    await agent.end(turn)

    assert "make all" == arguments(request)["command"]
    assert (agent.files / "a.txt").exists()


async def test_question_is_answered(agent: Agent) -> None:
    """The agent hears what was chosen; it is a kind of request of its own, in every mode."""
    turn = await agent.begin(
        "/sim question Which colour? red|blue", "/sim say thanks", permission_mode=ACCEPT_ALL
    )
    request = await agent.asked(turn)
    (question,) = request.questions
    answer = transcript_pb2.QuestionAnswer(question=question.question, answers=["blue"])
    await agent.allow(turn, request, answers=[answer])
    await agent.end(turn)

    assert Request.KIND_QUESTION == request.kind
    assert "Which colour?" == question.question
    assert ["red", "blue"] == [option.label for option in question.options]
    assert '"blue"' in turn.result("AskUserQuestion").output
    assert ["thanks"] == turn.texts


async def test_question_may_stay_without_an_answer(agent: Agent) -> None:
    """The agent is told so, and goes on."""
    turn = await agent.begin("/sim question Which colour? red|blue", "/sim say well")
    await agent.refuse(turn, await agent.asked(turn), "you choose")
    await agent.end(turn)

    assert turn.result("AskUserQuestion").failed
    assert "you choose" in turn.result("AskUserQuestion").output
    assert ["well"] == turn.texts


async def test_plan_is_allowed_and_carried_out(agent: Agent) -> None:
    """It is shown whole; once it is allowed with edits, the agent edits."""
    turn = await agent.begin(
        "/sim plan # Plan\\n- write it", "/sim write a.txt as planned", permission_mode=PLAN
    )
    request = await agent.asked(turn)
    edits = [one for one in request.suggestions if one.accept_edits]
    await agent.allow(turn, request, suggestion_id=edits[0].suggestion_id if edits else "")
    if not edits:
        await agent.allow(turn, await agent.asked(turn, 2))
    await agent.end(turn)

    assert Request.KIND_PLAN == request.kind
    assert "# Plan\n- write it" == request.plan
    assert b"as planned" == (agent.files / "a.txt").read_bytes()


async def test_plan_is_sent_back(agent: Agent) -> None:
    """With a reason; the agent goes on planning, and the next plan can be allowed."""
    turn = await agent.begin("/sim plan one", "/sim plan two", permission_mode=PLAN)
    await agent.refuse(turn, await agent.asked(turn), "shorter, please")
    second = await agent.asked(turn, 2)
    await agent.allow(turn, second)
    await agent.end(turn)

    assert "shorter, please" in turn.result("ExitPlanMode").output
    assert "two" == second.plan
    assert not turn.result("ExitPlanMode", 2).failed


async def test_mode_changes_between_turns(agent: Agent) -> None:
    """The conversation goes on, under the new rules at once."""
    first = await agent.begin("the first", "/sim bash touch a.txt")
    await agent.refuse(first, await agent.asked(first))
    await agent.end(first)
    second = await agent.run("the second", "/sim bash touch a.txt", permission_mode=ACCEPT_ALL)
    third = await agent.begin("/sim bash touch b.txt", "/sim recall", permission_mode=ASK)
    await agent.refuse(third, await agent.asked(third))
    await agent.end(third)

    assert [] == second.of("permission_request")
    assert (agent.files / "a.txt").exists()
    assert not (agent.files / "b.txt").exists()
    assert ["I remember: the first, the second"] == third.texts
