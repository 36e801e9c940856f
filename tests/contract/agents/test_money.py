"""What is consumed is counted as the provider counts it, and limited."""

from __future__ import annotations

import pytest

from moorline.executor.v1 import executions_pb2
from tests.contract.agents.executors import ACCEPT_ALL, Agent
from tests.contract.agents.kinds import ONLY_REAL
from tests.contract.agents.turns import Turn
from tests.standin.ledger import cost, tokens
from tests.standin.server import StandIn

COST = 100_000
"""Millionths of a dollar: ten cents."""


def consumed(*turns: Turn) -> tuple[int, int, int, int]:
    """Return tokens read, written, found in the cache and written to it, by the outcomes."""
    usages = [turn.outcome.usage for turn in turns]
    return (
        sum(usage.input_tokens for usage in usages),
        sum(usage.output_tokens for usage in usages),
        sum(usage.cache_read_tokens for usage in usages),
        sum(usage.cache_write_tokens for usage in usages),
    )


@ONLY_REAL
async def test_sums_are_those_of_the_provider(agent: Agent, provider: StandIn) -> None:
    """Over turns with tools, sub-agents, retries, breaks, background work and a stop."""
    scripts = (
        ("/sim say one", "/sim bash echo x > a.txt", "/sim say two"),
        ("/sim task say sub", "/sim say after"),
        ("/sim retry 1 500", "/sim say c"),
        ("/sim retract bad", "/sim say good"),
        ("/sim error half", "/sim say rest"),
        ("/sim unstreamed whole",),
        ("/sim fail auth",),
        ("/sim usage 1234 567 0", "/sim say costly"),
        ("/sim background 100 built", "/sim sleep 300", "/sim say meanwhile"),
    )
    turns = [await agent.run(*script, permission_mode=ACCEPT_ALL) for script in scripts]
    turns.append(await agent.run(background=True, permission_mode=ACCEPT_ALL))
    stopped = await agent.begin("/sim stream 2000 10", permission_mode=ACCEPT_ALL)
    await stopped.until(lambda: stopped.deltas > 5)
    await agent.cancel(stopped)
    turns.append(await agent.end(stopped))
    turns.append(await agent.run("/sim say last", permission_mode=ACCEPT_ALL))

    assert tokens(provider.ledger.entries) == consumed(*turns)
    assert cost(provider.ledger.entries) == sum(one.outcome.usage.cost_usd_micros for one in turns)


@ONLY_REAL
async def test_cost_is_told_while_a_turn_runs(agent: Agent) -> None:
    """Who follows a turn sees it grow before the end."""
    turn = await agent.run(
        "/sim usage 10000 10 0",
        "/sim bash echo x > a.txt",
        "/sim sleep 1000",
        permission_mode=ACCEPT_ALL,
    )
    told = [one.usage.cost_usd_micros for one in turn.progress if one.HasField("usage")]

    assert turn.outcome.usage.cost_usd_micros > 0
    assert told == sorted(told)
    assert any(0 < one < turn.outcome.usage.cost_usd_micros for one in told)


@ONLY_REAL
@pytest.mark.parametrize("budget", ["turn", "agent", "month"])
async def test_budget_stops_the_turn(agent: Agent, provider: StandIn, budget: str) -> None:
    """After the one request that passed it; with more of it, the conversation goes on."""
    limit = executions_pb2.Budget(**{f"{budget}_usd_micros": COST})
    turn = await agent.run("the first", "/sim fail budget_exhausted", budget=limit)
    requests = len(provider.ledger.entries)
    more = executions_pb2.Budget(**{f"{budget}_usd_micros": 10 * COST})
    after = await agent.run("/sim recall", budget=more)
    spent = turn.outcome.usage.cost_usd_micros

    assert "failed BUDGET_EXHAUSTED" == turn.ending
    assert budget == turn.outcome.error.metadata["budget"]
    assert COST <= spent <= COST + spent / requests
    assert ["I remember: the first"] == after.texts


@ONLY_REAL
async def test_nothing_left_asks_nothing(agent: Agent, provider: StandIn) -> None:
    """A budget of zero lets no request through."""
    turn = await agent.run("/sim say x", budget=executions_pb2.Budget(month_usd_micros=0))

    assert "failed BUDGET_EXHAUSTED" == turn.ending
    assert 0 == sum(tokens(provider.ledger.entries))
