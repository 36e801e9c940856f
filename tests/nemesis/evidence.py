"""What a checker judges: the history of a run, and what was found at its end.

Holds facts only. Does not know the promises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.nemesis.history import Entry, History, Kind

Fields = Mapping[str, Any]
"""A message in proto3 JSON, or a document's fields."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken, or a rule of the platform.

    Attributes:
        rule: `P1` to `P6`, `deadline`, `log` (a service told of a bug) or `harness`.
        about: An agent, a turn, a client or a service.
        text: What was found.
    """

    rule: str
    about: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule} {self.about}: {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentEvidence:
    """An agent as it was when everything had settled.

    Attributes:
        name: `users/{user}/agents/{agent}`.
        log_id: Which history its events are; empty when the store does not tell.
        events: The log as the API lists it.
        turns: The turns as the API lists them.
        segments: The log's documents by id, in the order of their ids, read from
            the store directly.
        documents: The turns' documents by the turn's id, read likewise.
        work: Ids of turns the work list has.
        transcript: Pieces of the agent's own transcript by number, likewise.
        listed: False when the API did not answer: `events` and `turns` are then those
            of the store.
    """

    name: str
    log_id: str = ""
    events: Sequence[Fields] = ()
    turns: Sequence[Fields] = ()
    segments: Sequence[tuple[str, Fields]] = ()
    documents: Mapping[str, Fields] = field(default_factory=dict)
    work: Sequence[str] = ()
    transcript: Sequence[tuple[str, Fields]] = ()
    listed: bool = True

    def of_turn(self, turn: str) -> list[Fields]:
        """Events of a turn."""
        return [event for event in self.events if event.get("turnId") == turn]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything known about a run.

    Attributes:
        history: What happened.
        users: The user of each client, as an id.
        canaries: A word of each user that nobody else may ever see, by id.
        agents: What was found at the end, by name.
        effects: How often each file of a tool call was written; named `{turn}.{n}`.
        alarms: Lines of the services' logs that tell of a bug.
        emptied: True when the database was emptied on purpose: what was before is
            gone, and clients must have been told.
    """

    history: History
    users: Mapping[str, str]
    canaries: Mapping[str, str]
    agents: Mapping[str, AgentEvidence]
    effects: Mapping[str, int] = field(default_factory=dict)
    alarms: Sequence[str] = ()
    emptied: bool = False

    def calls(self, method: str) -> Iterator[tuple[Entry, Entry | None]]:
        """Each call of a method with its answer; None when it has none."""
        answers = {
            (entry.client, entry.detail["number"]): entry
            for entry in self.history.of(Kind.ANSWER)
            if entry.detail["method"] == method
        }
        for entry in self.history.of(Kind.CALL):
            if entry.detail["method"] == method:
                yield entry, answers.get((entry.client, entry.detail["number"]))


_FRACTION = re.compile(r"(\.\d*?)0+Z$")


def canonical(event: Fields) -> Fields:
    """An event with its times written in one way: proto3 JSON allows 0, 3, 6 or 9 digits."""
    time = _FRACTION.sub(r"\1Z", event.get("createTime", "")).replace(".Z", "Z")
    item = dict(event["item"])
    if "expireTime" in item.get("permissionRequest", {}):
        request = item["permissionRequest"]
        expiry = _FRACTION.sub(r"\1Z", request["expireTime"]).replace(".Z", "Z")
        item["permissionRequest"] = {**request, "expireTime": expiry}
    return {**event, "createTime": time, "item": item}


def kind_of(event: Fields) -> str:
    """Which member of an event's item is set, for example `toolCall`."""
    return next(iter(event["item"]), "")
