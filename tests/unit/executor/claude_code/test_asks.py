"""Tests of `services.executor.claude_code.asks`."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.executor.claude_code.asks import Ask, allowed_with, ask_of, needs_user, reply_to
from services.executor.claude_code.pieces import PIECE_BYTES

Request = transcript_pb2.PermissionRequest

RULE = {
    "type": "addRules",
    "rules": [{"toolName": "Bash", "ruleContent": "npm test *"}],
    "behavior": "allow",
    "destination": "localSettings",
}
DIRECTORIES = {"type": "addDirectories", "directories": ["/etc"], "destination": "session"}
EDITS = {"type": "setMode", "mode": "acceptEdits", "destination": "session"}

QUESTION = {
    "question": "Which?",
    "header": "Pick",
    "options": [{"label": "A", "description": "a"}, {"label": "B"}],
    "multiSelect": True,
}


def ask(tool: str = "Bash", *, plan: str = "", **changed: Any) -> Ask:
    """Return a request; of a command unless changed."""
    frame: dict[str, Any] = {
        "subtype": "can_use_tool",
        "tool_name": tool,
        "input": {"command": "npm test"},
        "permission_suggestions": [RULE, DIRECTORIES, EDITS],
        "tool_use_id": "t1",
    }
    return ask_of("r1", frame | changed, plan=plan, diff="the diff")


def reply(asked: Ask, **decision: Any) -> dict[str, Any]:
    """Return what is answered."""
    values: dict[str, Any] = {"permission_id": "r1", "allowed": True}
    line = reply_to(asked, transcript_pb2.PermissionDecision(**(values | decision)))
    response = orjson.loads(line)["response"]
    assert "r1" == response["request_id"]
    answer: dict[str, Any] = response["response"]
    return answer


def test_request_tells_what_would_run() -> None:
    """With its diff, and with what can be allowed too; folders are not offered."""
    request = ask(decision_reason="because").request
    rule, edits = request.suggestions

    assert ("r1", "t1", "Bash", "because", "the diff") == (
        request.permission_id,
        request.tool_call_id,
        request.tool_name,
        request.question,
        request.diff,
    )
    assert Request.KIND_TOOL == request.kind
    assert {"command": "npm test"} == orjson.loads(request.input_json)
    assert ("1", ["Bash(npm test *)"]) == (rule.suggestion_id, list(rule.rules))
    assert ("3", True) == (edits.suggestion_id, edits.accept_edits)


@pytest.mark.parametrize(
    "suggestion",
    [
        DIRECTORIES,
        EDITS | {"mode": "bypassPermissions"},
        RULE | {"behavior": "deny"},
        RULE | {"rules": []},
        RULE | {"rules": [{"toolName": "Bash", "ruleContent": "x),Bash(*"}]},
        RULE | {"rules": [{"toolName": "Bash", "ruleContent": "a\nb"}]},
        RULE | {"rules": [{"toolName": "Bash,Write"}]},
        RULE | {"rules": [{"toolName": "Bash"}, {"toolName": "Bash", "ruleContent": ""}]},
    ],
)
def test_what_cannot_be_named_safely_is_not_offered(suggestion: dict[str, Any]) -> None:
    """A rule that could become two is one of them."""
    assert [] == list(ask(permission_suggestions=[suggestion]).request.suggestions)


def test_suggestions_are_few() -> None:
    """What the CLI offers beyond eight is left out; it may offer nothing."""
    assert 8 == len(ask(permission_suggestions=[EDITS] * 20).request.suggestions)
    assert [] == list(ask(permission_suggestions=None).request.suggestions)


def test_allowing_once_changes_no_permission() -> None:
    """The tool gets the input it asked for."""
    assert {"behavior": "allow", "updatedInput": {"command": "npm test"}} == reply(ask())


def test_allowing_with_a_suggestion_holds_for_this_process() -> None:
    """Whatever the CLI wanted: nothing is written into the workspace."""
    rule = reply(ask(), suggestion_id="1")["updatedPermissions"]
    edits = reply(ask(), suggestion_id="3")["updatedPermissions"]
    whole = ask(permission_suggestions=[RULE | {"rules": [{"toolName": "Other"}]}])

    assert [RULE | {"destination": "session"}] == rule
    assert [EDITS] == edits
    assert [{"toolName": "Other"}] == reply(whole, suggestion_id="1")["updatedPermissions"][0][
        "rules"
    ]


@pytest.mark.parametrize("suggestion_id", ["2", "9"])
def test_suggestion_that_was_not_made_is_refused(suggestion_id: str) -> None:
    """The request stays open."""
    decision = transcript_pb2.PermissionDecision(suggestion_id=suggestion_id)
    with pytest.raises(Failure) as caught:
        allowed_with(ask(), decision)

    assert "FIELD_INVALID" == caught.value.reason_name


def test_refusing_tells_why() -> None:
    """The agent goes on."""
    assert {"behavior": "deny", "message": "no"} == reply(ask(), allowed=False, reason="no")


def test_request_that_is_not_whole_can_only_be_refused() -> None:
    """Nobody could know what would run."""
    asked = ask(input={"command": "x" * (PIECE_BYTES + 1)})
    with pytest.raises(Failure) as caught:
        reply(asked)

    assert asked.request.omitted_bytes
    assert "FIELD_INVALID" == caught.value.reason_name
    assert "deny" == reply(asked, allowed=False)["behavior"]


def test_question_is_answered_in_the_user_s_words() -> None:
    """By question; several answers are one text."""
    asked = ask("AskUserQuestion", input={"questions": [QUESTION, {"question": "More?"}]})
    answers = [
        transcript_pb2.QuestionAnswer(question="Which?", answers=["A", "my own"]),
        transcript_pb2.QuestionAnswer(question="More?", answers=["no"]),
    ]
    told = reply(asked, answers=answers)["updatedInput"]
    first, second = asked.request.questions

    assert needs_user("AskUserQuestion")
    assert Request.KIND_QUESTION == asked.request.kind
    assert ("Which?", "Pick", True) == (first.question, first.header, first.multiple)
    assert [("A", "a"), ("B", "")] == [(one.label, one.description) for one in first.options]
    assert ("More?", "", False) == (second.question, second.header, second.multiple)
    assert {"Which?": "A, my own", "More?": "no"} == told["answers"]
    assert [QUESTION, {"question": "More?"}] == told["questions"]


def test_allowed_plan_says_how_to_go_on() -> None:
    """Asking before each change, or accepting edits."""
    asked = ask("ExitPlanMode", input={"plan": "# Plan"})
    (suggestion,) = asked.request.suggestions
    asking = reply(asked)["updatedPermissions"]
    editing = reply(asked, suggestion_id=suggestion.suggestion_id)["updatedPermissions"]

    assert needs_user("ExitPlanMode")
    assert (Request.KIND_PLAN, "# Plan") == (asked.request.kind, asked.request.plan)
    assert suggestion.accept_edits
    assert [EDITS | {"mode": "default"}] == asking
    assert [EDITS] == editing


def test_plan_that_the_request_lacks_is_the_call_s() -> None:
    """The CLI leaves it out when it was not written into its own file."""
    assert "# Written" == ask("ExitPlanMode", plan="# Written", input={}).request.plan


def test_tools_need_no_user() -> None:
    """Where everything is accepted they run."""
    assert not needs_user("Bash")
