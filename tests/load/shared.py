"""What is measured on a database that several of each service share.

Does not know how the services are started, nor the goals.
"""

from __future__ import annotations

import asyncio
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import uvloop

from tests.emulator import EmulatorMissingError, find_emulator
from tests.load import accounts, client, jobs
from tests.load.cluster import Cluster
from tests.load.connection import Account, Connection, Recorder
from tests.load.figures import Latency, Operations, Resume, Shared, Takeover, Turns
from tests.load.frames import FragmentCounter
from tests.load.returning import Returning, come_back, settled
from tests.load.silence import Follower

TOOL_CALLS = 10
ITEMS_PER_TURN = 20
ITEM_PAUSE_MS = 150
PAUSE_MS = 20
PATIENCE_SECONDS = 60.0
SETTLE_SECONDS = 3.0
"""From the connecting of many clients to their being cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How thoroughly it is measured.

    Attributes:
        turns: Short turns one after another.
        items: Items whose way to the database is measured.
        counted: Short turns whose operations are counted.
        seconds: Length of the streamed turn whose operations are counted.
        streams: Turns that stream while a session service is ended.
        endings: How often one is ended by each signal.
        clients: Clients whose gateway is killed.
    """

    turns: int = 200
    items: int = 200
    counted: int = 20
    seconds: float = 60.0
    streams: int = 16
    endings: int = 2
    clients: int = 1000


WHOLE = Plan()
"""What the published figures come from."""

QUICK = Plan(turns=20, items=20, counted=5, seconds=15.0, streams=4, endings=1, clients=50)
"""Whether everything works; its figures say little."""


def measure(plan: Plan, progress: Callable[[str], None]) -> Shared | None:
    """Measure everything; None on a machine that has no emulator.

    Args:
        plan: How thoroughly.
        progress: Told what begins, or that there is no emulator.
    """
    try:
        find_emulator()
    except EmulatorMissingError as error:
        progress(f"shared database: left out, {error}")
        return None
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="moorline-bench-") as folder:
        return uvloop.run(_measure(plan, Path(folder), progress))


async def _measure(plan: Plan, folder: Path, progress: Callable[[str], None]) -> Shared:
    progress("shared database: starting an emulator and two of each service")
    async with Cluster(folder) as cluster:
        needed = max(plan.clients, plan.streams) + 1
        progress(f"shared database: making {needed} users")
        users = await asyncio.to_thread(accounts.make, cluster.system("gateway-1"), needed)
        run = _Run(plan=plan, cluster=cluster, users=users, progress=progress)
        # Operations come first: only one user is there meanwhile.
        short, streamed = await run.short(), await run.streamed()
        return Shared(
            short=short,
            streamed=streamed,
            turns=await run.turns(),
            durable=await run.durable(),
            takeovers=(await run.takeover(kill=True), await run.takeover(kill=False)),
            resumes=await run.resumes(),
        )


