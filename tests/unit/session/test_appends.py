"""Tests of `services.session.appends`: how much of what waits goes together."""

from __future__ import annotations

import asyncio

import pytest

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.session.appends import SEGMENT_BYTES, Append, Waiting

FENCED = Failure(errors_pb2.ERROR_REASON_FENCED, "somebody else's")


def append(size: int = 1, *, joined: bool = False) -> Append:
    """Return an append of a size."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    return Append([], {}, {}, size, done, joined=joined)


@pytest.fixture
async def waiting() -> Waiting:
    """Nothing waits."""
    return Waiting()


async def test_what_waits_goes_together_in_order(waiting: Waiting) -> None:
    """One commit takes all of it, and nothing waits then."""
    appends = [append(3), append(4)]
    for one in appends:
        waiting.add(one)
    assert 7 == waiting.bytes

    assert appends == waiting.take()
    assert (False, 0) == (bool(waiting), waiting.bytes)


async def test_a_commit_is_limited_by_bytes_and_by_appends(waiting: Waiting) -> None:
    """What is too much goes into the next one; a single one is never too much."""
    sizes = [SEGMENT_BYTES + 1, SEGMENT_BYTES, 1, *([1] * 150)]
    for size in sizes:
        waiting.add(append(size))

    taken = []
    while waiting:
        taken.append([one.size for one in waiting.take()])

    assert [[SEGMENT_BYTES + 1], [SEGMENT_BYTES], [1] * 100, [1] * 51] == taken


async def test_what_is_joined_goes_with_the_one_before(waiting: Waiting) -> None:
    """However large both are: neither is ever stored without the other."""
    waiting.add(append(SEGMENT_BYTES))
    waiting.add(append(SEGMENT_BYTES, joined=True))
    waiting.add(append())

    assert [SEGMENT_BYTES, SEGMENT_BYTES] == [one.size for one in waiting.take()]
    assert 1 == waiting.bytes


async def test_what_was_put_back_is_taken_first(waiting: Waiting) -> None:
    """As if it had never been taken."""
    for size in (1, 2, 3):
        waiting.add(append(size))
    taken = waiting.take()
    waiting.add(append(4))

    waiting.put_back(taken)

    assert 10 == waiting.bytes
    assert [1, 2, 3, 4] == [one.size for one in waiting.take()]


async def test_whoever_waits_hears_that_it_will_never_be(waiting: Waiting) -> None:
    """But for one who has left."""
    left, stays = append(), append()
    left.done.cancel()
    waiting.add(left)
    waiting.add(stays)

    waiting.fail(FENCED)

    assert FENCED is stays.done.exception()
    assert (False, 0) == (bool(waiting), waiting.bytes)
