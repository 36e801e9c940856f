"""What many turns cost adds up, to the micro-dollar."""

from __future__ import annotations

import asyncio

import pytest

from moorline.executor.v1 import executions_pb2
from services.executor.model_proxy.prices import PICOS, Told, load
from tests.contract.agents.conftest import Serve
from tests.contract.agents.executors import ACCEPT_ALL, Agent
from tests.contract.agents.kinds import ONLY_REAL
from tests.contract.agents.turns import Turn
from tests.standin.ledger import Entry, tokens
from tests.standin.server import StandIn

TURNS = 200
AGENTS = 2
PROCESS_TURNS = 60
"""Fewer than an agent takes in all."""
COST = 100_000
"""Millionths of a dollar: ten cents."""

ONLY_PROCESS = pytest.mark.parametrize("kind", ["process"], indirect=True)
"""The one that starts its program in the shortest time: a budget is held to in the same way."""

pytestmark = pytest.mark.timeout(300)


def cost(entries: list[Entry]) -> int:
    """Return what requests cost by the list of prices, in pico-dollars."""
    prices = load("")
    return sum(
        prices.of(entry.model).cost(
            Told(
                model=entry.model,
                read=entry.input_tokens,
                written=entry.output_tokens,
                cache_read=entry.cache_read_tokens,
                cache_written=entry.cache_write_tokens,
            )
        )
        for entry in entries
    )


def counted(turn: Turn) -> tuple[int, int, int, int, int]:
    """Return what a turn's outcome says it consumed."""
    usage = turn.outcome.usage
    return (
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.cost_usd_micros,
    )


@ONLY_REAL
async def test_two_hundred_turns_add_up(serving: Serve, provider: StandIn) -> None:
    """To the token for each of some agents that work side by side, with an odd number in each turn.

    Each goes on in another process on its way.
    """
    async with serving("workspaces", PROCESS_TURNS=str(PROCESS_TURNS)) as executor:
        agents = [executor.agent(permission_mode=ACCEPT_ALL) for _ in range(AGENTS)]
        rows = await asyncio.gather(*(work(agent, row) for row, agent in enumerate(agents)))
    billed = [provider.ledger.of(agent.conversation) for agent in agents]

    assert {"finished"} == {turn.ending for turns in rows for turn in turns}
    assert TURNS == sum(map(len, rows)) <= len(provider.ledger.entries)
    assert len(provider.ledger.entries) == sum(map(len, billed))
    for turns, entries in zip(rows, billed, strict=True):
        sums = [sum(figures) for figures in zip(*map(counted, turns), strict=True)]
        assert [*tokens(entries), cost(entries) // PICOS] == sums


async def work(agent: Agent, row: int) -> list[Turn]:
    """Let an agent take its share of the turns."""
    return [
        await agent.run(f"/sim usage {17 * number} {number % 13} 0", "/sim say x")
        for number in range(row, TURNS, AGENTS)
    ]


@ONLY_PROCESS
async def test_ten_cents_are_passed_by_one_request(agent: Agent, provider: StandIn) -> None:
    """Of many that an agent makes one after the other."""
    budget = executions_pb2.Budget(turn_usd_micros=COST)
    script = [f"/sim usage {2500 + 111 * number} 5 0\n/sim bash true" for number in range(30)]
    turn = await agent.run(*script, permission_mode=ACCEPT_ALL, budget=budget)
    spent = cost(provider.ledger.entries)
    dearest = max(cost([entry]) for entry in provider.ledger.entries)
    after = await agent.run("/sim recall", budget=executions_pb2.Budget(turn_usd_micros=COST))

    assert "failed BUDGET_EXHAUSTED" == turn.ending
    assert COST * PICOS <= spent < COST * PICOS + dearest
    assert spent // PICOS == turn.outcome.usage.cost_usd_micros
    assert "finished" == after.ending
    assert 1 == len(after.texts)


@ONLY_PROCESS
async def test_requests_beside_each_other_pass_it_by_one(agent: Agent, provider: StandIn) -> None:
    """Six sub-agents get long answers at once; half of them would be too many."""
    budget = executions_pb2.Budget(turn_usd_micros=10 * COST)
    script = ["/sim parallel 6", *["/sim task usage 100 30000 0"] * 6]
    turn = await agent.run(*script, permission_mode=ACCEPT_ALL, budget=budget)
    spent = cost(provider.ledger.entries)
    dearest = max(cost([entry]) for entry in provider.ledger.entries)

    assert "failed BUDGET_EXHAUSTED" == turn.ending
    assert 10 * COST * PICOS <= spent < 10 * COST * PICOS + dearest
