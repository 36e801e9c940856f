"""When which fault is due: drawn at random from a seed, at most one to a part at a time.

Does not know how faults are made.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from tests.nemesis.cluster import Cluster
from tests.nemesis.faults import Faults, clocks_possible, tracing_possible
from tests.nemesis.pods import Pod
from tests.proxy import FaultProxy

_DRAWS = 20
"""How often another fault is drawn when what it would break is broken already."""
_OUTAGE = "outage"


@dataclass(frozen=True, slots=True)
class Due:
    """A fault that could be made now.

    Attributes:
        parts: What it breaks; no other fault may break one of them meanwhile.
        make: Makes it and heals it.
        outage: Whether something is away for seconds meanwhile.
    """

    parts: frozenset[str]
    make: Callable[[], Awaitable[None]]
    outage: bool = False


Draw = Callable[[], Due]


class Schedule:
    """Makes faults for a while.

    Args:
        cluster: What is broken.
        faults: Breaks it.
        chance: Decides.
        partitions: Whether packets can be dropped here.
        weights: How often each kind is drawn, by name; None for all kinds.
        pause: Seconds from the beginning of one fault to that of the next, on average.
        outages: How many things may be away at the same time; with many nothing is left
            to be broken.
    """

    def __init__(
        self,
        *,
        cluster: Cluster,
        faults: Faults,
        chance: random.Random,
        partitions: bool,
        weights: Mapping[str, float] | None = None,
        pause: float = 1.0,
        outages: int = 1,
    ) -> None:
        self._cluster = cluster
        self._faults = faults
        self._chance = chance
        self._pause = pause
        self._outages = outages
        self._broken: Counter[str] = Counter()
        kinds = self._kinds(partitions=partitions)
        chosen = weights if weights is not None else {name: w for name, (w, _) in kinds.items()}
        self._draws = {name: (weight, kinds[name][1]) for name, weight in chosen.items()}

    def _kinds(self, *, partitions: bool) -> dict[str, tuple[float, Draw]]:
        kinds: dict[str, tuple[float, Draw]] = {
            "kill": (6, self._kill),
            "pause": (2, self._pause_one),
            "roll": (3, self._roll),
            "cut": (7, self._cut),
            "lose answers": (7, self._lose_answers),
            "hang": (3, self._hang),
            "refuse": (2, self._refuse),
            "delay": (2, self._delay),
        }
        if self._cluster.emulator is not None:
            kinds["database down"] = (1.5, self._database_down)
            kinds["database hung"] = (1.5, self._database_hung)
            kinds["database black hole"] = (1, self._database_black_hole)
        if partitions:
            kinds["partition"] = (2, self._partition)
        if clocks_possible():
            kinds["clock"] = (2, self._clock)
        if tracing_possible():
            kinds["slow disk"] = (1, self._slow_disk)
        return kinds

    async def run(self, seconds: float) -> None:
        """Make faults for `seconds`; return when the last one is healed."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        async with asyncio.TaskGroup() as group:
            while (left := end - loop.time()) > 0:
                due = self._next()
                if due is not None:
                    group.create_task(self._make(due))
                await asyncio.sleep(min(left, self._chance.expovariate(1 / self._pause)))

    def _next(self) -> Due | None:
        draws = list(self._draws.values())
        weights = [weight for weight, _ in draws]
        for _ in range(_DRAWS):
            _, draw = self._chance.choices(draws, weights)[0]
            due = draw()
            full = due.outage and self._broken[_OUTAGE] >= self._outages
            if not full and not any(self._broken[part] for part in due.parts):
                return due
        return None

    async def _make(self, due: Due) -> None:
        parts = [*due.parts, _OUTAGE] if due.outage else list(due.parts)
        self._broken.update(parts)
        try:
            await due.make()
        finally:
            self._broken.subtract(parts)

    # Each draws what to break.

    def _pod(self, *services: str) -> Pod:
        pods = [pod for pod in self._cluster.pods.values() if pod.service in services]
        return self._chance.choice(pods)

    def _kill(self) -> Due:
        pod = self._pod("gateway", "session", "executor")
        return Due(frozenset({pod.name}), lambda: self._faults.kill(pod))

    def _pause_one(self) -> Due:
        pod = self._pod("gateway", "session", "session", "executor")
        # Not the whole tier: there would be nobody to take over.
        return Due(
            frozenset({pod.name, f"{pod.service} held"}),
            lambda: self._faults.pause(pod),
            outage=True,
        )

    def _roll(self) -> Due:
        pod = self._pod("gateway", "session", "executor")
        return Due(frozenset({pod.name}), lambda: self._faults.roll(pod))

    def _clock(self) -> Due:
        pod = self._pod("gateway", "session", "executor")
        return Due(frozenset({pod.name}), lambda: self._faults.wrong_clock(pod))

    def _slow_disk(self) -> Due:
        pod = self._pod("executor")
        return Due(frozenset({pod.name, "disk"}), lambda: self._faults.slow_disk(pod))

    def _cut(self) -> Due:
        leg = self._leg()
        return Due(frozenset({leg}), lambda: self._faults.cut(leg, self._legs[leg]))

    def _lose_answers(self) -> Due:
        leg = self._leg()
        return Due(frozenset({leg}), lambda: self._faults.lose_answers(leg, self._legs[leg]))

    def _delay(self) -> Due:
        leg = self._leg()
        return Due(frozenset({leg}), lambda: self._faults.delay(leg, self._legs[leg]))

    def _hang(self) -> Due:
        leg = self._leg()
        return Due(
            frozenset({leg}), lambda: self._faults.hang([leg], [self._legs[leg]]), outage=True
        )

    def _refuse(self) -> Due:
        leg = self._leg()
        return Due(
            frozenset({leg}), lambda: self._faults.refuse([leg], [self._legs[leg]]), outage=True
        )

    def _database_down(self) -> Due:
        proxies = self._cluster.to_store
        parts = frozenset({"database", *(f"store of {pod}" for pod in proxies)})
        return Due(parts, lambda: self._faults.refuse(["database"], proxies.values()), outage=True)

    def _database_black_hole(self) -> Due:
        proxies = self._cluster.to_store
        parts = frozenset({"database", *(f"store of {pod}" for pod in proxies)})
        return Due(parts, lambda: self._faults.hang(["database"], proxies.values()), outage=True)

    def _database_hung(self) -> Due:
        return Due(frozenset({"database"}), self._faults.hold_database, outage=True)

    def _partition(self) -> Due:
        tiers = {
            "sessions": [proxy.port for proxy in self._cluster.to_session.values()],
            "executors": [proxy.port for proxy in self._cluster.to_executor.values()],
            "database": [proxy.port for proxy in self._cluster.to_store.values()],
        }
        tier = self._chance.choice([tier for tier, ports in tiers.items() if ports])
        ports = tiers[tier]
        if self._chance.random() < 0.5:
            ports = [self._chance.choice(ports)]
        return Due(frozenset({"packets"}), lambda: self._faults.partition(tier, ports), outage=True)

    @property
    def _legs(self) -> Mapping[str, FaultProxy]:
        cluster = self._cluster
        return {
            **{f"gateways to {pod}": proxy for pod, proxy in cluster.to_session.items()},
            **{f"sessions to {pod}": proxy for pod, proxy in cluster.to_executor.items()},
            **{f"store of {pod}": proxy for pod, proxy in cluster.to_store.items()},
        }

    def _leg(self) -> str:
        return self._chance.choice(list(self._legs))
