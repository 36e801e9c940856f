"""Tests of `services.session.deliveries`: calls that are repeated until nobody wants them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from moorline.session.v1 import turns_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.tasks import Tasks
from services.session.executors.deliveries import Deliveries
from services.session.names import AgentName
from services.session.records import TurnRecord
from tests.unit.session.fakes import FakeExecutor, FakeExecutors
from tests.unit.session.service import until


@pytest.fixture
def turn() -> TurnRecord:
    """A turn that runs at the first executor."""
    return TurnRecord(
        name=AgentName("ada", "a1").turn("t1"),
        prompt="hi",
        state=turns_pb2.Turn.STATE_RUNNING,
        sequence=1,
        create_time=datetime(2026, 1, 1, tzinfo=UTC),
        attempt=1,
        executor="e1:1",
    )


@pytest.fixture
def over() -> list[bool]:
    """Whether the turn is over, when it is asked; empty for never."""
    return []


@pytest.fixture
def deliveries(
    tasks: Tasks, executors: FakeExecutors, turn: TurnRecord, over: list[bool]
) -> Deliveries:
    """What is tested."""
    return Deliveries(
        tasks=tasks,
        executors=executors,
        turn=turn,
        over=lambda: over.pop(0) if over else False,
    )


async def test_a_call_is_repeated_until_the_turn_is_over(
    deliveries: Deliveries, tasks: Tasks, executor: FakeExecutor, over: list[bool]
) -> None:
    """And not once more after that."""
    executor.away = True
    over += [False, True]

    deliveries.cancel()
    await until(lambda: len(tasks) == 0)

    assert ["cancel", "cancel"] == executor.calls


async def test_a_call_about_an_attempt_before_is_not_repeated(
    deliveries: Deliveries, tasks: Tasks, executor: FakeExecutor, turn: TurnRecord
) -> None:
    """The next attempt asks anew."""
    executor.away = True

    deliveries.resolve(transcript_pb2.PermissionDecision(permission_id="p1"))
    await until(lambda: executor.calls == ["resolve"])
    turn.attempt += 1
    await until(lambda: len(tasks) == 0)

    assert ["resolve"] == executor.calls


async def test_a_call_goes_to_where_the_attempt_is_when_it_is_made(
    deliveries: Deliveries, tasks: Tasks, executor: FakeExecutor, other: FakeExecutor
) -> None:
    """An answer that it is not known there ends it."""
    deliveries.cancel()
    await until(lambda: len(tasks) == 0)

    assert (["cancel"], []) == (executor.calls, other.calls)
