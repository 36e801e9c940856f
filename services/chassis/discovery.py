"""The addresses behind a target, looked up again and again.

Does not know what listens there, and does not dial.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from types import TracebackType
from typing import Self, TypeAlias

from services.chassis.tasks import Tasks

log = logging.getLogger(__name__)

Resolve: TypeAlias = Callable[[str, int], Awaitable[Iterable[str]]]
"""Finds the addresses of a name and a port; raises OSError when it cannot."""

_DNS = "dns:///"
_LARGEST_PORT = 65_535
# An IPv6 address has colons of its own, and stands in brackets therefore.
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s,:/\[\]]+):([0-9]{1,5})")


def check_target(target: str) -> None:
    """Check that a setting is a target that `Discovery` understands.

    Raises:
        ValueError: It is not; says what it must look like.
    """
    _parse(target)


def check_address(address: str) -> None:
    """Check that a setting is one address, `host:port`.

    Raises:
        ValueError: It is not; says what it must look like.
    """
    if _match(address) is None:
        raise ValueError(f"{address!r} is not an address: write `host:port`.")


async def system_resolve(host: str, port: int) -> list[str]:
    """Return every A and AAAA record of a name, as the system finds them.

    Raises:
        OSError: The name has none, or nobody could be asked.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [
        f"[{address[0]}]:{port}" if family == socket.AF_INET6 else f"{address[0]}:{port}"
        for family, _, _, _, address in found
    ]


class Discovery:
    """The addresses behind a target; an async context manager, open while it is entered.

    A look-up that fails, takes too long or finds nothing changes nothing: the last
    answer is a better guess than none.

    Args:
        target: `host:port`, or several separated by commas, which are taken as they
            are. Or `dns:///name:port`: every A and AAAA record of the name, as a
            headless service of Kubernetes has one for each pod.
        period: Time between two look-ups.
        patience: How long one look-up may take.
        resolve: Looks up.

    Raises:
        ValueError: The target is malformed; see `check_target`.
    """

    def __init__(
        self,
        *,
        target: str,
        period: timedelta = timedelta(seconds=2),
        patience: timedelta = timedelta(seconds=5),
        resolve: Resolve = system_resolve,
    ) -> None:
        self._target = target
        self._name, self._addresses = _parse(target)
        self._period = period.total_seconds()
        self._patience = patience.total_seconds()
        self._resolve = resolve
        self._callbacks: list[Callable[[], None]] = []
        self._tasks = Tasks()

    @property
    def addresses(self) -> frozenset[str]:
        """What is known now, each `host:port`; empty before the first answer."""
        return self._addresses

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call a function from the event loop after each change of `addresses`."""
        self._callbacks.append(callback)

    async def __aenter__(self) -> Self:
        """Begin to look up, without waiting for the first answer."""
        if self._name is not None:
            self._tasks.spawn(self._keep_looking(*self._name), name="discovery")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Look up no more."""
        await self._tasks.close()

    async def _keep_looking(self, host: str, port: int) -> None:
        found = True
        while True:
            answer = await self._look_up(host, port)
            if bool(answer) != found:
                found = bool(answer)
                if found:
                    log.info("name found again", extra={"target": self._target})
                else:
                    log.warning(
                        "name not found",
                        extra={"target": self._target, "kept": len(self._addresses)},
                    )
            if answer and answer != self._addresses:
                self._change(answer)
            await asyncio.sleep(self._period)

    async def _look_up(self, host: str, port: int) -> frozenset[str]:
        try:
            async with asyncio.timeout(self._patience):
                return frozenset(await self._resolve(host, port))
        except (OSError, UnicodeError):
            # A TimeoutError is an OSError. A label that is too long is a UnicodeError.
            return frozenset()

    def _change(self, addresses: frozenset[str]) -> None:
        log.info(
            "addresses changed",
            extra={
                "target": self._target,
                "joined": sorted(addresses - self._addresses),
                "left": sorted(self._addresses - addresses),
            },
        )
        self._addresses = addresses
        loop = asyncio.get_running_loop()
        for callback in self._callbacks:
            # Not called from here: what one raises must not end the look-ups.
            loop.call_soon(callback)


def _parse(target: str) -> tuple[tuple[str, int] | None, frozenset[str]]:
    """Return the name to look up, or the addresses there are."""
    if target.startswith(_DNS):
        host, port = _split(target.removeprefix(_DNS), target)
        return (host, port), frozenset()
    addresses = [part.strip() for part in target.split(",")]
    for address in addresses:
        _split(address, target)
    return None, frozenset(addresses)


def _split(address: str, target: str) -> tuple[str, int]:
    found = _match(address)
    if found is None:
        raise ValueError(
            f"{target!r} is not a target: write `host:port`, several of them with commas"
            " between, or `dns:///name:port` for all addresses of a name."
        )
    return found


def _match(address: str) -> tuple[str, int] | None:
    match = _ADDRESS.fullmatch(address)
    if match is None or not 1 <= int(match[2]) <= _LARGEST_PORT:
        return None
    return match[1], int(match[2])
