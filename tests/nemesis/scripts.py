"""Courses of faults made for one purpose, where a random one would take too long.

Each takes a run in progress and returns when it is over.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter

from tests.nemesis.history import Kind
from tests.nemesis.reading import emulator_documents
from tests.nemesis.run import Run

_READY_SECONDS = 15.0


async def peace(run: Run) -> None:
    """Nothing but work."""
    await asyncio.sleep(run.plan.seconds)


async def kill(run: Run, service: str, pause: float) -> None:
    """Kill one pod of a service after the other."""
    loop = asyncio.get_running_loop()
    end = loop.time() + run.plan.seconds
    pods = run.cluster.of(service)
    while loop.time() < end:
        await asyncio.sleep(pause)
        await run.faults.kill(pods[0])
        pods.append(pods.pop(0))


async def kill_sessions(run: Run) -> None:
    """Kill one session pod after the other."""
    await kill(run, "session", 2.5)


async def kill_executors(run: Run) -> None:
    """Kill one executor after the other."""
    await kill(run, "executor", 1.5)


async def kill_an_owner_for_good(run: Run) -> None:
    """The users of a session pod that never comes back need another one."""
    await asyncio.sleep(run.plan.seconds)
    emulator = run.cluster.emulator
    if emulator is None:
        raise RuntimeError("a SQLite store has one owner")
    leases = await emulator_documents(emulator)("users")
    address = Counter(fields["address"] for _, fields in leases).most_common(1)[0][0]
    pod = next(pod for pod, proxy in run.cluster.to_session.items() if proxy.host == address)
    run.gone.add(pod)
    run.cluster.pods[pod].kill()


async def kill_while_the_store_hangs(run: Run) -> None:
    """What the session pods have not stored dies with them."""
    sessions = run.cluster.of("session")
    for _ in range(3):
        await asyncio.gather(*(pod.listening(_READY_SECONDS) for pod in sessions))
        await asyncio.sleep(3)
        hang = run.faults.hang(["database"], run.cluster.to_store.values(), 2)
        hanging = asyncio.create_task(hang)
        await asyncio.sleep(1.7)
        deaths = [asyncio.create_task(run.faults.kill(pod)) for pod in sessions]
        await asyncio.sleep(0)
        for proxy in run.cluster.to_store.values():
            # With them what they have sent, which would arrive after all.
            proxy.reset()
        await asyncio.gather(hanging, *deaths)


async def commit_late(run: Run) -> None:
    """What a session pod sends to the store arrives when its lease is another's."""
    loop = asyncio.get_running_loop()
    end = loop.time() + run.plan.seconds
    # How soon somebody else is found differs; so does what is on its way then.
    turns = itertools.product((2.6, 3.5, 1.9), run.cluster.of("session"))
    for seconds, pod in itertools.cycle(turns):
        proxy = run.cluster.to_store[pod.name]
        await run.faults.hang([f"store of {pod.name}"], [proxy], seconds)
        await asyncio.sleep(1)
        if loop.time() > end:
            return


async def empty_the_database(run: Run) -> None:
    """Everything is gone from one moment to the next, under everybody's hands."""
    emulator = run.cluster.emulator
    if emulator is None:
        raise RuntimeError("only an emulator can be emptied")
    await asyncio.sleep(run.plan.seconds / 2)
    run.emptied = True
    run.history.add(Kind.FAULT, number=-1, fault="empty", target="database")
    await asyncio.to_thread(emulator.clear)
    run.history.add(Kind.HEALED, number=-1)
    # Answers that are on their way tell of turns that are gone, too.
    await asyncio.sleep(1)
    for person in run.people:
        person.forget()
    await asyncio.sleep(run.plan.seconds / 2)
