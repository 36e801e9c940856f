"""Tests of `services.executor.model_proxy.meter`."""

from __future__ import annotations

import asyncio
import random

import pytest

from moorline.transcript.v1 import transcript_pb2
from services.executor.agent_process import Budget
from services.executor.model_proxy.meter import Charge, Meter
from services.executor.model_proxy.prices import PICOS, Told, load
from tests.unit.executor.model_proxy.provider import MODEL

PRICES = load("")


def told(**counts: int) -> Told:
    """Return what a request consumed; a read token costs 4 micro-dollars, a cached one 0.2."""
    return Told(model=MODEL, **counts)  # type: ignore[arg-type]


async def ask(meter: Meter, **counts: int) -> bool:
    """Make one request; False when it is refused."""
    charge = await meter.admit(100)
    if charge is None:
        return False
    with charge:
        charge.tell(told(**counts))
    return True


@pytest.fixture
def fresh() -> Meter:
    """A meter that has counted nothing."""
    return Meter(prices=PRICES)


async def test_usage_is_the_sum_of_requests(fresh: Meter) -> None:
    """Counted once, however often it is told; the model is the last one's."""
    fresh.begin(Budget())
    charge = await fresh.admit(0)
    assert isinstance(charge, Charge)
    with charge:
        charge.tell(told(read=10, written=1))
        charge.tell(told(read=10, written=20))
    await ask(fresh, read=1, cache_read=5, cache_written=2)

    assert MODEL == fresh.model
    assert (
        transcript_pb2.Usage(
            input_tokens=11,
            output_tokens=20,
            cache_read_tokens=5,
            cache_write_tokens=2,
            cost_usd_micros=11 * 4 + 20 * 20 + 1 + 10,
        )
        == fresh.usage
    )


async def test_end_begins_anew(fresh: Meter) -> None:
    """What comes between two turns counts for the next one."""
    fresh.begin(Budget())
    await ask(fresh, read=1)
    first = fresh.end()
    await ask(fresh, read=2)
    between = fresh.usage
    fresh.begin(Budget())
    await ask(fresh, read=3)

    assert (1, 2, 5) == (first.input_tokens, between.input_tokens, fresh.end().input_tokens)
    assert transcript_pb2.Usage() == fresh.usage


async def test_no_part_of_a_micro_dollar_is_lost(fresh: Meter) -> None:
    """The turns' costs add up to what all of them cost, whatever each one cost."""
    dice = random.Random(4)
    cost = total = 0
    for _ in range(500):
        fresh.begin(Budget())
        counts = {"cache_read": dice.randrange(1000), "read": dice.randrange(3)}
        await ask(fresh, **counts)
        cost += fresh.end().cost_usd_micros
        total += PRICES.of(MODEL).cost(told(**counts))

    assert total // PICOS == cost


@pytest.mark.parametrize(
    ("budget", "spent"),
    [
        (Budget(turn=40), "turn"),
        (Budget(agent=40), "agent"),
        (Budget(month=40), "month"),
        (Budget(turn=41, agent=41, month=40), ""),
        (Budget(turn=40, agent=30, month=35), "agent"),
        (Budget(turn=0), "turn"),
        (Budget(), ""),
    ],
)
async def test_spent_budget_is_named(fresh: Meter, budget: Budget, spent: str) -> None:
    """The smallest one; requests are refused from then on."""
    fresh.begin(Budget())
    await ask(fresh, read=10)
    if spent:
        fresh.begin(budget)
    else:
        fresh.begin(Budget(turn=41))

    assert spent == fresh.exhausted
    assert (not spent) == await ask(fresh)


async def test_budget_is_passed_by_one_request_only(fresh: Meter) -> None:
    """The one that reaches it is answered, the next one is not; raising it goes on."""
    fresh.begin(Budget(turn=100))
    asked = [await ask(fresh, read=20) for _ in range(4)]
    fresh.end()
    fresh.begin(Budget(turn=100))

    assert [True, True, False, False] == asked
    assert await ask(fresh, read=1)


async def test_requests_beside_each_other_wait_where_little_is_left(fresh: Meter) -> None:
    """Together they must not pass a budget by more than one of them."""
    fresh.begin(Budget(turn=1000))
    first = await fresh.admit(0)
    assert first is not None
    waiting = [asyncio.ensure_future(ask(fresh, read=1)) for _ in range(3)]
    await asyncio.sleep(0.01)
    before = [one.done() for one in waiting]
    first.tell(told(read=250))
    fresh.leave(first)

    assert [False] * 3 == before
    assert [False] * 3 == await asyncio.gather(*waiting)


async def test_requests_beside_each_other_wait_for_one_another(fresh: Meter) -> None:
    """Each in turn, as long as something is left; who hangs up is forgotten."""
    fresh.begin(Budget(turn=1000))
    first = await fresh.admit(0)
    assert first is not None
    waiting = [asyncio.ensure_future(ask(fresh, read=1)) for _ in range(3)]
    await asyncio.sleep(0.01)
    waiting[0].cancel()
    fresh.leave(first)

    assert [True, True] == await asyncio.gather(*waiting[1:])


async def test_rich_budget_lets_requests_run_beside_each_other(fresh: Meter) -> None:
    """So does none at all."""
    for budget in (Budget(turn=100_000_000), Budget()):
        fresh.begin(budget)
        charges = [await fresh.admit(50_000) for _ in range(3)]

        assert None not in charges
        for charge in charges:
            assert charge is not None
            fresh.leave(charge)


async def test_what_the_agent_may_spend_holds_between_turns(fresh: Meter) -> None:
    """What goes on in the background keeps to what is left of the longer budgets."""
    fresh.begin(Budget(turn=10, agent=100, month=1000))
    await ask(fresh, read=20)
    fresh.end()
    between = fresh.exhausted
    asked = [await ask(fresh, read=4), await ask(fresh, read=1), await ask(fresh)]

    assert "" == between
    assert [True, True, False] == asked
    assert "agent" == fresh.exhausted


async def test_listeners_hear_of_each_change(fresh: Meter) -> None:
    """After it has happened."""
    heard: list[int] = []
    fresh.changed = lambda: heard.append(fresh.usage.input_tokens)
    fresh.begin(Budget())
    await ask(fresh, read=1)
    await ask(fresh, read=2)

    assert [1, 3] == heard


async def test_records_restore_what_was_counted(fresh: Meter) -> None:
    """Also of a request whose end was not told; a line cut short is left out."""
    lines: list[bytes] = []
    fresh.record = lines.append
    fresh.begin(Budget())
    await ask(fresh, read=1, cache_read=3)
    charge = await fresh.admit(0)
    assert charge is not None
    charge.tell(told(read=5))
    other = Meter(prices=PRICES)
    other.begin(Budget(turn=24))
    other.recall([*lines, b"", b'["m", 1', b'["m", 1, 2]', b'{"a": 1}', b'["m", 1, "x", 1, 1, 1]'])

    assert [b"\n" not in line for line in lines] == [True, True]
    assert fresh.usage == other.usage
    assert ("turn", MODEL) == (other.exhausted, other.model)


async def test_huge_figures_fit_their_fields(fresh: Meter) -> None:
    """What does not fit is told with the next turn."""
    fresh.begin(Budget())
    await ask(fresh, written=3 << 30)
    first = fresh.end()

    assert 2**31 - 1 == first.output_tokens == first.cost_usd_micros
    assert fresh.usage.cost_usd_micros > 0
