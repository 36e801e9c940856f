"""Histories made by hand, for the tests of the checker: a healthy one, to be spoilt."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.nemesis.connection import CALL_SECONDS
from tests.nemesis.evidence import AgentEvidence, Evidence
from tests.nemesis.history import History, Kind

AGENT = "users/ada/agents/a1"
USERS = {"ada-1": "ada", "ada-2": "ada", "bob-1": "bob"}
CANARIES = {"ada": "canaryada", "bob": "canarybob"}

Event = dict[str, Any]


@dataclass
class Story:
    """One agent of Ada's: what was sent, what is stored, and what was shown.

    Attributes:
        events: The log.
        history: What clients did and saw.
        turns: States by turn, as listed; what the log says for turns without one.
        effects: How often files were written.
        alarms: Lines of logs.
        emptied: Whether the database was emptied.
        epochs: Epoch of each segment; each event is a segment.
        work: The work list.
    """

    events: list[Event] = field(default_factory=list)
    history: History = field(default_factory=History)
    turns: dict[str, str] = field(default_factory=dict)
    effects: dict[str, int] = field(default_factory=dict)
    alarms: list[str] = field(default_factory=list)
    emptied: bool = False
    epochs: dict[int, int] = field(default_factory=dict)
    work: list[str] = field(default_factory=list)
    numbers: int = 0

    def log(self, turn: str, **item: Any) -> Event:
        """Add an event to the log and return it."""
        event = {"sequence": len(self.events) + 1, "turnId": turn, "item": item}
        self.events.append(event)
        return event

    def send(self, turn: str, text: str, reason: str = "", seconds: float = 0.1) -> None:
        """Ada sends a turn and is answered."""
        prompt = {"prompt": {"text": text}}
        self.call("createTurn", {"parent": AGENT, "turnId": turn, "turn": prompt}, reason, seconds)

    def call(
        self, method: str, request: dict[str, Any], reason: str = "", seconds: float = 0.1
    ) -> None:
        """Ada makes a call and is answered."""
        self.numbers += 1
        number = self.numbers
        self.history.add(Kind.CALL, "ada-1", number=number, method=method, request=request)
        self.history.add(
            Kind.ANSWER,
            "ada-1",
            number=number,
            method=method,
            reason=reason,
            seconds=seconds,
            deadline=CALL_SECONDS,
            gateway="gateway-1",
        )

    def watch(self, number: int, after: int, client: str = "ada-1") -> None:
        """A client begins to follow the agent."""
        self.history.add(Kind.WATCH, client, AGENT, watch=number, after=after, log="")

    def show(self, number: int, *updates: Event, client: str = "ada-1") -> None:
        """A client receives updates."""
        text = json.dumps({"id": 1, "watchEventsResponse": {"updates": updates}})
        self.history.add(Kind.FRAME, client, AGENT, watch=number, text=text)

    def events_from(self, first: int, last: int | None = None) -> list[Event]:
        """Events of the log as updates."""
        return [{"event": event} for event in self.events[first - 1 : last]]

    def evidence(self) -> Evidence:
        """Everything, as a run would find it."""
        states = {
            event["turnId"]: event["item"]["turnOutcome"]["state"]
            for event in self.events
            if "turnOutcome" in event["item"]
        } | self.turns
        begun = {event["turnId"]: states.get(event["turnId"], "") for event in self.events}
        agent = AgentEvidence(
            name=AGENT,
            events=self.events,
            turns=[
                {"name": f"{AGENT}/turns/{turn}", "state": state}
                for turn, state in begun.items()
                if state != "MISSING"
            ],
            segments=[
                (
                    f"{event['sequence']:010d}",
                    {
                        "events": [event],
                        "nonce": f"n{number}",
                        "epoch": self.epochs.get(event["sequence"], 1),
                    },
                )
                for number, event in enumerate(self.events)
            ],
            documents={turn: {"state": state} for turn, state in begun.items()},
            work=self.work,
        )
        return Evidence(
            history=self.history,
            users=USERS,
            canaries=CANARIES,
            agents={AGENT: agent},
            effects=self.effects,
            alarms=self.alarms,
            emptied=self.emptied,
        )


def delta(block: str, text: str, *, snapshot: bool = False) -> Event:
    """Text of a piece still being written, as an update."""
    return {"delta": {"blockId": block, "text": text} | ({"snapshot": True} if snapshot else {})}


def message(block: str, text: str, **more: Any) -> Event:
    """A complete piece, as an item."""
    return {"blockId": block, "text": text, **more}


PROMPT = "canaryada\n/sim say hello\n/sim write t1.0 x\n/sim stream 3 10"


def healthy() -> Story:
    """One turn that says, uses a tool, and streams, seen by one device across a reconnect."""
    story = Story()
    story.send("t1", PROMPT, "SERVICE_UNAVAILABLE")
    story.send("t1", PROMPT)
    story.log("t1", userMessage={"text": PROMPT})
    story.log("t1", agentMessage=message("b1", "hello"))
    story.log("t1", toolCall={"toolCallId": "c1", "toolName": "Write"})
    story.log("t1", toolResult={"toolCallId": "c1", "output": "ok"})
    story.log("t1", agentMessage=message("b2", "w1 w2 w3"))
    story.log("t1", turnOutcome={"state": "STATE_FINISHED"})
    story.effects["t1.0"] = 1
    story.watch(1, 0)
    story.show(1, {"checkpoint": {"sequence": 0}}, *story.events_from(1, 1))
    story.show(1, delta("b1", "hel", snapshot=True), delta("b1", "lo"))
    story.show(1, *story.events_from(2, 4), delta("b2", "w1", snapshot=True))
    story.watch(2, 4)
    story.show(2, delta("b2", "w1 w2", snapshot=True), {"checkpoint": {"sequence": 4}})
    story.show(2, delta("b2", " w3"), *story.events_from(5))
    return story
