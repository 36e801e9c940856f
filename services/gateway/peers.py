"""The services behind the gateway, by which calls they answer.

Does not know frames.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import string
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from google.protobuf.message import Message

from moorline.diagnosis.v1 import diagnosis_pb2
from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import agents_pb2, keys_pb2
from services.chassis.failures import Failure
from services.chassis.identity import Identity
from services.gateway.calls import Call, Service
from services.gateway.diagnosis import Diagnosis
from services.gateway.files import METHODS as FILE_METHODS
from services.gateway.files import Files
from services.gateway.pods import Caller, Pod
from services.gateway.routing import UNTOUCHED, Router
from services.gateway.upstream import PASSING

R = TypeVar("R", bound=Message)

_HEALTH_TIMEOUT = timedelta(seconds=1)
_HEALTH_SECONDS = 1.0
_EXECUTOR_TIMEOUT = timedelta(seconds=5)
_KEYS = "/moorline.session.v1.KeyService/"
_ID_ALPHABET = string.ascii_lowercase + string.digits


class Backend(Caller, Protocol):
    """A process of any service."""

    async def healthy(self, timeout: timedelta) -> bool:  # noqa: ASYNC109
        """Tell whether it is ready for calls."""
        ...


class Backends(Protocol):
    """The processes of a service that are known; `Pool` is one."""

    def discovered(self) -> Sequence[Backend]:
        """Return them."""
        ...


class AnyPod:
    """Makes calls that every pod of the session service can answer.

    Args:
        router: Finds one that does.
    """

    def __init__(self, *, router: Router) -> None:
        self._router = router

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

        async def attempt(pod: Pod, left: timedelta) -> R:
            return await pod.call(method, request, response, identity=identity, timeout=left)

        key = str(random.random())  # noqa: S311 - spreads load, guards nothing
        return await self._router.route(key, attempt, timeout=timeout, remember=False)


class AnyExecutor:
    """Makes calls that every executor can answer.

    Args:
        executors: Those that are known.
    """

    def __init__(self, *, executors: Backends) -> None:
        self._executors = executors

    async def call(
        self,
        method: str,
        request: Message,
        response: type[R],
        *,
        identity: Identity,
        timeout: timedelta,  # noqa: ASYNC109
    ) -> R:
        """See `Caller`. Each executor is asked at most once."""
        failure = _unknown()
        executors = list(self._executors.discovered())
        random.shuffle(executors)
        for executor in executors:
            try:
                return await executor.call(
                    method,
                    request,
                    response,
                    identity=identity,
                    timeout=min(timeout, _EXECUTOR_TIMEOUT) if len(executors) > 1 else timeout,
                )
            except Failure as refusal:
                if refusal.reason not in PASSING:
                    raise
                failure = refusal
        raise failure


class ServicePeers:
    """Sends each call to a process that answers it.

    Args:
        router: Finds the session service's pod for a user.
        sessions: The pods of the session service.
        executors: The executors.
        files: Answers calls about files.
        diagnosis: Answers what the platform's surroundings are like.
        timeout: How long a call may take.
        clock: Seconds of a clock that does not go back.
    """

    def __init__(
        self,
        *,
        router: Router,
        sessions: Backends,
        executors: Backends,
        files: Files,
        diagnosis: Diagnosis,
        timeout: timedelta,
        clock: Callable[[], float],
    ) -> None:
        self._router = router
        self._backends = {Service.SESSION: sessions, Service.EXECUTOR: executors}
        self._executor = AnyExecutor(executors=executors)
        self._files = files
        self._diagnosis = diagnosis
        self._timeout = timeout
        self._clock = clock
        self._health: dict[Service, tuple[bool, float]] = {}

    async def call(self, call: Call, request: Message, *, identity: Identity) -> Message:
        """See `connection.Peers`."""
        if isinstance(request, diagnosis_pb2.DiagnoseRequest):
            return await self._diagnosis.call(identity)
        if call.method.startswith(FILE_METHODS):
            return await self._files.call(call, request, identity=identity)
        if call.service is Service.EXECUTOR:
            return await self._executor.call(
                call.method, request, call.response, identity=identity, timeout=self._timeout
            )
        request = _with_id(request)
        # True once an attempt may have had its effect although its answer never came.
        doubtful = False

        async def attempt(pod: Pod, left: timedelta) -> Message:
            nonlocal doubtful
            before, doubtful = doubtful, True
            try:
                return await pod.call(
                    call.method, request, call.response, identity=identity, timeout=left
                )
            except Failure as failure:
                if before and _is_done(request, failure):
                    return call.response()
                doubtful = before or failure.reason not in UNTOUCHED
                raise

        return await self._router.route(
            _user_of(request) or identity.user,
            attempt,
            timeout=self._timeout,
            repeat=_is_repeatable(request),
            remember=not call.method.startswith(_KEYS),
        )

    async def healthy(self, service: Service) -> bool:
        """Tell whether a process of a service is ready; asks at most once a second."""
        known = self._health.get(service)
        if known is not None and self._clock() - known[1] < _HEALTH_SECONDS:
            return known[0]
        answer = await _any_healthy(self._backends[service].discovered())
        self._health[service] = (answer, self._clock())
        return answer


async def _any_healthy(backends: Sequence[Backend]) -> bool:
    tasks = [asyncio.ensure_future(backend.healthy(_HEALTH_TIMEOUT)) for backend in backends]
    try:
        for answer in asyncio.as_completed(tasks):
            if await answer:
                return True
    finally:
        for task in tasks:
            task.cancel()
    return False


def _user_of(request: Any) -> str:
    """Return the user whose resource a request names, `users/{user}`."""
    if isinstance(request, agents_pb2.UpdateAgentRequest):
        name = request.agent.name
    else:
        name = getattr(request, "parent", "") or getattr(request, "name", "")
    return "/".join(name.split("/")[:2])


def _with_id(request: Message) -> Message:
    """Return a request that makes nothing twice when it is repeated."""
    if not isinstance(request, agents_pb2.CreateAgentRequest) or request.agent_id:
        return request
    named = agents_pb2.CreateAgentRequest()
    named.CopyFrom(request)
    named.agent_id = "a" + "".join(secrets.choice(_ID_ALPHABET) for _ in range(15))
    return named


def _is_repeatable(request: Message) -> bool:
    """False when a repetition may have another effect, or another answer."""
    if isinstance(request, agents_pb2.UpdateAgentRequest):
        # What the first one wrote would be what the second finds changed.
        return not request.agent.etag
    return not isinstance(request, keys_pb2.CreateKeyRequest)


def _is_done(request: Message, failure: Failure) -> bool:
    """True when a failure says that an attempt before had its effect."""
    return (
        isinstance(request, agents_pb2.DeleteAgentRequest)
        and failure.reason == errors_pb2.ERROR_REASON_RESOURCE_NOT_FOUND
    )


def _unknown() -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
        "No executor is known yet. Try again.",
        retry_delay=timedelta(seconds=1),
        service="executor",
    )
