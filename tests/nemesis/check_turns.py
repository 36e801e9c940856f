"""P1, P2, P4 and P5: turns are kept, made once, ended once, and their tools not repeated."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.nemesis.evidence import AgentEvidence, Evidence, Fields, Violation, kind_of

ENDED = {"STATE_FINISHED", "STATE_CANCELLED", "STATE_FAILED", "STATE_LOST"}
_ECHO = "The Claude Code CLI is running in the Kubernetes environment."
_STEP = re.compile(r"^/sim (say|stream|think) (.*)$", re.MULTILINE)


@dataclass(slots=True)
class _Sent:
    """What clients did about one turn id.

    Attributes:
        prompts: Every content it was sent with.
        accepted: Contents that were acknowledged.
        refused: Contents that were refused because the id exists.
        cancelled: True when a cancel was asked for.
    """

    prompts: list[str] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    cancelled: bool = False


def check_turns(evidence: Evidence) -> Iterator[Violation]:
    """Yield what is wrong with turns."""
    sent = _collect(evidence)
    for name, agent in evidence.agents.items():
        if not agent.listed:
            yield Violation("deadline", name, "cannot be listed although no fault is left")
        yield from _check_agent(agent, sent.pop(name, {}), evidence)
    if not evidence.emptied:
        for name, turns in sent.items():
            if any(turn.accepted for turn in turns.values()):
                yield Violation("P1", name, "the agent is gone, with turns that were accepted")


def _collect(evidence: Evidence) -> dict[str, dict[str, _Sent]]:
    sent: dict[str, dict[str, _Sent]] = defaultdict(lambda: defaultdict(_Sent))
    for call, answer in evidence.calls("createTurn"):
        request = call.detail["request"]
        turn = sent[request["parent"]][request["turnId"]]
        prompt = request["turn"]["prompt"]["text"]
        turn.prompts.append(prompt)
        if answer is None:
            continue
        if not answer.detail["reason"]:
            turn.accepted.append(prompt)
        elif answer.detail["reason"] == "RESOURCE_EXISTS":
            turn.refused.append(prompt)
    for call, _ in evidence.calls("cancelTurn"):
        agent, _, turn_id = call.detail["request"]["name"].partition("/turns/")
        sent[agent][turn_id].cancelled = True
    return sent


def _check_agent(
    agent: AgentEvidence, sent: dict[str, _Sent], evidence: Evidence
) -> Iterator[Violation]:
    begun = Counter(e["turnId"] for e in agent.events if kind_of(e) == "userMessage")
    for turn, known in sent.items():
        about = f"{agent.name}/turns/{turn}"
        if known.accepted and not begun[turn] and not evidence.emptied:
            yield Violation("P1", about, "accepted, and not in the log")
        if len(set(known.accepted)) > 1:
            yield Violation("P2", about, "accepted with two contents")
    listed = {turn["name"].rpartition("/")[2]: turn for turn in agent.turns}
    for turn, count in begun.items():
        about = f"{agent.name}/turns/{turn}"
        if count > 1:
            yield Violation("P2", about, f"begun {count} times")
        if turn not in sent:
            yield Violation("P2", about, "in the log, and nobody sent it")
            continue
        events = agent.of_turn(turn)
        yield from _check_content(about, events, sent[turn])
        yield from _check_end(about, events, sent[turn])
        yield from _check_records(about, turn, events, listed, agent)
        yield from _check_tools(about, turn, events, evidence)


def _check_content(about: str, events: list[Fields], sent: _Sent) -> Iterator[Violation]:
    prompt = next(e["item"]["userMessage"]["text"] for e in events if kind_of(e) == "userMessage")
    if prompt not in sent.prompts:
        yield Violation("P2", about, "has a content that nobody sent")
    if any(other != prompt for other in sent.accepted):
        yield Violation("P2", about, "another content than the log's was accepted")
    if prompt in sent.refused:
        yield Violation("P2", about, "the same content again was refused")


def _check_end(about: str, events: list[Fields], sent: _Sent) -> Iterator[Violation]:
    outcomes = [event["item"]["turnOutcome"] for event in events if kind_of(event) == "turnOutcome"]
    if len(outcomes) != 1:
        yield Violation("P4", about, f"has {len(outcomes)} outcomes")
        return
    if kind_of(events[-1]) != "turnOutcome":
        yield Violation("P4", about, f"{kind_of(events[-1])} after the outcome")
    outcome = outcomes[0]
    state, reason = outcome.get("state"), outcome.get("error", {}).get("reason", "")
    if state not in ENDED:
        yield Violation("P4", about, f"ends in {state}")
    if state in ("STATE_FAILED", "STATE_LOST") and not reason:
        yield Violation("P4", about, f"{state} without a reason")
    if reason == "ERROR_REASON_INTERNAL":
        yield Violation("P4", about, "failed by a bug of the platform")
    if state == "STATE_CANCELLED" and not sent.cancelled:
        yield Violation("P4", about, "cancelled, and nobody asked for it")
    if state == "STATE_FINISHED":
        yield from _check_answer(about, events)


def _check_answer(about: str, events: list[Fields]) -> Iterator[Violation]:
    """See that a finished turn says all it was asked to say."""
    prompt = next(e["item"]["userMessage"]["text"] for e in events if kind_of(e) == "userMessage")
    wanted = expected_texts(prompt)
    attempts = [n for n, event in enumerate(events) if kind_of(event) == "turnAttempt"]
    last = events[attempts[-1] if attempts else 0 :]
    pieces = [e["item"].get("agentMessage") or e["item"].get("agentThought") for e in last]
    said = [piece.get("text", "") for piece in pieces if piece]
    if said != wanted:
        yield Violation("P3", about, f"finished, and says {said!r:.200} for {wanted!r:.200}")


def expected_texts(prompt: str) -> list[str]:
    """What the simulated agent says to a prompt, piece by piece."""
    if "/sim " not in prompt:
        return [f"{_ECHO}\n\nUser message: {prompt}"]
    texts = []
    for step, rest in _STEP.findall(prompt):
        if step == "stream":
            texts.append(" ".join(f"w{n + 1}" for n in range(int(rest.split()[0]))))
        else:
            texts.append(rest.strip())
    return texts


def _check_records(
    about: str, turn: str, events: list[Fields], listed: dict[str, Fields], agent: AgentEvidence
) -> Iterator[Violation]:
    states = [e["item"]["turnOutcome"].get("state") for e in events if kind_of(e) == "turnOutcome"]
    if turn not in listed:
        yield Violation("P1", about, "in the log, and not listed")
    elif states and listed[turn].get("state") != states[0]:
        yield Violation("P4", about, f"listed as {listed[turn].get('state')}, ended {states[0]}")
    document = agent.documents.get(turn)
    if document is None:
        yield Violation("P1", about, "in the log, and has no document")
    elif states and document.get("state") != states[0]:
        yield Violation("P4", about, f"stored as {document.get('state')}, ended {states[0]}")
    if states and turn in agent.work:
        yield Violation("P4", about, "ended, and still on the work list")


def _check_tools(
    about: str, turn: str, events: list[Fields], evidence: Evidence
) -> Iterator[Violation]:
    attempts, began = 1, 0
    for number, event in enumerate(events):
        if kind_of(event) == "turnAttempt":
            attempts += 1
            if _ran(events[began:number]):
                yield Violation("P5", about, "attempted again after a tool call")
            began = number
    for file, times in evidence.effects.items():
        if file.rpartition(".")[0] == turn and times > attempts:
            yield Violation("P5", about, f"a tool ran {times} times in {attempts} attempts")


def _ran(events: list[Fields]) -> set[str]:
    """Tool calls of an attempt that may have run: those nobody was asked about, or allowed."""
    items = [event["item"] for event in events]
    called = {item["toolCall"].get("toolCallId", "") for item in items if "toolCall" in item}
    asked = {
        item["permissionRequest"]["permissionId"]: item["permissionRequest"].get("toolCallId", "")
        for item in items
        if "permissionRequest" in item
    }
    allowed = {
        asked.get(item["permissionDecision"]["permissionId"], "")
        for item in items
        if item.get("permissionDecision", {}).get("allowed")
    }
    return called - (set(asked.values()) - allowed)
