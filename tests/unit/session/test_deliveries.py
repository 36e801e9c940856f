"""Tests of `services.session.deliveries`: calls that are repeated until nobody wants them."""

from __future__ import annotations

from services.chassis.tasks import Tasks
from services.session.deliveries import Deliveries
from tests.unit.session.fakes import unavailable
from tests.unit.session.service import until


async def test_a_call_is_repeated_while_it_is_wanted(tasks: Tasks) -> None:
    """And not once more after that."""
    calls: list[bool] = []
    asked: list[bool] = []

    async def call() -> None:
        calls.append(True)
        raise unavailable()

    def wanted() -> bool:
        asked.append(True)
        return len(asked) < 2

    Deliveries(tasks=tasks).send(call, wanted)
    await until(lambda: len(asked) == 2)
    await until(lambda: len(tasks) == 0)

    assert 2 == len(calls)
