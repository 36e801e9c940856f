"""Tests of `services.chassis.client`: services whose clocks are wrong."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing

import pytest

from moorline.errors.v1 import errors_pb2
from services.chassis.client import Peer
from services.chassis.failures import Failure
from services.chassis.metrics import Metrics
from tests.unit.chassis.service import ADA, SOON, Message, call, method, peer_of, running
from tests.unit.chassis.test_client import REGISTER, count

HOUR = 3600


def wrong(seconds: float) -> Callable[[], float]:
    """Return a clock that is this much ahead."""
    return lambda: time.time() + seconds


async def numbers(peer: Peer) -> list[str]:
    """Read a whole stream."""
    answers = peer.stream(method("Stream"), Message(), Message, identity=ADA, timeout=SOON)
    async with aclosing(answers):
        return [each.message async for each in answers]


@pytest.mark.parametrize(
    ("ours", "theirs"), [(HOUR, 0), (-HOUR, 0), (0, HOUR), (0, -HOUR), (HOUR, -HOUR), (-HOUR, HOUR)]
)
async def test_an_hour_changes_nothing(
    ours: int, theirs: int, caplog: pytest.LogCaptureFixture
) -> None:
    """One call is refused and made again; those after it are signed for the peer's clock."""
    metrics = Metrics(service="client")
    now = time.time()
    async with (
        running(REGISTER, clock=lambda: now + theirs) as server,
        peer_of(server.target, metrics, clock=lambda: now + ours) as peer,
    ):
        for text in ("a", "b", "c"):
            assert (await call(peer, "Answer", text)).message == text
        assert await numbers(peer) == ["0", "1", "2"]

    assert count(metrics, "Answer", "UNAUTHENTICATED") == 1
    assert count(metrics, "Answer", "OK") == 3
    assert count(metrics, "Stream", "UNAUTHENTICATED") == 0
    [record] = [record for record in caplog.records if record.message == "clocks differ"]
    assert record.__dict__["offset_seconds"] == theirs - ours


async def test_a_stream_learns_too() -> None:
    """The first call may be one, as a feed is."""
    metrics = Metrics(service="client")
    async with (
        running(REGISTER) as server,
        peer_of(server.target, metrics, clock=wrong(HOUR)) as peer,
    ):
        for _ in range(2):
            assert await numbers(peer) == ["0", "1", "2"]

    assert count(metrics, "Stream", "UNAUTHENTICATED") == 1
    assert count(metrics, "Stream", "OK") == 2


async def test_calls_at_once_all_succeed() -> None:
    """Each that was signed before the difference was known is made again."""
    async with running(REGISTER) as server, peer_of(server.target, clock=wrong(HOUR)) as peer:
        answers = await asyncio.gather(*(call(peer, "Answer", str(n)) for n in range(20)))

    assert [answer.message for answer in answers] == [str(n) for n in range(20)]


async def test_a_clock_may_be_set_right() -> None:
    """What was learned is learned anew, and the calls still succeed."""
    ahead = float(HOUR)
    metrics = Metrics(service="client")
    async with (
        running(REGISTER) as server,
        peer_of(server.target, metrics, clock=lambda: time.time() + ahead) as peer,
    ):
        await call(peer, "Answer")
        for ahead in (0, -HOUR, HOUR):  # noqa: B007 - the clock reads it
            assert (await call(peer, "Answer", "a")).message == "a"

    assert count(metrics, "Answer", "OK") == 4


async def test_one_clock_at_a_time_is_believed() -> None:
    """A peer that refuses with another time each time gets two attempts and no more."""
    metrics = Metrics(service="client")
    hours = iter(range(1, 100))
    async with (
        running(REGISTER, clock=lambda: time.time() + next(hours) * HOUR) as server,
        peer_of(server.target, metrics) as peer,
    ):
        for _ in range(2):
            with pytest.raises(Failure) as caught:
                await call(peer, "Answer")
            assert caught.value.reason == errors_pb2.ERROR_REASON_TOKEN_INVALID
        with pytest.raises(Failure):
            await numbers(peer)

    assert count(metrics, "Answer", "UNAUTHENTICATED") == 4
    assert count(metrics, "Stream", "UNAUTHENTICATED") == 2
    assert caught.value.metadata == {}


async def test_a_wrong_key_teaches_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It is refused once, without the time."""
    caplog.set_level(logging.INFO)
    metrics = Metrics(service="client")
    async with (
        running(REGISTER, clock=wrong(HOUR)) as server,
        peer_of(server.target, metrics, key="x" * 32) as peer,
    ):
        with pytest.raises(Failure) as caught:
            await call(peer, "Answer")

    assert (caught.value.reason_name, caught.value.metadata) == ("TOKEN_INVALID", {})
    assert count(metrics, "Answer", "UNAUTHENTICATED") == 1
    assert "clocks differ" not in caplog.messages
