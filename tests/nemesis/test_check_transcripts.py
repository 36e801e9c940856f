"""The checker finds each kind of wrong in a stored transcript, and lets the right one pass."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.nemesis.check_transcripts import check_transcripts
from tests.nemesis.evidence import AgentEvidence, Evidence
from tests.nemesis.history import History

AGENT = "users/ada/agents/a1"
PROMPT = "word t1\n/sim say x"


def entry(number: int, content: str = PROMPT) -> str:
    """An entry of a transcript."""
    return json.dumps({"uuid": f"e{number}", "message": {"content": content}})


def piece(
    *entries: str, last: str = "", first: int = 1, conversation: str = "c1", file: str = ""
) -> Mapping[str, Any]:
    """The fields of a piece."""
    return {
        "conversation": conversation,
        "first": first,
        "lastEntry": last,
        "parts": [{"file": file, "entries": list(entries)}],
    }


def judged(*pieces: tuple[str, Mapping[str, Any]], emptied: bool = False) -> list[str]:
    """What the checker says about an agent with one finished turn."""
    documents = {"t1": {"state": "STATE_FINISHED", "prompt": PROMPT}}
    agent = AgentEvidence(name=AGENT, documents=documents, transcript=pieces)
    evidence = Evidence(history=History(), users={}, canaries={}, agents={AGENT: agent})
    found = check_transcripts(dataclasses.replace(evidence, emptied=emptied))
    return [violation.text for violation in found]


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [("1", piece(entry(1), last="e1"))],
        [("1", piece(entry(1), last="e1")), ("2", piece("{}", file="sub", last="e1"))],
        [("7", piece(entry(1, "another"), last="e1", first=7))],
        [("1", piece(entry(1), last="e1")), ("2", piece(conversation="", first=2))],
    ],
)
def test_what_is_right_is_let_pass(pieces: list[tuple[str, Mapping[str, Any]]]) -> None:
    """Also after an older conversation was cleared away, and once there is none to go on with."""
    assert [] == judged(*pieces)


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ([("1", piece(entry(1), last="e1")), ("3", piece(last="e1"))], "has the pieces"),
        ([("1", piece(entry(1), entry(1), last="e1"))], "twice"),
        ([("1", piece(entry(1), last="e0"))], "and not with e0"),
        ([("1", piece(entry(1, "another"), last="e1"))], "t1 has finished"),
    ],
)
def test_what_is_wrong_is_found(pieces: list[tuple[str, Mapping[str, Any]]], words: str) -> None:
    """Holes, entries twice, a wrong end, and turns that are missing."""
    [text] = judged(*pieces)

    assert words in text


def test_what_was_emptied_is_not_judged() -> None:
    """Everything was taken away on purpose."""
    assert [] == judged(("1", piece(entry(1), entry(1), last="e1")), emptied=True)
