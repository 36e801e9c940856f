"""The database is away for a while: text goes on, nothing hangs, nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from tests.nemesis.checker import SLACK_SECONDS
from tests.nemesis.cluster import Cluster
from tests.nemesis.connection import CALL_SECONDS
from tests.nemesis.packets import Packets
from tests.system.clusters import Follower, cluster, owner, silence, user, words
from tests.system.lateness import Lateness
from tests.system.wire import Frame, Wire, WireError

pytestmark = [
    pytest.mark.alone,
    pytest.mark.firestore,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="module"),
]

AWAY_SECONDS = 60.0
SHORT_SECONDS = 10.0
REFUSED_SECONDS = 8.0
"""Within so long a new turn is refused; from the issue."""
BACK_SECONDS = 3.0
"""Within so long durable events go on; from the issue."""
ACCEPTED_SECONDS = 5.0
"""Within so long the same call for a new turn is taken."""
SHOWN_SECONDS = 2.0
"""No longer silence in a text that brings a word every 50 ms."""
PASSING = {"STORE_UNAVAILABLE", "SERVICE_UNAVAILABLE"}
"""What a client may be told meanwhile: try again later."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """Two of each."""
    async with cluster(tmp_path_factory.mktemp("outage"), lease_seconds=15) as site:
        yield site


@dataclass
class Answer:
    """How one call was answered."""

    call: str
    begin: float
    end: float = 0
    reason: str = ""
    error: Frame = field(default_factory=dict)


class Victim:
    """A user with a turn that runs, who goes on asking.

    Args:
        wire: The user's connection.
        agent: Whose turn runs.
    """

    def __init__(self, wire: Wire, agent: str) -> None:
        self.follower = Follower(wire, agent)
        self.turn = ""
        self.answers: list[Answer] = []
        self._wire = wire
        self._number = 0

    async def begin(self, first: int, second: int) -> asyncio.Task[None]:
        """Start a turn that needs the store after some words, and follow it."""
        self.turn = await self._wire.prompt(
            self.follower.agent,
            f"/sim stream {first} 50\n/sim write a.txt kept\n"
            f"/sim stream {second} 50\n/sim say after",
        )
        following = asyncio.create_task(self.follower.until(self.turn, patience=150))
        await self.follower.begun()
        return following

    async def ask(self, until: float) -> None:
        """Make every kind of call again and again, until the loop's time."""
        agent, loop = self.follower.agent, asyncio.get_running_loop()
        agents = {"parent": self._wire.user}
        while loop.time() < until:
            self._number += 1
            name = f"new-{self._number}"
            turn = {"turnId": name, "turn": {"prompt": {"text": "/sim say more"}}}
            await asyncio.gather(
                self._call("createTurn", {"parent": agent, **turn}),
                self._call("listEvents", {"parent": agent}),
                self._call("getAgent", {"name": agent}),
                self._call("listAgents", agents),
                self._call("createAgent", {**agents, "agentId": name, "agent": {}}),
                self._call("listKeys", agents),
            )
            await asyncio.sleep(1)

    async def accepted(self) -> float:
        """Ask for a turn until it is taken; return when that was, in the loop's seconds."""
        agent = self.follower.agent
        while True:
            try:
                await self._wire.prompt(agent, "/sim say again", turn_id="again")
            except WireError:
                await asyncio.sleep(0.1)
            else:
                return asyncio.get_running_loop().time()

    async def _call(self, call: str, request: Frame) -> None:
        loop = asyncio.get_running_loop()
        answer = Answer(call, loop.time())
        try:
            await self._wire.call(call, request, patience=30)
        except WireError as error:
            answer.reason, answer.error = error.reason, error.error
        answer.end = loop.time()
        self.answers.append(answer)


async def served_by(site: Cluster, stack: AsyncExitStack, pod: str, name: str) -> Victim:
    """Return a user whom this pod serves."""
    for number in range(20):
        gateway = f"gateway-{1 + number % 2}"
        wire = await stack.enter_async_context(user(site, f"{name}-{number}", gateway))
        agent = await wire.agent()
        if (await owner(site, wire.user)).name == pod:
            return Victim(wire, agent)
    raise AssertionError(f"{pod} serves nobody")


