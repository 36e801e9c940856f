"""A platform in memory, for tests of the client: agents, turns, events, permissions.

Turns do what the test's script says. Knows no socket.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
TOKEN = "good"
USER = "users/ada"
TIME = "2026-11-26T10:00:00.123456Z"

CODES = {
    "FIELD_INVALID": 3,
    "RESOURCE_NOT_FOUND": 5,
    "RESOURCE_EXISTS": 6,
    "FORBIDDEN": 7,
    "QUEUE_FULL": 8,
    "RATE_LIMITED": 8,
    "PERMISSION_RESOLVED": 9,
    "BACKEND_UNAVAILABLE": 9,
    "ETAG_MISMATCH": 10,
    "FENCED": 10,
    "SEQUENCE_UNKNOWN": 11,
    "METHOD_UNKNOWN": 12,
    "INTERNAL": 13,
    "SERVICE_UNAVAILABLE": 14,
    "TOKEN_INVALID": 16,
    "AGENT_CRASHED": 13,
    "PROVIDER_OVERLOADED": 14,
    "CALL_TIMEOUT": 4,
}


def error(reason: str, message: str = "No.", **more: Any) -> Json:
    """An `errors.v1.Error` in JSON."""
    code = CODES[reason]
    return {"code": code, "reason": f"ERROR_REASON_{reason}", "message": message, **more}


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so, 15 s at most: a program may have to be started for it."""
    loop = asyncio.get_running_loop()
    end = loop.time() + 15
    while not condition():
        assert loop.time() < end, condition
        await asyncio.sleep(0.001)


class RefusedError(Exception):
    """Raised by a call of the platform that is answered with an error."""

    def __init__(self, reason: str, message: str = "No.", **more: Any) -> None:
        super().__init__(reason)
        self.error = error(reason, message, **more)


@dataclass(eq=False)
class Agent:
    """An agent's history and who watches it."""

    fields: Json
    events: list[Json] = field(default_factory=list)
    open: dict[str, Json] = field(default_factory=dict)
    watchers: list[asyncio.Queue[Json]] = field(default_factory=list)
    turns: dict[str, Json] = field(default_factory=dict)
    queue: asyncio.Queue[Turn] = field(default_factory=asyncio.Queue)
    log_id: str = "log-1"

    def record(self, turn_id: str, **item: Any) -> None:
        """Store an event and tell who watches."""
        event = {
            "sequence": len(self.events) + 1,
            "turnId": turn_id,
            "createTime": TIME,
            "item": item,
        }
        self.events.append(event)
        piece = item.get("agentMessage") or item.get("agentThought")
        if piece:
            self.open.pop(piece["blockId"], None)
        if "turnOutcome" in item or "turnAttempt" in item:
            self.open.clear()
        self.tell({"event": event})

    def write(self, block_id: str, text: str, *, thought: bool = False) -> None:
        """Add to the text of a piece still being written."""
        delta: Json = {"blockId": block_id, "text": text}
        if thought:
            delta["thought"] = True
        if block_id in self.open:
            self.open[block_id]["text"] += text
            self.tell({"delta": delta})
        else:
            self.open[block_id] = {**delta, "snapshot": True}
            self.tell({"delta": {**delta, "snapshot": True}})

    def discard(self, block_id: str) -> None:
        """Take a piece back."""
        self.open.pop(block_id, None)
        self.tell({"messageDiscarded": {"blockId": block_id}})

    def tell(self, update: Json) -> None:
        """Hand an update to who watches."""
        for watcher in self.watchers:
            watcher.put_nowait(update)


@dataclass(eq=False)
class Turn:
    """A turn as its script sees it."""

    agent: Agent
    id: str
    prompt: str
    answers: dict[str, asyncio.Future[Json]] = field(default_factory=dict)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    numbers: Any = field(default_factory=lambda: itertools.count(1))

    def record(self, **item: Any) -> None:
        """Store an event of this turn."""
        self.agent.record(self.id, **item)

    async def say(self, text: str, *, block_id: str | None = None) -> None:
        """Stream a message word by word and complete it."""
        block_id = block_id or f"{self.id}-b{next(self.numbers)}"
        for word in text.split(" "):
            self.agent.write(block_id, f" {word}" if block_id in self.agent.open else word)
            await asyncio.sleep(0)
        self.record(agentMessage={"blockId": block_id, "text": text})

    async def ask(self, tool: str, **question: Any) -> Json:
        """Ask for a permission and wait for the decision."""
        name = f"p{next(self.numbers)}"
        self.answers[name] = asyncio.get_running_loop().create_future()
        call = {"toolCallId": f"c-{name}", "toolName": tool, "inputJson": '{"text": "x"}'}
        self.record(toolCall=call)
        self.record(permissionRequest={"permissionId": name, **call, **question})
        self.agent.fields["state"] = "STATE_NEEDS_YOU"
        decision = await self.answers[name]
        self.agent.fields["state"] = "STATE_WORKING"
        self.record(permissionDecision={**decision, "decider": "DECIDER_USER"})
        return decision