class _Run:
    def __init__(
        self,
        *,
        plan: Plan,
        cluster: Cluster,
        users: Sequence[Account],
        progress: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._cluster = cluster
        self._alone, *self._users = users
        self._url = cluster.system("gateway-1").url
        self._progress = progress

    async def short(self) -> Operations:
        """Count what a short turn costs, one a second on a warm session."""
        self._progress("shared database: operations of short turns")
        return await self._operations(["/sim say Yes."] * self._plan.counted, 1.0)

    async def streamed(self) -> Operations:
        """Count what a turn costs that streams and calls tools."""
        seconds = self._plan.seconds
        self._progress(f"shared database: operations of a turn of {seconds:.0f} s")
        words = int(seconds * 1000 / TOOL_CALLS / PAUSE_MS)
        steps = [
            f"/sim stream {words} {PAUSE_MS}\n/sim write file-{number} text"
            for number in range(TOOL_CALLS)
        ]
        return await self._operations(["\n".join([*steps, "/sim say Done."])], 0.0)

    async def _operations(self, prompts: Sequence[str], period: float) -> Operations:
        (connection,) = await client.connect(self._url, [self._alone], Recorder())
        await self._turn(connection, "/sim say Hello.")
        await asyncio.sleep(2)
        before, begin = await self._cluster.documents(), time.perf_counter()
        busy = 0.0
        for number, prompt in enumerate(prompts, start=1):
            began = time.perf_counter()
            await self._turn(connection, prompt)
            busy += time.perf_counter() - began
            await asyncio.sleep(max(0.0, begin + number * period - time.perf_counter()))
        # An agent's document may be written a second late.
        await asyncio.sleep(1.2)
        after = await self._cluster.documents()
        connection.close()
        each = {name: round((after[name] - before[name]) / len(prompts), 2) for name in after}
        return Operations(
            turns=len(prompts),
            seconds=round(busy / len(prompts), 2),
            writes=each["write"],
            reads=each["read"],
            deletes=each["delete"],
        )

    async def turns(self) -> Turns:
        """Time short turns."""
        self._progress("shared database: short turns, one after another")
        job = jobs.TurnJob(
            url=self._url, account=self._alone, count=self._plan.turns, gap_seconds=0.06
        )
        return await client.run_turns(job)

    async def durable(self) -> Latency:
        """Time items from their completion until they are told."""
        self._progress("shared database: from a completed item to its event")
        (connection,) = await client.connect(self._url, [self._alone], Recorder())
        connection.counter = clock = ItemClock()
        step = f"/sim clock 1 0\n/sim write file text\n/sim sleep {ITEM_PAUSE_MS}"
        while len(clock.delays_us) < self._plan.items:
            await self._turn(connection, "\n".join([step] * ITEMS_PER_TURN))
        connection.close()
        return Latency.of_microseconds(clock.delays_us)

    async def takeover(self, *, kill: bool) -> Takeover:
        """End session pods under streams, and see how long these stand still."""
        signal = "SIGKILL" if kill else "SIGTERM"
        self._progress(f"shared database: streams whose session service gets {signal}")
        followers = [
            await Follower.begin(
                url=self._cluster.system(f"gateway-{1 + number % 2}").url, account=account
            )
            for number, account in enumerate(self._users[: self._plan.streams])
        ]
        silences: list[float] = []
        for _ in range(self._plan.endings):
            await asyncio.gather(*(follower.stream(PAUSE_MS) for follower in followers))
            await asyncio.sleep(2)
            silences += await self._end_owner(followers, kill=kill)
            await asyncio.gather(*(follower.stop() for follower in followers))
        for follower in followers:
            follower.close()
        return Takeover(
            signal=signal,
            streams=len(silences),
            median_seconds=round(statistics.median(silences), 3),
            most_seconds=round(max(silences), 3),
        )

    async def _end_owner(self, followers: Sequence[Follower], *, kill: bool) -> list[float]:
        """End the session pod with most of the streams; return how long they stood still."""
        owners = [await self._cluster.owner(follower.account.user) for follower in followers]
        name = max(set(owners), key=owners.count)
        pod = self._cluster.pods[name]
        concerned = [one for one, owner in zip(followers, owners, strict=True) if owner == name]
        began = time.time()
        ended = asyncio.create_task(pod.terminate(client.DRAIN_SECONDS)) if not kill else None
        if kill:
            pod.kill()
        async with asyncio.timeout(PATIENCE_SECONDS):
            for follower in concerned:
                await self._cluster.left(follower.account.user, name)
                await follower.heard(after=time.time())
        await asyncio.sleep(1)
        silences = [follower.silence_after(began) for follower in concerned]
        if ended is not None:
            await ended
        # At the same address, as its lease is another's by now.
        pod.start()
        await self._cluster.listening(name)
        return silences

    async def resumes(self) -> tuple[Resume, ...]:
        """Kill a gateway under its clients, and see when all of them are back; both ways."""
        clients = self._plan.clients
        self._progress(f"shared database: {clients} clients connect")
        there = await settled(self._url, self._users[:clients])
        resumes = []
        for restarted in (True, False):
            resume, there = await self._resume(there, restarted=restarted)
            resumes.append(resume)
        for one in there:
            one.close()
        return tuple(resumes)

    async def _resume(
        self, there: Sequence[Returning], *, restarted: bool
    ) -> tuple[Resume, list[Returning]]:
        way = "it, started again" if restarted else "the other one"
        self._progress(f"shared database: they come back from a killed gateway to {way}")
        await asyncio.sleep(SETTLE_SECONDS)
        gone = self._cluster.pods["gateway-1"]
        url = self._url if restarted else self._cluster.system("gateway-2").url
        cut = time.perf_counter()
        gone.kill()
        if restarted:
            gone.start()
        returns = await asyncio.gather(*(come_back(one, url=url, cut=cut) for one in there))
        resume = Resume(
            clients=len(there),
            restarted=restarted,
            median_seconds=round(statistics.median(one.seconds for one in returns), 3),
            most_seconds=round(max(one.seconds for one in returns), 3),
            refused=sum(one.refused for one in returns),
        )
        return resume, [one.connection for one in returns]

    async def _turn(self, connection: Connection, prompt: str) -> None:
        await connection.start_turn(client.turn_id(), prompt)
        await connection.turn_end(client.DRAIN_SECONDS)


class ItemClock(FragmentCounter):
    """Tells how late events came whose message is the time at which it was made.

    Attributes:
        delays_us: Microseconds from the making of each message to its event.
    """

    def __init__(self) -> None:
        super().__init__()
        self.delays_us: list[int] = []

    def take(self, frame: bytes) -> list[bytes]:
        """See `FragmentCounter`."""
        now = time.time_ns() // 1000
        if b'"agentMessage"' in frame:
            for update in orjson.loads(frame)["watchEventsResponse"]["updates"]:
                message = update.get("event", {}).get("item", {}).get("agentMessage")
                if message is not None:
                    self.delays_us.append(now - int(message["text"]))
        return super().take(frame)
