"""Pods of the session service that a test speaks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from google.protobuf.message import Message

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import sessions_pb2
from services.chassis.failures import Failure
from services.chassis.identity import Identity
from services.chassis.rendezvous import ranked
from services.gateway.pods import Pod
from tests.unit.gateway.fakes import FakeLink

R = TypeVar("R", bound=Message)


def failure(reason: str, **more: Any) -> Failure:
    """A failure by the name of its reason."""
    return Failure(errors_pb2.ErrorReason.Value(f"ERROR_REASON_{reason}"), reason, **more)


def not_owner(address: str = "") -> Failure:
    """What a pod says that does not serve the user."""
    return failure("NOT_OWNER", **({"address": address} if address else {}))


class FakePod:
    """Answers with what a test puts there, and goes away when it is told to."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.connected = True
        self.lost = False
        self.away_seconds = 0.0
        self.heard = asyncio.get_running_loop().time()
        self.link = FakeLink()
        self.slots = asyncio.Semaphore(64)
        # The next answers, then the last one for ever; None never comes.
        self.answers: list[Failure | str | None] = [address]
        self.calls: list[tuple[str, Any, Identity]] = []
        # Workspace and executor of whatever agent is asked for.
        self.locate: Callable[[], tuple[str, str]] = lambda: ("", "")

    def go(self) -> None:
        """Break its feed, and answer nothing."""
        self.connected, self.lost = False, True
        self.answers = [failure("SERVICE_UNAVAILABLE", service="session")]

    async def answer(self) -> str:
        """Give the next answer."""
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            await asyncio.get_running_loop().create_future()
        if isinstance(answer, Failure):
            raise answer
        return answer or ""

    async def call(
        self,
        method: str,
        request: Message,
        response: type[R],
        *,
        identity: Identity,
        timeout: timedelta,  # noqa: ASYNC109
    ) -> R:
        """See `Caller`."""
        self.calls.append((method.rpartition("/")[2], request, identity))
        await self.answer()
        if response is sessions_pb2.LocateWorkspaceResponse:
            workspace, address = self.locate()
            return response(workspace=workspace, address=address)
        return response()

    async def stream(
        self,
        method: str,
        request: Message,
        response: type[R],
        *,
        identity: Identity,
        timeout: timedelta | None = None,  # noqa: ASYNC109
    ) -> AsyncGenerator[R, None]:
        """See `files.Executor`: what `call` answers, once."""
        yield await self.call(
            method, request, response, identity=identity, timeout=timeout or timedelta(0)
        )

    async def healthy(self, timeout: timedelta) -> bool:  # noqa: ASYNC109
        """See `Backend`."""
        return self.connected


class FakePods:
    """See `Pods`; a pod that is asked for is there, discovered or not."""

    def __init__(self, *addresses: str) -> None:
        self.by_address = {address: FakePod(address) for address in addresses}
        self.known = list(addresses)

    def __getitem__(self, address: str) -> FakePod:
        return self.by_address[address]

    def get(self, address: str) -> FakePod:
        """See `Pods`."""
        return self.by_address.setdefault(address, FakePod(address))

    def discovered(self) -> Sequence[FakePod]:
        """See `Pods`."""
        return [self.by_address[address] for address in self.known]

    def join(self, address: str) -> FakePod:
        """Discover another one."""
        self.known.append(address)
        return self.get(address)

    def order(self, user: str) -> list[FakePod]:
        """The pods in the order in which a user's calls prefer them."""
        return [self.by_address[address] for address in ranked(user, self.known)]


def recording(asked: list[str]) -> Callable[[Pod, timedelta], Awaitable[str]]:
    """An attempt that notes whom it asked."""

    async def attempt(pod: Pod, left: timedelta) -> str:
        assert isinstance(pod, FakePod)
        asked.append(pod.address)
        return await pod.answer()

    return attempt
