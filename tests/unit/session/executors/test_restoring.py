"""Tests of `services.session.executors.restoring`: a conversation on its way to an executor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import executions_pb2
from services.chassis.failures import Failure, field_invalid
from services.session.executors import restoring as restoring_module
from services.session.executors.restoring import Restoring
from services.session.store import Create
from services.session.transcripts.mirror import Mirror
from tests.unit.session.fakes import (
    FakeExecutor,
    FakeExecutors,
    FaultyStore,
    store_unavailable,
    unavailable,
)
from tests.unit.session.log_writing import NAME
from tests.unit.session.service import until

Make = Callable[..., Restoring]


@pytest.fixture
async def mirror(store: FaultyStore) -> Mirror:
    """A conversation of twelve pieces, with a sub-agent's file, after another one."""
    mirror = Mirror(store=store, agent=NAME, log="log")
    for number in range(-1, 12):
        parts = [
            executions_pb2.TranscriptPart(
                conversation="c1" if number >= 0 else "c0", file=file, entries=[f"{file}{number}"]
            )
            for file in ("", "sub")
        ]
        documents = mirror.write(parts)
        await store.inner.commit([Create(path, fields) for path, fields in documents.items()])
    return mirror


WHOLE = {
    "": [str(number) for number in range(12)],
    "sub": [f"sub{number}" for number in range(12)],
}


@pytest.fixture
def make(executors: FakeExecutors, mirror: Mirror) -> Make:
    """Returns a new try at each call, which waits for long unless it is told otherwise."""

    def make(*, unreachable: float = 20, owned: bool = True) -> Restoring:
        return Restoring(
            executors=executors,
            address="e1:1",
            workspace="workspaces/w",
            mirror=mirror,
            unreachable=timedelta(seconds=unreachable),
            owned=lambda: owned,
        )

    return make


async def test_all_of_it_arrives_in_order(make: Make, executor: FakeExecutor) -> None:
    """File by file, in as few calls as there are files; nothing of an older conversation."""
    await make().run()

    assert executor.files == WHOLE
    assert 2 == executor.calls.count("restore")


async def test_a_large_one_comes_part_by_part(
    make: Make, executor: FakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call tells how many entries came before; all of it is never in memory at once."""
    monkeypatch.setattr(restoring_module, "_CALL_BYTES", 10)

    await make().run()

    assert executor.files == WHOLE
    assert executor.calls.count("restore") > 6


async def test_a_call_whose_answer_is_lost_is_made_again(
    make: Make, executor: FakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on where it was, and nothing is there twice."""
    monkeypatch.setattr(restoring_module, "_CALL_BYTES", 10)
    executor.failures["after restore"] = [unavailable()]
    executor.failures["restore"] = [unavailable(), unavailable()]

    await make().run()

    assert executor.files == WHOLE


async def test_the_store_may_be_away_for_a_while(
    make: Make, executor: FakeExecutor, store: FaultyStore
) -> None:
    """That is not the executor's fault, however long it takes."""
    store.unreadable = [store_unavailable()] * 4

    await make(unreachable=0.1).run()

    assert executor.files == WHOLE


async def test_an_executor_that_lost_the_beginning_gets_it_again(
    make: Make, executor: FakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has begun anew, so this does too; once."""
    monkeypatch.setattr(restoring_module, "_CALL_BYTES", 10)
    losses = 1

    def lose(method: str) -> None:
        nonlocal losses
        if executor.calls.count("restore") == 4 and losses:
            losses -= 1
            executor.files.clear()

    executor.called = lose
    await make().run()

    assert executor.files == WHOLE


@pytest.mark.parametrize("first", [0, 1])
async def test_one_that_refuses_does_not_get_it(
    make: Make, executor: FakeExecutor, first: int
) -> None:
    """What cannot be used there is lost."""
    refusal = field_invalid("entries", "be something else")
    executor.failures["restore"] = [refusal] * 3
    if first:
        # After the first call.
        executor.failures["restore"].insert(0, unavailable())

    with pytest.raises(Failure) as caught:
        await make().run()

    assert errors_pb2.ERROR_REASON_CONVERSATION_LOST == caught.value.reason


async def test_what_is_not_stored_is_lost(
    executors: FakeExecutors, store: FaultyStore, make: Make, mirror: Mirror
) -> None:
    """There is nothing to bring."""
    await store.inner.commit([])
    mirror.conversation = "other"

    with pytest.raises(Failure) as caught:
        await make().run()

    assert errors_pb2.ERROR_REASON_CONVERSATION_LOST == caught.value.reason


async def test_an_executor_that_stays_away_is_given_up(make: Make, executor: FakeExecutor) -> None:
    """Another one may be asked, so nothing is lost."""
    executor.away = True

    with pytest.raises(Failure) as caught:
        await make(unreachable=0.1).run()

    assert errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE == caught.value.reason


async def test_it_does_not_take_for_ever(
    make: Make, executor: FakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that hangs, for example."""
    monkeypatch.setattr(restoring_module, "_SECONDS", 0.05)
    executor.stuck = {"restore"}

    with pytest.raises(Failure) as caught:
        await make().run()

    assert errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE == caught.value.reason


async def test_who_may_be_the_owner_no_more_gives_nothing(
    make: Make, executor: FakeExecutor
) -> None:
    """The next owner's agent may be at work there."""
    with pytest.raises(Failure):
        await make(unreachable=0.1, owned=False).run()

    assert [] == executor.calls


async def test_it_can_be_stopped(make: Make, executor: FakeExecutor) -> None:
    """As when the turn is cancelled."""
    executor.stuck = {"restore"}
    task = asyncio.ensure_future(make().run())
    await until(lambda: "restore" in executor.calls)

    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
