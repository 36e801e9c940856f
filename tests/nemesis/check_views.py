"""P3 as clients saw it: what each showed is what its agent's log says, and nothing else."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.nemesis.evidence import AgentEvidence, Evidence, Fields, Violation, canonical, kind_of
from tests.nemesis.history import Entry, Kind

_ABOUT = (Kind.WATCH, Kind.FRAME, Kind.WATCH_END, Kind.RESET)


def check_views(evidence: Evidence) -> Iterator[Violation]:
    """Yield what is wrong with what clients were shown."""
    seen: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in evidence.history.of(*_ABOUT):
        if entry.agent:
            seen[entry.client, entry.agent].append(entry)
    for (client, name), entries in seen.items():
        agent = evidence.agents.get(name)
        if agent is None:
            # That it is gone is judged where turns are.
            continue
        about = f"{client} of {name}"
        for text in _fold(entries, agent, emptied=evidence.emptied):
            yield Violation("P3", about, text)


def _fold(entries: Sequence[Entry], agent: AgentEvidence, *, emptied: bool) -> Iterator[str]:
    last_reset = max((n for n, e in enumerate(entries) if e.kind is Kind.RESET), default=-1)
    view = _View(None if last_reset >= 0 else agent)
    watch = 0
    for number, entry in enumerate(entries):
        if entry.kind is Kind.WATCH:
            watch = entry.detail["watch"]
            view.open.clear()
            if entry.detail["after"] != view.sequence:
                yield f"watched after {entry.detail['after']}, having {view.sequence}"
        elif entry.kind is Kind.RESET:
            if not emptied:
                yield "told to forget everything, and the log was never lost"
            view = _View(agent if number == last_reset else None)
        elif entry.kind is Kind.FRAME and entry.detail.get("watch") == watch:
            reply = json.loads(entry.detail["text"]).get("watchEventsResponse", {})
            for update in reply.get("updates", []):
                yield from view.apply(update)
    if watch and view.log is not None and view.sequence < len(view.log.events):
        yield f"stopped at {view.sequence}, the log has {len(view.log.events)}"


@dataclass(slots=True)
class _View:
    """What a client shows, by the client's rules.

    Attributes:
        log: What it must be; None for a log that no longer exists.
        sequence: Number of the last event.
        open: Text of pieces still being written, by id.
        done: Pieces of the running attempt whose item has come.
        running: Turns begun and not ended.
        log_id: What checkpoints called the log.
    """

    log: AgentEvidence | None
    sequence: int = 0
    open: dict[str, str] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    running: set[str] = field(default_factory=set)
    log_id: str = ""

    def apply(self, update: Fields) -> Iterator[str]:
        """Take in an update; yield what is wrong with it."""
        if "event" in update:
            yield from self._event(update["event"])
        elif "delta" in update:
            yield from self._delta(update["delta"])
        elif "messageDiscarded" in update:
            self.open.pop(update["messageDiscarded"].get("blockId", ""), None)
        elif "checkpoint" in update:
            yield from self._checkpoint(update["checkpoint"])

    def _event(self, event: Fields) -> Iterator[str]:
        sequence = event["sequence"]
        if sequence != self.sequence + 1:
            yield f"event {sequence} after {self.sequence}"
        self.sequence = sequence
        if self.log is not None:
            yield from _differs(event, self.log.events)
        item, kind = event["item"], kind_of(event)
        piece = item.get("agentMessage") or item.get("agentThought")
        if piece:
            block = piece.get("blockId", "")
            shown = self.open.pop(block, "")
            self.done.add(block)
            if not piece.get("text", "").startswith(shown):
                yield f"event {sequence} says {piece.get('text')!r:.200}, shown was {shown!r:.200}"
        elif kind == "userMessage":
            self.running.add(event["turnId"])
        elif kind in ("turnAttempt", "turnOutcome"):
            self.open.clear()
            self.done.clear()
            if kind == "turnOutcome":
                self.running.discard(event["turnId"])

    def _delta(self, delta: Fields) -> Iterator[str]:
        block, text = delta.get("blockId", ""), delta.get("text", "")
        where = f"after event {self.sequence} text {text!r:.80}"
        if block in self.done:
            yield f"{where} of a piece whose item has come"
        elif not self.running:
            yield f"{where} although no turn runs"
        if delta.get("snapshot"):
            self.open[block] = text
        elif block in self.open:
            self.open[block] += text
        else:
            yield f"{where} of a piece that never began"
            self.open[block] = text

    def _checkpoint(self, checkpoint: Fields) -> Iterator[str]:
        if checkpoint.get("sequence", 0) < self.sequence:
            yield f"complete up to {checkpoint.get('sequence', 0)}, after {self.sequence}"
        log_id = checkpoint.get("logId", "")
        if self.log_id and log_id and log_id != self.log_id:
            yield f"the log is called {log_id} and was called {self.log_id}"
        self.log_id = log_id or self.log_id
        if self.log is not None and self.log.log_id and log_id and log_id != self.log.log_id:
            yield f"the log is called {log_id} and stored as {self.log.log_id}"


def _differs(event: Fields, log: Sequence[Fields]) -> Iterator[str]:
    sequence = event["sequence"]
    if sequence > len(log):
        yield f"event {sequence} is shown and not in the log: {event!r:.300}"
    elif canonical(event) != canonical(log[sequence - 1]):
        yield f"event {sequence} is {event!r:.300}, in the log {log[sequence - 1]!r:.300}"
