"""One user with much to do does not keep another one waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import moorline
from tests.system.held import HOLD
from tests.system.stack import Stack, running

SLOTS = 10
"""Turns that run at once; as many may be one user's."""
CROWD = 50


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


class Shown:
    """The agents of several users, as the users' lists of agents show them."""

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
        async with asyncio.timeout(30):
            while not condition():
                self._news.clear()
                await self._news.wait()

    @property
    def asking(self) -> set[str]:
        """Agents whose turns run, and wait to be released."""
        return {
            name
            for name, agent in self._agents.items()
            if agent.state is moorline.AgentState.NEEDS_YOU
        }

    @property
    def places(self) -> dict[str, int]:
        """Places in the queue, by agent."""
        return {
            name: agent.queue_position
            for name, agent in self._agents.items()
            if agent.queue_position
        }


async def release(agent: moorline.AsyncAgent) -> None:
    """Let the turn of an agent go on, to its end."""
    # Followed, as an agent asks before its question is stored.
    async with asyncio.timeout(30), agent.events(deltas=False) as events:
        async for event in events:
            if isinstance(event, moorline.AsyncPermissionRequest):
                await event.allow()
                return


async def test_a_crowd_of_turns_keeps_nobody_else_waiting(stack: Stack) -> None:
    """Another user's turn begins when the first of those that run makes way.

    Those of the crowd that wait show their places.
    """
    async with moorline.AsyncClient(stack.url, stack.token, environ={}) as busy:
        key = await busy.keys.create(user="bob")
        crowd = await asyncio.gather(*(busy.agents.create() for _ in range(CROWD)))
        shown = Shown()
        async with (
            moorline.AsyncClient(stack.url, key.secret, environ={}) as other,
            busy.agents.watch() as theirs,
            other.agents.watch() as others,
        ):
            late = await other.agents.create()
            async with asyncio.TaskGroup() as tasks:
                following = [tasks.create_task(shown.follow(each)) for each in (theirs, others)]
                await asyncio.gather(*(agent.send(HOLD) for agent in crowd))
                await shown.until(
                    lambda: [*range(1, CROWD - SLOTS + 1)] == sorted(shown.places.values())
                )
                await shown.until(lambda: len(shown.asking) == SLOTS)
                running = shown.asking
                turn = await late.send(HOLD)
                await shown.until(lambda: late.name in shown.places)

                await release(next(agent for agent in crowd if agent.name in running))
                await shown.until(lambda: bool(shown.asking - running))
                begun = shown.asking - running
                for task in following:
                    task.cancel()

            assert {late.name} == begun
            await release(late)
            assert (await turn.wait()).finished
