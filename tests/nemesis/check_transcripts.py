"""P3 for what agents write down themselves: stored once, in order, and with every turn in it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

from tests.nemesis.evidence import AgentEvidence, Evidence, Violation

_STEP = "\n/sim "
"""Of the prompts, simulated agents write down those with a step after a remark."""


def check_transcripts(evidence: Evidence) -> Iterator[Violation]:
    """Yield what is wrong with the stored transcripts."""
    for agent in evidence.agents.values():
        if agent.transcript and not evidence.emptied:
            for text in _check(agent):
                yield Violation("P3", agent.name, text)


def _check(agent: AgentEvidence) -> Iterator[str]:
    numbers = [int(name) for name, _ in agent.transcript]
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        yield f"the transcript has the pieces {numbers}"
    newest = agent.transcript[-1][1]
    texts = [
        text
        for _, fields in agent.transcript
        if fields["conversation"] == newest["conversation"]
        for part in fields["parts"]
        if not part["file"]
        for text in part["entries"]
    ]
    entries = [json.loads(text) for text in texts]
    ids = [entry["uuid"] for entry in entries if "uuid" in entry]
    twice = [name for name, count in Counter(ids).items() if count > 1]
    if twice:
        yield f"the transcript has entries twice: {twice}"
    if ids and newest["lastEntry"] != ids[-1]:
        yield f"the transcript ends with {ids[-1]}, and not with {newest['lastEntry']}"
    if newest["first"] == 1 and newest["conversation"]:
        # There was never another conversation, so that it has every turn that ended well.
        said = [str(entry.get("message", {}).get("content", "")) for entry in entries]
        for turn, fields in agent.documents.items():
            prompt = fields.get("prompt", "")
            asked = fields["state"] == "STATE_FINISHED" and not prompt.startswith("/")
            if asked and _STEP in prompt and prompt not in said:
                yield f"{turn} has finished and is not in the transcript"
