"""What the load generator says and counts: frames of the WebSocket protocol as bytes.

Does not know sockets, clocks or processes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

WATCH_ID = 1
"""Number of the one watch of a connection."""

WATCH_PREFIX = b'{"id":1,"watchEventsResponse":'
"""How every frame of that watch begins."""

# A frame of one delta, the usual one when turns are paced: parsing it would cost more than
# everything else the client does.
_DELTA = re.compile(
    rb'\{"id":1,"watchEventsResponse":\{"updates":\[\{"delta":\{'
    rb'"blockId":"([^"\\]+)"(?:,"thought":true)?,"text":"([^"\\]*)"\}\}\]\}\}'
)


def call(identifier: int, name: str, request: Mapping[str, Any]) -> bytes:
    """Encode one call as a text frame."""
    return orjson.dumps({"id": identifier, name: request})


def create_agent_request(user: str, agent: str) -> dict[str, Any]:
    """Request to make an agent with default settings."""
    return {"parent": user, "agentId": agent, "agent": {"backend": "simulation"}}


def create_turn_request(user: str, agent: str, *, turn: str, prompt: str) -> dict[str, Any]:
    """Request to start a turn."""
    return {
        "parent": f"{user}/agents/{agent}",
        "turnId": turn,
        "turn": {"prompt": {"text": prompt}},
    }


def watch_events(user: str, agent: str, *, after: int = 0) -> bytes:
    """Encode the one watch of a connection: deltas, and events after a number, of an agent."""
    request = {"parent": f"{user}/agents/{agent}", "includeDeltas": True}
    return call(WATCH_ID, "watchEvents", request | ({"afterSequence": after} if after else {}))


class FragmentCounter:
    """Counts the words that one watch brings, each once, however they arrive.

    The services may merge fragments into one delta, replace a block by a snapshot, or complete
    it by an item before every fragment was sent. So words are counted, not frames: a word is new
    when its place in its block was not reached before.

    Attributes:
        words: Words seen so far.
        withdrawn: Words of blocks that were taken back.
        doubled: Words by which a block's deltas exceeded the item that completed it.
        events: Stored events seen.
        head: Greatest sequence seen.
        outcomes: State of each finished turn, with the error if there was one, by its id.
        checkpoints: Checkpoints seen.
    """

    def __init__(self) -> None:
        self._counted: dict[bytes, int] = {}
        self.words = 0
        self.withdrawn = 0
        self.doubled = 0
        self.events = 0
        self.head = 0
        self.outcomes: dict[str, str] = {}
        self.checkpoints = 0

    def take(self, frame: bytes) -> list[bytes]:
        """Count one frame of the watch.

        Args:
            frame: The whole text frame.

        Returns:
            The words that were not seen before, in order.
        """
        usual = _DELTA.fullmatch(frame)
        return self._parse(frame) if usual is None else self._append(*usual.groups())

    def _append(self, block: bytes, text: bytes) -> list[bytes]:
        words = text.split()
        self._counted[block] = self._counted.get(block, 0) + len(words)
        self.words += len(words)
        return words

    def _reach(self, block: bytes, text: bytes) -> list[bytes]:
        words = text.split()
        counted = self._counted.get(block, 0)
        new = words[counted:]
        self._counted[block] = max(counted, len(words))
        self.words += len(new)
        return new

    def _parse(self, frame: bytes) -> list[bytes]:
        new: list[bytes] = []
        for update in orjson.loads(frame)["watchEventsResponse"].get("updates", ()):
            if delta := update.get("delta"):
                take = self._reach if delta.get("snapshot") else self._append
                new += take(delta["blockId"].encode(), delta.get("text", "").encode())
            elif event := update.get("event"):
                new += self._event(event)
            elif discarded := update.get("messageDiscarded"):
                self.withdrawn += self._counted.pop(discarded["blockId"].encode(), 0)
            elif "checkpoint" in update:
                self.checkpoints += 1
        return new

    def _event(self, event: Mapping[str, Any]) -> list[bytes]:
        self.events += 1
        self.head = event["sequence"]
        item = event["item"]
        if message := item.get("agentMessage") or item.get("agentThought"):
            block, text = message["blockId"].encode(), message.get("text", "").encode()
            new = self._reach(block, text)
            self.doubled += self._counted.pop(block) - len(text.split())
            return new
        if outcome := item.get("turnOutcome"):
            self._withdraw_all()
            reason = outcome.get("error", {}).get("message", "")
            self.outcomes[event["turnId"]] = f"{outcome.get('state', '')} {reason}".strip()
        elif "turnAttempt" in item:
            self._withdraw_all()
        return []

    def _withdraw_all(self) -> None:
        self.withdrawn += sum(self._counted.values())
        self._counted.clear()
