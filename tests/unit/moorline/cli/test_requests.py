"""Tests of `moorline.cli.requests`: what a person sees, and what the answer means."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

import moorline
from moorline.cli import requests
from moorline.cli.language import LANGUAGES, Texts

EDITS = moorline.PermissionSuggestion(suggestion_id="2", accept_edits=True)
RULES = moorline.PermissionSuggestion(suggestion_id="1", rules=("Bash(npm test:*)",))
COLOUR = moorline.Question(
    question="Which colour?",
    header="Colour",
    options=(
        moorline.QuestionOption(label="red", description="like a rose"),
        moorline.QuestionOption(label="blue"),
    ),
)
MANY = moorline.Question(question="Which?", options=COLOUR.options, multiple=True)


def request(**more: Any) -> moorline.PermissionRequest:
    """A request to run a command."""
    return moorline.PermissionRequest(
        sequence=3,
        turn_id="t",
        create_time=datetime.now(UTC),
        permission_id="p",
        tool_call_id="c",
        **{"tool_name": "Bash", "input_json": '{"command": "rm -r\\nbuild"}', **more},
    )


def test_a_command_is_shown_whole_and_harmless() -> None:
    """What would run is what is shown: what a terminal would act on, or hide, in escapes."""
    given = {"command": "echo a\x1b[2K\u202e && \nrm x", "description": "x", "timeout": 9}
    shown = requests.describe(request(input_json=json.dumps(given)), Texts("en"))
    assert '$ echo a\\u001b[2K\\u202e && \nrm x\n{\n  "timeout": 9\n}' in shown


def test_a_diff_takes_the_place_of_the_input() -> None:
    """An edit is judged by what it changes."""
    shown = requests.describe(request(tool_name="Edit", diff="-a\n+b"), Texts("en"))
    assert shown.endswith("-a\n+b")


def test_other_input_is_shown_as_it_is() -> None:
    """An object with line breaks, and what is none as it is; what was cut off is told."""
    assert '"a": 1' in requests.describe(request(input_json='{"a": 1}'), Texts("en"))
    shown = requests.describe(request(input_json="none", omitted_bytes=7), Texts("en"))
    assert "none" in shown
    assert "7 bytes" in shown


def test_a_long_plan_tells_how_much_is_left() -> None:
    """Nobody scrolls through ten thousand lines at a question."""
    plan = request(kind=moorline.PermissionKind.PLAN, plan="line\n" * 410)
    shown = requests.describe(plan, Texts("en"))
    assert "10 more lines" in shown
    assert "Carry out" in requests.offer(plan, Texts("en"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_offer_names_each_suggestion(language: str) -> None:
    """Rules by their text, edits in words, each with its number."""
    shown = requests.offer(request(suggestions=(RULES, EDITS)), Texts(language))
    lines = [line.strip() for line in shown.splitlines()]
    assert lines[1].startswith("1")
    assert "Bash(npm test:*)" in lines[1]
    assert lines[2].startswith("2")


@pytest.mark.parametrize(
    ("answer", "decision"),
    [
        ("y", moorline.Decision(allowed=True)),
        ("YES", moorline.Decision(allowed=True)),
        ("예", moorline.Decision(allowed=True)),
        ("1", moorline.Decision(allowed=True, suggestion_id="1")),
        ("2", moorline.Decision(allowed=True, suggestion_id="2")),
        ("3", moorline.Decision(allowed=False, reason="3")),
        ("n", moorline.Decision(allowed=False)),
        ("n use make", moorline.Decision(allowed=False, reason="use make")),
        ("use make", moorline.Decision(allowed=False, reason="use make")),
        ("", moorline.Decision(allowed=False)),
    ],
)
def test_what_is_no_yes_is_a_no(answer: str, decision: moorline.Decision) -> None:
    """With the words after it as the reason."""
    asked = request(suggestions=(RULES, EDITS))
    assert decision == requests.decision_from(answer, asked, Texts("ko"))


@pytest.mark.parametrize(
    ("answer", "question", "answers"),
    [
        ("2", COLOUR, ("blue",)),
        ("1,2", COLOUR, ("1,2",)),
        ("1, 2", MANY, ("red", "blue")),
        ("9", MANY, ("9",)),
        ("green, please", COLOUR, ("green, please",)),
        ("  ", COLOUR, ()),
    ],
)
def test_an_answer_is_numbers_or_own_words(
    answer: str, question: moorline.Question, answers: tuple[str, ...]
) -> None:
    """Several numbers only where several may be chosen."""
    assert answers == requests.answers_from(answer, question)


def test_a_question_shows_its_options() -> None:
    """With what each means."""
    shown = requests.offer_question(COLOUR, Texts("en"))
    assert shown.startswith("Colour: Which colour?")
    assert "1  red: like a rose" in shown
    assert "Numbers" in requests.offer_question(MANY, Texts("en"))
    assert "agent asks" in requests.describe(
        request(kind=moorline.PermissionKind.QUESTION, questions=(COLOUR,)), Texts("en")
    )
