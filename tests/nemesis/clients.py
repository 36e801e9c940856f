"""Users as they are: devices that follow, send until they are acknowledged, cancel, answer.

Does not know faults, and judges nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.nemesis.connection import AnswerError, Connection, Frame, open_connection
from tests.nemesis.history import CLOSED, History, Kind
from tests.nemesis.prompts import Prompt, draw

_FINAL = {
    "RESOURCE_EXISTS",
    "RESOURCE_NOT_FOUND",
    "PERMISSION_RESOLVED",
    "TURN_FINISHED",
    "FIELD_INVALID",
}
"""Answers after which the same call again would be answered the same."""

_FORGET = {"SEQUENCE_UNKNOWN", "RESOURCE_NOT_FOUND"}
"""Why what is shown of an agent must be forgotten."""
_CURIOUS = 0.05
"""How often a user asks for an agent of another's, for each turn."""


@dataclass(slots=True)
class Following:
    """How far a device has come with one agent.

    Attributes:
        sequence: Number of the last event seen.
        log_id: What the last checkpoint called the log.
        ended: Turns whose outcome was seen.
        losses: How often everything known was lost.
        news: Set with every event and every loss.
    """

    sequence: int = 0
    log_id: str = ""
    ended: set[str] = field(default_factory=set)
    losses: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Device:
    """One client of one user: stays connected, and follows every agent of the user.

    Args:
        name: Names it in the history.
        user: The user's id.
        token: Makes a bearer token that is good now.
        gateways: Addresses by name; each connection goes to one of them at random.
        history: Where everything is recorded.
        chance: Decides.
    """

    def __init__(
        self,
        *,
        name: str,
        user: str,
        token: Callable[[], str],
        gateways: Mapping[str, str],
        history: History,
        chance: random.Random,
    ) -> None:
        self.name = name
        self.user = user
        self.following: dict[str, Following] = {}
        self._token = token
        self._gateways = gateways
        self._history = history
        self._chance = chance
        self._connection: asyncio.Future[Connection] | None = None
        self._answers: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Be connected for as long as possible, until cancelled."""
        while True:
            gateway = self._chance.choice(list(self._gateways))
            with contextlib.suppress(AnswerError):
                async with open_connection(
                    self._gateways[gateway],
                    self._token(),
                    history=self._history,
                    client=self.name,
                    gateway=gateway,
                ) as connection:
                    await self._use(connection)
            await asyncio.sleep(self._chance.uniform(0.05, 0.4))

    async def call(self, method: str, request: Frame) -> Frame:
        """Make a call as soon as there is a connection.

        Raises:
            AnswerError: It did not succeed.
        """
        if self._connection is None:
            self._connection = asyncio.get_running_loop().create_future()
        connection = await asyncio.shield(self._connection)
        return await connection.call(method, request)

    async def insist(self, method: str, request: Frame) -> str:
        """Make a call again and again until its answer is final; return the reason."""
        while True:
            try:
                await self.call(method, request)
            except AnswerError as error:
                if error.reason in _FINAL:
                    return error.reason
            else:
                return ""
            await asyncio.sleep(self._chance.uniform(0.05, 0.5))

    async def seen(self, agent: str, turn: str) -> None:
        """Wait until the outcome of a turn was seen, or everything was lost."""
        following = self.following[agent]
        losses = following.losses
        while turn not in following.ended and losses == following.losses:
            following.news.clear()
            await following.news.wait()

    def forget(self) -> None:
        """Give up waiting for outcomes: what was known is lost."""
        for following in self.following.values():
            following.losses += 1
            following.news.set()

    def positions(self) -> list[tuple[str, Callable[[], int]]]:
        """Each agent with what tells how far its history was seen."""
        return [
            (agent, lambda following=following: following.sequence)  # type: ignore[misc]
            for agent, following in self.following.items()
        ]

    async def _use(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        if self._connection is None or self._connection.done():
            self._connection = loop.create_future()
        self._connection.set_result(connection)
        try:
            async with asyncio.TaskGroup() as group:
                # Each takes what was read before the connection closed, then returns.
                for agent in self.following:
                    group.create_task(self._follow(connection, agent))
                await connection.closed.wait()
        finally:
            self._connection = loop.create_future()

    async def _follow(self, connection: Connection, agent: str) -> None:
        following = self.following[agent]
        while not connection.closed.is_set():
            try:
                async with contextlib.aclosing(
                    connection.watch(agent, after=following.sequence, log_id=following.log_id)  # type: ignore[type-var]
                ) as updates:
                    async for update in updates:
                        self._take(agent, following, update)
            except AnswerError as error:
                if error.reason in _FORGET and (following.sequence or following.log_id):
                    self._history.add(Kind.RESET, self.name, agent)
                    following.sequence, following.log_id = 0, ""
                elif error.reason == CLOSED:
                    return
            await asyncio.sleep(self._chance.uniform(0.05, 0.3))

    def _take(self, agent: str, following: Following, update: Frame) -> None:
        if "checkpoint" in update:
            following.log_id = update["checkpoint"].get("logId", "")
        if "event" not in update:
            return
        event = update["event"]
        following.sequence = event["sequence"]
        following.news.set()
        if "turnOutcome" in event["item"]:
            following.ended.add(event["turnId"])
        elif "permissionRequest" in event["item"]:
            asked = event["item"]["permissionRequest"]["permissionId"]
            answer = self._answer(f"{agent}/turns/{event['turnId']}", asked)
            task = asyncio.create_task(answer, name=f"{self.name} answers")
            self._answers.add(task)
            task.add_done_callback(self._answers.discard)

    async def _answer(self, turn: str, permission: str) -> None:
        await asyncio.sleep(self._chance.uniform(0, 0.3))
        decision = {"permissionId": permission, "allowed": self._chance.random() < 0.7}
        await self.insist("resolvePermission", {"name": turn, "decision": decision})


class Person:
    """One user with devices and agents, who gives each agent one turn after another.

    Args:
        devices: The devices.
        word: The user's canary word.
        chance: Decides.
        pause: Seconds between turns, at most.
    """

    def __init__(
        self, *, devices: Sequence[Device], word: str, chance: random.Random, pause: float = 0.4
    ) -> None:
        self.user = devices[0].user
        self.devices = devices
        self.word = word
        self.accepted: dict[str, list[str]] = {}
        """Turns that were acknowledged, by agent."""
        self.strangers: list[str] = []
        """Agents of others, which are asked for now and then."""
        self.stopped = False
        """Set when no new turn shall be begun."""
        self._chance = chance
        self._pause = pause
        self._number = 0

    def owns(self, agents: Sequence[str]) -> None:
        """Follow these agents from the next connection on."""
        for agent in agents:
            self.accepted[agent] = []
            for device in self.devices:
                device.following[agent] = Following()

    def forget(self) -> None:
        """Give up waiting for turns that were accepted: what was known is lost."""
        for turns in self.accepted.values():
            turns.clear()
        for device in self.devices:
            device.forget()

    async def create_agents(self) -> None:
        """Create the agents; repeated until they are there."""
        for agent in self.accepted:
            await self._create(agent)

    async def _create(self, agent: str) -> None:
        parent, _, agent_id = agent.partition("/agents/")
        request = {"parent": parent, "agentId": agent_id, "agent": {"displayName": self.word}}
        await self.devices[0].insist("createAgent", request)

    async def work(self, agent: str) -> None:
        """Give an agent turns until `stopped`; every one begun is sent until acknowledged."""
        while not self.stopped:
            self._number += 1
            turn = f"{self.user[-6:]}-{agent[-1]}-{self._number}"
            prompt = draw(self._chance, turn=turn, word=self.word)
            await self._give(agent, prompt)
            if self.strangers and self._chance.random() < _CURIOUS:
                await self._pry(self._chance.choice(self.strangers))
            await asyncio.sleep(self._chance.uniform(0, self._pause))

    async def _give(self, agent: str, prompt: Prompt) -> None:
        device = self._chance.choice(self.devices)
        refused = await self._send(device, agent, prompt.turn, prompt.text)
        if refused == "RESOURCE_NOT_FOUND":
            # Right only after a loss, which the checker judges.
            await self._create(agent)
        if refused:
            return
        self.accepted[agent].append(prompt.turn)
        dice = self._chance.random()
        if dice < 0.12:
            await self._send(self._chance.choice(self.devices), agent, prompt.turn, prompt.text)
        elif dice < 0.18:
            await self._send(device, agent, prompt.turn, f"{self.word} means something else")
        if prompt.cancel_after is not None:
            await asyncio.sleep(prompt.cancel_after)
            await device.insist("cancelTurn", {"name": f"{agent}/turns/{prompt.turn}"})
        if self._chance.random() < 0.7:
            await device.seen(agent, prompt.turn)

    async def _pry(self, agent: str) -> None:
        """Ask for what is somebody else's, by its right name."""
        with contextlib.suppress(AnswerError):
            await self._chance.choice(self.devices).call("listEvents", {"parent": agent})

    async def _send(self, device: Device, agent: str, turn: str, text: str) -> str:
        request = {"parent": agent, "turnId": turn, "turn": {"prompt": {"text": text}}}
        return await device.insist("createTurn", request)

    async def finished(self) -> None:
        """Wait until every device has seen the outcome of every accepted turn."""
        for device in self.devices:
            for agent, turns in self.accepted.items():
                for turn in turns:
                    await device.seen(agent, turn)
