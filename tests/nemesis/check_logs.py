"""P3 as it is stored: segments follow each other, and are what the API lists."""

from __future__ import annotations

from collections.abc import Iterator

from tests.nemesis.evidence import AgentEvidence, Evidence, Violation, canonical


def check_logs(evidence: Evidence) -> Iterator[Violation]:
    """Yield what is wrong with the stored logs."""
    for agent in evidence.agents.values():
        for text in (*_check_numbers(agent), *_check_segments(agent)):
            yield Violation("P3", agent.name, text)


def _check_numbers(agent: AgentEvidence) -> Iterator[str]:
    numbers = [event["sequence"] for event in agent.events]
    if numbers != list(range(1, len(numbers) + 1)):
        wrong = next(n for n, number in enumerate(numbers, 1) if n != number)
        yield f"the log has {numbers[wrong - 1]} where {wrong} should be"


def _check_segments(agent: AgentEvidence) -> Iterator[str]:
    following, filler, epoch = 1, 0, 0
    nonces = set()
    stored = []
    for name, fields in agent.segments:
        sequence, _, suffix = name.partition(".")
        if (int(sequence), int(suffix or 0)) != (following, filler):
            yield f"segment {name} stands where {following}.{filler} should be"
            return
        events = fields["events"]
        if [e["sequence"] for e in events] != list(range(following, following + len(events))):
            yield f"segment {name} has other numbers than its place says"
        following, filler = following + len(events), 0 if events else filler + 1
        if fields["nonce"] in nonces:
            yield f"segment {name} was written twice"
        nonces.add(fields["nonce"])
        if fields.get("epoch", 0) < epoch:
            yield f"segment {name} is of epoch {fields.get('epoch', 0)}, after {epoch}"
        epoch = fields.get("epoch", 0)
        stored += events
    if agent.segments and list(map(canonical, stored)) != list(map(canonical, agent.events)):
        yield f"{len(stored)} events are stored, {len(agent.events)} listed, or they differ"
