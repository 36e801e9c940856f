"""One user with much to do does not keep another one waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import moorline
from tests.system.stack import Stack, running

SLOTS = 10
"""Turns that run at once; as many may be one user's."""
CROWD = 50
TURN = "/sim stream 21 50"
"""One second."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A platform with room for a few turns only."""
    environment = {
        "MOORLINE_LIMIT_SIMULATION": "true",
        "MOORLINE_MAX_RUNNING_TURNS": str(SLOTS),
        "MOORLINE_MAX_RUNNING_TURNS_PER_TENANT": str(SLOTS),
    }
    with running(tmp_path_factory.mktemp("fairness") / "data", environment) as stack:
        yield stack


class Crowd:
    """The agents of a user, as that user's list of agents shows them."""

    def __init__(self) -> None:
        self._agents: dict[str, moorline.AsyncAgent] = {}
        self._news = asyncio.Event()

    async def follow(self, updates: AsyncIterator[Any]) -> None:
        """Hear of changes, for ever."""
        async for update in updates:
            if isinstance(update, moorline.AsyncAgent):
                self._agents[update.name] = update
                self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds."""
        async with asyncio.timeout(15):
            while not condition():
                self._news.clear()
                await self._news.wait()

    @property
    def ended(self) -> int:
        """Turns that have ended."""
        return sum(agent.usage.turns for agent in self._agents.values())

    @property
    def places(self) -> list[int]:
        """Places in the queue that are shown, in order."""
        return sorted(agent.queue_position for agent in self._agents.values())


async def test_a_crowd_of_turns_keeps_nobody_else_waiting(stack: Stack) -> None:
    """Another user's turn begins before those that run when it is asked for have made way twice.

    Those of the crowd that wait show their places.
    """
    async with moorline.AsyncClient(stack.url, stack.token, environ={}) as busy:
        key = await busy.keys.create(user="bob")
        agents = await asyncio.gather(*(busy.agents.create() for _ in range(CROWD)))
        crowd = Crowd()
        async with (
            moorline.AsyncClient(stack.url, key.secret, environ={}) as other,
            busy.agents.watch() as updates,
            asyncio.TaskGroup() as tasks,
        ):
            following = tasks.create_task(crowd.follow(updates))
            late = await other.agents.create()
            await asyncio.gather(*(agent.send(TURN) for agent in agents))
            await crowd.until(lambda: crowd.places[-1] > CROWD // 2)
            before = crowd.ended
            async with late.run(TURN) as turn:
                async for event in turn:
                    if isinstance(event, moorline.TextDelta):
                        break
                passed, waiting = crowd.ended - before, crowd.places[-1]
                result = await turn.wait()
            following.cancel()

    assert passed <= SLOTS
    assert waiting > 0
    assert result.finished
