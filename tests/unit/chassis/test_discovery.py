"""Tests of `services.chassis.discovery`."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterable
from datetime import timedelta

import pytest

from services.chassis.discovery import Discovery, check_target, system_resolve
from tests.unit.chassis.service import until


class Names:
    """Answers look-ups with what a test says."""

    def __init__(self, *addresses: str) -> None:
        self.answer: Iterable[str] | Exception = addresses
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Iterable[str]:
        """See `Resolve`."""
        self.asked.append((host, port))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def settle(self) -> None:
        """Wait until what was said is known."""
        count = len(self.asked)
        await until(lambda: len(self.asked) >= count + 2)


def found_by(names: Names) -> Discovery:
    """Return a discovery that asks again and again."""
    return Discovery(target="dns:///pods:7000", period=timedelta(milliseconds=1), resolve=names)


@pytest.mark.parametrize(
    ("target", "addresses"),
    [
        ("localhost:7000", {"localhost:7000"}),
        ("a:1, b:2,[::1]:3", {"a:1", "b:2", "[::1]:3"}),
    ],
)
async def test_addresses_are_taken_as_they_are(target: str, addresses: set[str]) -> None:
    """They are known from the beginning, and nobody is asked."""
    names = Names()
    async with Discovery(target=target, resolve=names) as discovery:
        await asyncio.sleep(0)

        assert addresses == discovery.addresses
        assert names.asked == []


@pytest.mark.parametrize(
    "target",
    [
        "",
        "localhost",
        "localhost:",
        "localhost:0",
        "localhost:65536",
        "localhost:http",
        ":7000",
        "::1:7000",
        "a:1,,b:2",
        "a:1,dns:///b:2",
        "dns:///pods",
        "dns:///a:1,b:2",
        "dns://resolver/pods:7000",
        "http://a:1",
    ],
)
def test_a_malformed_target_is_refused(target: str) -> None:
    """The error says what to write instead."""
    with pytest.raises(ValueError, match="write `host:port`"):
        check_target(target)


@pytest.mark.parametrize("target", ["a:1", "a:1,b:2", "[2001:db8::1]:1", "dns:///a.b.svc:1"])
def test_a_good_target_is_accepted(target: str) -> None:
    """Checking says nothing then."""
    check_target(target)


async def test_a_change_is_told_once() -> None:
    """Not at each look-up, and not when only the order differs."""
    names, told = Names("b:1", "a:1"), []
    async with found_by(names) as discovery:
        assert frozenset() == discovery.addresses
        discovery.on_change(lambda: told.append(discovery.addresses))
        await names.settle()
        names.answer = ["a:1", "b:1"]
        await names.settle()
        names.answer = ["a:1", "c:1"]
        await names.settle()

    assert told == [{"a:1", "b:1"}, {"a:1", "c:1"}]
    assert set(names.asked) == {("pods", 7000)}


@pytest.mark.parametrize("nothing", [OSError("no answer"), UnicodeError("label too long"), ()])
async def test_a_failed_look_up_keeps_the_last_answer(
    nothing: Iterable[str] | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Failing is logged once, and so is its end."""
    caplog.set_level(logging.INFO)
    names = Names("a:1")
    async with found_by(names) as discovery:
        await names.settle()
        names.answer = nothing
        await names.settle()
        await names.settle()
        assert discovery.addresses == {"a:1"}
        names.answer = ["b:1"]
        await names.settle()
        assert discovery.addresses == {"b:1"}

    assert [message for message in caplog.messages if message.startswith("name")] == [
        "name not found",
        "name found again",
    ]


async def test_a_look_up_that_hangs_is_left() -> None:
    """The next one may find what this one did not."""
    soon = timedelta(milliseconds=10)
    asked = 0

    async def resolve(host: str, port: int) -> list[str]:
        nonlocal asked
        asked += 1
        if asked == 1:
            await asyncio.Event().wait()
        return ["a:1"]

    async with Discovery(
        target="dns:///pods:1", period=soon, patience=soon, resolve=resolve
    ) as discovery:
        await until(lambda: discovery.addresses == {"a:1"})


async def test_a_callback_that_raises_does_not_end_the_look_ups() -> None:
    """It is a bug of its owner, which the loop reports."""
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: reported.append(context["exception"])
    )
    error = KeyError("bug")

    def fail() -> None:
        raise error

    names = Names("a:1")
    async with found_by(names) as discovery:
        discovery.on_change(fail)
        await names.settle()
        names.answer = ["b:1"]
        await names.settle()

        assert discovery.addresses == {"b:1"}
    assert reported == [error, error]


async def test_the_end_ends_the_look_ups() -> None:
    """Nobody is asked after it."""
    names = Names("a:1")
    async with found_by(names):
        await names.settle()
    count = len(names.asked)
    await asyncio.sleep(0.01)

    assert len(names.asked) == count


async def test_the_system_resolves_names() -> None:
    """IPv6 addresses come in brackets, as they are dialled."""
    assert await system_resolve("127.0.0.1", 7000) == ["127.0.0.1:7000"]
    if socket.has_ipv6:
        assert await system_resolve("::1", 7000) == ["[::1]:7000"]
    assert set(await system_resolve("localhost", 7000)) & {"127.0.0.1:7000", "[::1]:7000"}


async def test_a_name_that_does_not_exist_is_an_error() -> None:
    """Discovery takes it for a failed look-up."""
    with pytest.raises(OSError):  # noqa: PT011 - its text is the system's
        await system_resolve("nobody.invalid", 7000)