def check_answers(victim: Victim, late: Lateness, begin: float, back: float) -> None:
    """Nothing hangs, and who cannot be served is told to come back."""
    for answer in victim.answers:
        assert seconds(late, answer.begin, answer.end) < CALL_SECONDS + SLACK_SECONDS, answer
        if answer.reason:
            assert answer.reason in PASSING, answer
            assert answer.error.get("retryDelay"), answer
    new = [answer for answer in victim.answers if answer.call == "createTurn"]
    inside = [answer for answer in new if begin <= answer.begin and answer.end <= back]
    assert inside
    for answer in inside:
        assert "STORE_UNAVAILABLE" == answer.reason, answer
        assert seconds(late, answer.begin, answer.end) < REFUSED_SECONDS, answer


def check_turn(
    victim: Victim, late: Lateness, begin: float, back: float, words_said: tuple[int, int]
) -> None:
    """The turn went on all the time, and all of it is stored."""
    follower = victim.follower
    shown = [late.own(time) for time in follower.times]
    assert silence(shown, late.own(begin), late.own(back)) < SHOWN_SECONDS
    stored = min(time for time in follower.durable.values() if time >= back)
    assert seconds(late, back, stored) < BACK_SECONDS
    outcome = follower.transcript.outcome(victim.turn)
    assert outcome is not None
    assert "STATE_FINISHED" == outcome["state"]
    said = [message["text"] for message in follower.transcript.items("agentMessage")]
    assert [*map(words, words_said), "after"] == said[:3]


def seconds(late: Lateness, begin: float, end: float) -> float:
    """Return how long something took, less what this process was late meanwhile."""
    return late.own(end) - late.own(begin)


async def test_a_minute_without_the_database(site: Cluster) -> None:
    """Hung for one session pod; down, and then behind a network that swallows, for the other."""
    loop = asyncio.get_running_loop()
    first, second = 400, 840
    async with AsyncExitStack() as stack:
        late = await stack.enter_async_context(Lateness())
        packets = stack.enter_context(Packets())
        victims = [await served_by(site, stack, f"session-{n}", "minute") for n in (1, 2)]
        following = await asyncio.gather(*(victim.begin(first, second) for victim in victims))
        hung, other = site.to_store["session-1"], site.to_store["session-2"]
        begin = loop.time()
        hung.hang()
        other.refuse()
        asking = [asyncio.create_task(victim.ask(begin + AWAY_SECONDS)) for victim in victims]
        await asyncio.sleep(AWAY_SECONDS / 2)
        if packets.allowed:
            packets.drop([other.port])
            other.heal()
        await asyncio.sleep(AWAY_SECONDS / 2)
        packets.restore([other.port])
        hung.heal()
        other.heal()
        back = loop.time()
        accepted = await asyncio.gather(*(victim.accepted() for victim in victims))
        await asyncio.gather(*asking, *following)

    for victim, taken in zip(victims, accepted, strict=True):
        check_answers(victim, late, begin, back)
        assert seconds(late, back, taken) < ACCEPTED_SECONDS
        check_turn(victim, late, begin, back, (first, second))


async def test_a_database_that_is_down_for_a_moment(site: Cluster) -> None:
    """For less than a lease; connections are refused at once."""
    loop = asyncio.get_running_loop()
    first, second = 60, 200
    async with AsyncExitStack() as stack:
        late = await stack.enter_async_context(Lateness())
        victim = await served_by(site, stack, "session-1", "moment")
        following = await victim.begin(first, second)
        begin = loop.time()
        for proxy in site.to_store.values():
            proxy.refuse()
        asking = asyncio.create_task(victim.ask(begin + SHORT_SECONDS))
        await asyncio.sleep(SHORT_SECONDS)
        for proxy in site.to_store.values():
            proxy.heal()
        back = loop.time()
        taken = await victim.accepted()
        await asyncio.gather(asking, following)

    check_answers(victim, late, begin, back)
    assert seconds(late, back, taken) < ACCEPTED_SECONDS
    check_turn(victim, late, begin, back, (first, second))
