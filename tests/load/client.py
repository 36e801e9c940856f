"""The load generator, a process of its own: `python -m tests.load.client < job`.

Reads one job from standard input and writes lines of JSON: `{"state": "measuring"}` when a
window opens, and at last `{"result": …}`. Does not know which system it talks to.
"""

from __future__ import annotations

import asyncio
import itertools
import resource
import secrets
import sys
import time
from collections.abc import Sequence
from typing import Any

import orjson
import uvloop

from tests.load import jobs, processes
from tests.load.connection import Account, Connection, Recorder
from tests.load.figures import Latency, Memory, Replay, Stream, Turns

CONNECTING = 16
"""Connections opened at once: a login storm is not what is measured."""

SETTLE_SECONDS = 1.0
"""From the last turn's first fragment to the opening of the window."""

STARTS_PER_SECOND = 150
"""Turns started a second before a window; they are not what is measured either."""

SATURATING_WORDS = 3000
"""Words of a turn without pauses: one block, a little under 64 KiB."""

DRAIN_SECONDS = 120.0
"""Patience with turns that an overloaded server still has to finish."""


async def connect(url: str, accounts: Sequence[Account], recorder: Recorder) -> list[Connection]:
    """Connect every account and watch its agent, a few at a time."""
    gate = asyncio.Semaphore(CONNECTING)
    # New agents each time: a history from before would be replayed and counted.
    agent = f"bench-{secrets.token_hex(4)}"

    async def one(account: Account) -> Connection:
        async with gate:
            connection = await Connection.open(
                url=url, account=account, agent=agent, recorder=recorder
            )
            await connection.watch()
            return connection

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(account)) for account in accounts]
    return [task.result() for task in tasks]


class Streaming:
    """Turns that stream on every connection until the window has closed."""

    def __init__(
        self, *, job: jobs.StreamJob, connections: Sequence[Connection], recorder: Recorder
    ) -> None:
        self._job = job
        self._connections = connections
        self._recorder = recorder
        self._loop = asyncio.get_running_loop()
        self._ramp_seconds = max(1.0, len(connections) / STARTS_PER_SECOND)
        self._closed = False
        self._expected = 0
        self._begun = 0
        self._all_begun = asyncio.Event()
        self._early = 0

    async def run(self) -> Stream:
        """Start the turns, measure the window, wait for every turn to end."""
        until = self._ramp_seconds + 2 * SETTLE_SECONDS + self._job.seconds
        deadline = self._loop.time() + until
        async with asyncio.TaskGroup() as group:
            for index, connection in enumerate(self._connections):
                delay = self._ramp_seconds * index / len(self._connections)
                group.create_task(self._stream(connection, delay, deadline))
            await self._all_begun.wait()
            await asyncio.sleep(SETTLE_SECONDS)
            figures = await self._window()
        delivered = sum(c.counter.words - c.counter.withdrawn for c in self._connections)
        doubled = sum(c.counter.doubled for c in self._connections)
        missing = abs(self._expected - delivered + doubled) + doubled
        return Stream(**figures, missing=missing, outlasted=self._early == 0)

    async def _stream(self, connection: Connection, delay: float, deadline: float) -> None:
        await asyncio.sleep(delay)
        pause_ms = self._job.pause_ms
        for number in itertools.count():
            words = SATURATING_WORDS
            if pause_ms:
                # Every turn outlasts the window, so that none starts or ends within it.
                words = int((deadline - self._loop.time()) * 1000 / pause_ms)
            self._expected += words
            await connection.start_turn(turn_id(), f"/sim clock {words} {pause_ms}")
            if number == 0:
                self._begun += 1
                if self._begun == len(self._connections):
                    self._all_begun.set()
            await connection.turn_end(DRAIN_SECONDS)
            if pause_ms and not self._closed:
                self._early += 1
            if pause_ms or self._closed:
                return

    async def _window(self) -> dict[str, Any]:
        recorder, job = self._recorder, self._job
        say({"state": "measuring"})
        before = processes.cpu_of_each(job.pids)
        own, words, frames = processes.own_cpu_seconds(), recorder.words, recorder.frames
        begin = self._loop.time()
        recorder.measuring = True
        await asyncio.sleep(job.seconds)
        recorder.measuring = False
        self._closed = True
        seconds = self._loop.time() - begin
        after = processes.cpu_of_each(job.pids)
        fragments = recorder.words - words
        return {
            "turns": len(self._connections),
            "offered": 1000 * len(self._connections) / job.pause_ms if job.pause_ms else 0.0,
            "seconds": round(seconds, 3),
            "fragments": fragments,
            "frames": recorder.frames - frames,
            "rate": round(fragments / seconds, 1),
            "latency": Latency.of_microseconds(recorder.delays_us),
            "cpu_us": {
                name: round((after[name] - before[name]) / max(1, fragments) * 1e6, 2)
                for name in job.pids
            },
            "client_cores": round((processes.own_cpu_seconds() - own) / seconds, 3),
            "load": round(processes.load_average(), 2),
        }