Script = Callable[[Turn], Awaitable[Json | None]]
"""Plays a turn; returns the outcome, None for a finished one."""


async def echo(turn: Turn) -> None:
    """Answer with the prompt."""
    await turn.say(f"You said: {turn.prompt}")


class Platform:
    """Everything that outlives a socket."""

    def __init__(self) -> None:
        self.agents: dict[str, Agent] = {}
        self.keys: dict[str, Json] = {}
        self.script: Script = echo
        # True: a turn that waits has no event before it begins.
        self.silent_queue = False
        self.calls: list[tuple[str, Json]] = []
        self.refuse_next: list[RefusedError] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.running: dict[str, Turn] = {}
        self.changes: list[asyncio.Queue[Json]] = []
        self.usage: Json = {}
        self.checks: list[Json] = []

    def close(self) -> None:
        """End what runs."""
        for task in self.tasks:
            task.cancel()

    def call(self, name: str, request: Json) -> Json:
        """Answer a unary call."""
        self.calls.append((name, request))
        if self.refuse_next:
            raise self.refuse_next.pop(0)
        method = getattr(self, "do_" + re.sub("([A-Z])", r"_\1", name).lower(), None)
        if method is None:
            raise RefusedError("METHOD_UNKNOWN")
        reply: Json = method(request)
        return reply

    def agent(self, name: str) -> Agent:
        """An agent of the user's."""
        if name not in self.agents:
            raise RefusedError("RESOURCE_NOT_FOUND", "There is no such thing.")
        return self.agents[name]

    def do_authenticate(self, request: Json) -> Json:
        """Renew."""
        return {"user": USER}

    def do_list_backends(self, request: Json) -> Json:
        """List two backends."""
        return {
            "backends": [
                {
                    "name": "backends/simulation",
                    "available": True,
                    "default": True,
                    "capabilities": {"deltas": True, "permissions": True},
                },
                {"name": "backends/docker", "detail": "DISABLE_DOCKER is set."},
            ]
        }

    def do_get_usage(self, request: Json) -> Json:
        """Tell what was consumed."""
        return {"usage": self.usage}

    def do_diagnose(self, request: Json) -> Json:
        """Tell what was found."""
        return {"checks": self.checks}

    def do_create_agent(self, request: Json) -> Json:
        """Create, or find the one created before."""
        name = f"{request['parent']}/agents/{request['agentId']}"
        if request["agent"].get("backend") == "moon":
            raise RefusedError("BACKEND_UNAVAILABLE", "There is no backend moon.")
        if name not in self.agents:
            fields = {"name": name, "state": "STATE_IDLE", "createTime": TIME, "etag": "1"}
            self.agents[name] = Agent({**request["agent"], **fields})
            task = asyncio.create_task(self._work(self.agents[name]))
            self.tasks.add(task)
            self._changed({"agent": self.agents[name].fields})
        return {"agent": self._facts(self.agents[name])}

    def do_get_agent(self, request: Json) -> Json:
        """Read."""
        return {"agent": self._facts(self.agent(request["name"]))}

    def do_list_agents(self, request: Json) -> Json:
        """List one a page, so that paging is seen."""
        names = list(self.agents)
        start = int(request["pageToken"] or 0)
        more = {"nextPageToken": str(start + 1)} if start + 1 < len(names) else {}
        page = [self._facts(self.agents[name]) for name in names[start : start + 1]]
        return {"agents": page, **more}

    def do_update_agent(self, request: Json) -> Json:
        """Change what the mask names."""
        agent = self.agent(request["agent"]["name"])
        for member in request["updateMask"].split(","):
            agent.fields[member] = request["agent"][member]
        return {"agent": self._facts(agent)}

    def do_delete_agent(self, request: Json) -> Json:
        """Delete."""
        self.agent(request["name"])
        del self.agents[request["name"]]
        self._changed({"removed": request["name"]})
        return {}

    def do_create_turn(self, request: Json) -> Json:
        """Record, or find the one recorded before."""
        agent = self.agent(request["parent"])
        turn_id, text = request["turnId"], request["turn"]["prompt"]["text"]
        if turn_id in agent.turns:
            if agent.turns[turn_id]["prompt"]["text"] != text:
                raise RefusedError("RESOURCE_EXISTS", "Another prompt has this id.")
            return {"turn": agent.turns[turn_id]}
        busy = any(turn["state"] in UNFINISHED for turn in agent.turns.values())
        agent.turns[turn_id] = {
            "name": f"{request['parent']}/turns/{turn_id}",
            "prompt": {"text": text},
            "state": "STATE_QUEUED" if busy else "STATE_RUNNING",
            "createTime": TIME,
        }
        if not (busy and self.silent_queue):
            self._begin(agent, turn_id)
        turn = self.running[turn_id] = Turn(agent, turn_id, text)
        agent.queue.put_nowait(turn)
        return {"turn": dict(agent.turns[turn_id])}

    def do_get_turn(self, request: Json) -> Json:
        """Read."""
        parent, _, turn_id = request["name"].partition("/turns/")
        agent = self.agent(parent)
        if turn_id not in agent.turns:
            raise RefusedError("RESOURCE_NOT_FOUND", "There is no such thing.")
        return {"turn": agent.turns[turn_id]}

    def do_list_turns(self, request: Json) -> Json:
        """List newest first, or the unfinished ones in their order."""
        turns = list(self.agent(request["parent"]).turns.values())
        if request["unfinishedOnly"]:
            return {"turns": [turn for turn in turns if turn["state"] in UNFINISHED]}
        return {"turns": turns[::-1]}

    def do_cancel_turn(self, request: Json) -> Json:
        """Ask to stop."""
        turn = self.do_get_turn(request)["turn"]
        self.running[request["name"].rpartition("/")[2]].cancelled.set()
        return {"turn": turn}

    def do_resolve_permission(self, request: Json) -> Json:
        """Answer; the first answer wins."""
        turn = self.running[request["name"].rpartition("/")[2]]
        decision = request["decision"]
        waiting = turn.answers.get(decision["permissionId"])
        if waiting is None:
            raise RefusedError("RESOURCE_NOT_FOUND", "There is no such thing.")
        if waiting.done():
            if waiting.result()["allowed"] != decision["allowed"]:
                raise RefusedError("PERMISSION_RESOLVED", "Somebody answered before.")
        else:
            waiting.set_result(decision)
        return {}

    def do_list_events(self, request: Json) -> Json:
        """Read a page."""
        events = self.agent(request["parent"]).events
        after = request["afterSequence"]
        page = events[after : after + min(request["pageSize"], 50)]
        return {"events": page, "headSequence": len(events)}

    def do_create_key(self, request: Json) -> Json:
        """Make a key."""
        name = f"{request['parent']}/keys/k{len(self.keys) + 1}0000000"
        self.keys[name] = {"name": name, "createTime": TIME, **request}
        return {"key": self.keys[name], "secret": "moorline_k1_secret"}

    def do_list_keys(self, request: Json) -> Json:
        """List keys."""
        return {"keys": list(self.keys.values())}

    def do_revoke_key(self, request: Json) -> Json:
        """Revoke a key."""
        if request["name"] not in self.keys:
            raise RefusedError("RESOURCE_NOT_FOUND", "There is no such thing.")
        self.keys[request["name"]]["revokeTime"] = TIME
        return {"key": self.keys[request["name"]]}

    def _facts(self, agent: Agent) -> Json:
        running = [turn["name"] for turn in agent.turns.values() if turn["state"] in UNFINISHED]
        more: Json = {"runningTurn": running[0]} if running else {}
        return {**agent.fields, **more, "headSequence": len(agent.events)}

    def _begin(self, agent: Agent, turn_id: str) -> None:
        turn = agent.turns[turn_id]
        if "sequence" not in turn:
            agent.record(turn_id, userMessage=turn["prompt"])
            turn["sequence"] = len(agent.events)

    def _changed(self, update: Json) -> None:
        for watcher in self.changes:
            watcher.put_nowait(update)

    async def _work(self, agent: Agent) -> None:
        while True:
            turn = await agent.queue.get()
            agent.turns[turn.id]["state"] = "STATE_RUNNING"
            self._begin(agent, turn.id)
            agent.fields["state"] = "STATE_WORKING"
            outcome = await self._play(turn)
            usage = {"inputTokens": 10, "outputTokens": 5, "costUsdMicros": 1500}
            agent.turns[turn.id]["state"] = outcome["state"]
            agent.fields["state"] = "STATE_IDLE"
            turn.record(turnOutcome={"usage": usage, "duration": "1.500s", **outcome})

    async def _play(self, turn: Turn) -> Json:
        script = asyncio.ensure_future(self.script(turn))
        stop = asyncio.ensure_future(turn.cancelled.wait())
        await asyncio.wait({script, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if script.done():
            return await script or {"state": "STATE_FINISHED"}
        script.cancel()
        return {"state": "STATE_CANCELLED"}


UNFINISHED = {"STATE_QUEUED", "STATE_RUNNING"}
