"""The faults: each breaks something for a while and makes it whole again.

Does not know when which one is due.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterable

from tests.nemesis.cluster import Cluster
from tests.nemesis.history import History, Kind
from tests.nemesis.packets import Packets
from tests.nemesis.pods import FAKETIME, Pod
from tests.proxy import FaultProxy

_EXIT_SECONDS = 15.0
_SLOW_MICROSECONDS = 150_000


class Faults:
    """Breaks the parts of one cluster, and records it.

    Every method returns when its fault is healed, also when it is cancelled.

    Args:
        cluster: What to break.
        history: Where it is recorded.
        packets: What partitions are made with.
        chance: Decides how long.
    """

    def __init__(
        self, *, cluster: Cluster, history: History, packets: Packets, chance: random.Random
    ) -> None:
        self._cluster = cluster
        self._history = history
        self._packets = packets
        self._chance = chance
        self._number = 0

    async def kill(self, pod: Pod) -> None:
        """SIGKILL a pod, and start another a moment later."""
        async with self._fault("kill", pod.name):
            pod.kill()
            await self._sleep(0, 1)
            pod.start()

    async def pause(self, pod: Pod) -> None:
        """SIGSTOP a pod until after its lease has run out."""
        async with self._fault("pause", pod.name):
            pod.pause()
            try:
                lease = self._cluster.shape.lease_seconds
                await self._sleep(1.2 * lease, 1.8 * lease)
            finally:
                pod.resume()

    async def roll(self, pod: Pod) -> None:
        """SIGTERM a pod, and start another when it has ended, as a rolling update does."""
        async with self._fault("roll", pod.name):
            try:
                await pod.terminate(_EXIT_SECONDS)
            finally:
                pod.start()

    async def wrong_clock(self, pod: Pod) -> None:
        """Replace a pod by one whose clock is an hour off, or right again."""
        clock = self._chance.choice(["+1h", "-1h"]) if not pod.clock else ""
        async with self._fault(f"clock {clock or 'right'}", pod.name):
            pod.kill()
            pod.clock = clock
            pod.start()

    async def cut(self, leg: str, proxy: FaultProxy) -> None:
        """Reset every connection of a leg."""
        async with self._fault("cut", leg):
            proxy.reset()

    async def lose_answers(self, leg: str, proxy: FaultProxy) -> None:
        """Let requests through and throw the answers away, then break the connections."""
        async with self._fault("lose answers", leg):
            proxy.drop_answers()
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(2):
                        await proxy.answer_lost()
                await self._sleep(0, 0.3)
            finally:
                proxy.heal()

    async def hang(
        self, legs: Iterable[str], proxies: Iterable[FaultProxy], seconds: float | None = None
    ) -> None:
        """Let no byte through, and let connections stand; what was sent arrives afterwards."""
        proxies = list(proxies)
        async with self._fault("hang", ", ".join(legs)):
            for proxy in proxies:
                proxy.hang()
            try:
                await self._sleep(seconds or 1, seconds or 5)
            finally:
                for proxy in proxies:
                    proxy.heal()

    async def refuse(self, legs: Iterable[str], proxies: Iterable[FaultProxy]) -> None:
        """Refuse connections, as if nobody listened."""
        proxies = list(proxies)
        async with self._fault("refuse", ", ".join(legs)):
            for proxy in proxies:
                proxy.refuse()
            try:
                await self._sleep(0.5, 4)
            finally:
                for proxy in proxies:
                    proxy.heal()

    async def delay(self, leg: str, proxy: FaultProxy) -> None:
        """Hold each answer back for a while."""
        async with self._fault("delay", leg):
            proxy.latency = self._chance.uniform(0.05, 0.4)
            try:
                await self._sleep(1, 4)
            finally:
                proxy.heal()

    async def hold_database(self) -> None:
        """SIGSTOP the database: connections stand, nothing is answered."""
        emulator = self._cluster.emulator
        if emulator is None:
            return
        async with self._fault("hold", "database"):
            emulator.pause()
            try:
                await self._sleep(1, 5)
            finally:
                emulator.resume()

    async def partition(self, tier: str, ports: Iterable[int]) -> None:
        """Let the packets to and from a tier vanish."""
        ports = list(ports)
        async with self._fault("partition", tier):
            self._packets.drop(ports)
            try:
                await self._sleep(1.5, 5)
            finally:
                self._packets.restore(ports)

    async def slow_disk(self, pod: Pod) -> None:
        """Hold each opening of a file by a pod up."""
        async with self._fault("slow disk", pod.name):
            tracer = await asyncio.create_subprocess_exec(
                "strace",
                "-f",
                "-qq",
                "-o",
                "/dev/null",
                "-e",
                "trace=openat,fsync",
                "-e",
                f"inject=openat,fsync:delay_exit={_SLOW_MICROSECONDS}",
                "-p",
                str(pod.pid),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                await self._sleep(1, 4)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    tracer.terminate()
                await tracer.wait()

    @contextlib.asynccontextmanager
    async def _fault(self, fault: str, target: str) -> AsyncIterator[None]:
        self._number += 1
        number = self._number
        self._history.add(Kind.FAULT, number=number, fault=fault, target=target)
        try:
            yield
        finally:
            self._history.add(Kind.HEALED, number=number)

    async def _sleep(self, least: float, most: float) -> None:
        await asyncio.sleep(self._chance.uniform(least, most))


def clocks_possible() -> bool:
    """Return whether libfaketime is there."""
    return any(path.exists() for path in FAKETIME)


def tracing_possible() -> bool:
    """Return whether strace is there."""
    return shutil.which("strace") is not None