async def run_streams(job: jobs.StreamJob) -> Stream:
    """Run a `StreamJob`."""
    recorder = Recorder()
    connections = await connect(job.url, job.accounts, recorder)
    try:
        return await Streaming(job=job, connections=connections, recorder=recorder).run()
    finally:
        for connection in connections:
            connection.close()


async def run_turns(job: jobs.TurnJob) -> Turns:
    """Run a `TurnJob`."""
    (connection,) = await connect(job.url, (job.account,), Recorder())
    acknowledged: list[float] = []
    first: list[float] = []
    for _ in range(job.count + 3):
        begin = time.perf_counter()
        await connection.start_turn(turn_id(), "/sim clock 3 0")
        acknowledged.append((time.perf_counter() - begin) * 1e6)
        await connection.turn_end(DRAIN_SECONDS)
        first.append((connection.first_word - begin) * 1e6)
        await asyncio.sleep(begin + job.gap_seconds - time.perf_counter())
    connection.close()
    return Turns(
        streaming=0,
        acknowledged=Latency.of_microseconds(acknowledged[3:]),
        first_fragment=Latency.of_microseconds(first[3:]),
    )


async def run_replay(job: jobs.ReplayJob) -> Replay:
    """Run a `ReplayJob`."""
    (writer,) = await connect(job.url, (job.account,), Recorder())
    while writer.counter.head < job.events:
        lines = min(500, job.events - writer.counter.head)
        await writer.start_turn(turn_id(), "\n".join(["/sim say An event of a history."] * lines))
        await writer.turn_end(DRAIN_SECONDS)
    events, durations, size = writer.counter.head, [], 0
    writer.close()
    for _ in range(job.repeats):
        reader = await Connection.open(
            url=job.url, account=job.account, agent=writer.agent, recorder=Recorder()
        )
        begin = time.perf_counter()
        await reader.follow()
        durations.append((time.perf_counter() - begin) * 1e6)
        size = reader.bytes
        if reader.counter.events != events:
            msg = f"{reader.counter.events} of {events} events were replayed"
            raise RuntimeError(msg)
        reader.close()
    return Replay(events=events, bytes=size, duration=Latency.of_microseconds(durations))


async def run_idle(job: jobs.IdleJob) -> list[Memory]:
    """Run an `IdleJob`."""
    recorder = Recorder()
    connections = await connect(job.url, job.warm, recorder)
    for connection in connections:
        await connection.start_turn(turn_id(), "/sim clock 100 0")
        await connection.turn_end(DRAIN_SECONDS)
    await asyncio.sleep(SETTLE_SECONDS)
    memory = [Memory(users=0, resident=processes.resident_of_each(job.pids))]
    idle: list[Connection] = []
    for step in job.steps:
        idle += await connect(job.url, job.accounts[len(idle) : step], recorder)
        await asyncio.sleep(SETTLE_SECONDS)
        memory.append(Memory(users=step, resident=processes.resident_of_each(job.pids)))
    for connection in (*connections, *idle):
        connection.close()
    return memory


def turn_id() -> str:
    """Make a turn id; none of its digits can be mistaken for a clock word."""
    return f"t-{secrets.token_hex(6)}"


def say(line: dict[str, Any]) -> None:
    """Write one line of JSON to standard output."""
    sys.stdout.buffer.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
    sys.stdout.buffer.flush()


async def run(job: jobs.Job) -> Stream | Turns | Replay | list[Memory]:
    """Run any job."""
    match job:
        case jobs.StreamJob():
            return await run_streams(job)
        case jobs.TurnJob():
            return await run_turns(job)
        case jobs.ReplayJob():
            return await run_replay(job)
        case jobs.IdleJob():
            return await run_idle(job)


def main() -> None:
    """Run the job on standard input."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    say({"result": uvloop.run(run(jobs.parse(sys.stdin.buffer.readline())))})


if __name__ == "__main__":
    main()
