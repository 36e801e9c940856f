"""A Docker engine, as far as agents need one. Does not know what an agent is.

Everything that the engine or the way to it does wrong leaves here as an `EngineError`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiodocker
import aiohttp
from aiodocker.stream import Stream

UNIX = "unix://"
_UNREACHABLE = 900
"""What the library calls the status of a call that reached nobody."""
_CALL_SECONDS = 30.0
"""For one call; to create a container takes 0.2 s on an idle machine, several on a busy one."""
_GONE_SECONDS = 10.0
"""For a container to be killed, or to be reported as ended when its streams have."""
_HEADER = 8
"""Bytes before each piece of output: which stream, three zeroes, how many bytes follow."""
_ENTRY = 80
"""Bytes that an entry of the log takes beside its text."""
STDERR = 2
"""Number of a container's standard error."""


class EngineError(Exception):
    """The engine refuses, or cannot be reached.

    Args:
        status: The HTTP status; 0 when there was no answer.
        message: What it says about it.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a container ended.

    Attributes:
        code: Its exit code.
        out_of_memory: Whether memory ran out in it at any time.
    """

    code: int
    out_of_memory: bool


class Attached:
    """An open connection to a container's streams. Closing it leaves the container alone."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._lost = False

    async def read(self) -> tuple[int, bytes] | None:
        """Return the next piece of output and its stream's number; None at the end.

        Nothing is read ahead but about 128 KiB: then the engine waits, and then the container.
        """
        try:
            message = await self._stream.read_out()
        except (aiohttp.ClientError, OSError):
            message = None
        if message is None:
            self._lost = True
            return None
        return message.stream, message.data

    async def write(self, data: bytes) -> None:
        """Write input; it is dropped when the container is gone.

        Waits while the container does not read.
        """
        if self._lost:
            return
        try:
            await self._stream.write_in(data)
        except (AssertionError, RuntimeError, aiohttp.ClientError, OSError):
            # The library asserts that there is a connection.
            self._lost = True

    async def close(self) -> None:
        """Close the connection."""
        try:
            await self._stream.close()
        except (AssertionError, OSError):
            self._lost = True


class Engine:
    """One Docker engine, to be closed in the end.

    Args:
        host: Its address: `unix:///PATH` or `tcp://HOST:PORT`.

    Raises:
        ValueError: When the address is neither.
    """

    def __init__(self, *, host: str) -> None:
        self.host = host
        # Each agent keeps a connection, so their number is bounded by the agents' only.
        connector: aiohttp.BaseConnector
        if host.startswith(UNIX):
            connector = aiohttp.UnixConnector(host.removeprefix(UNIX), limit=0)
            url = "http://docker"
        elif host.startswith("tcp://"):
            connector = aiohttp.TCPConnector(limit=0)
            url = host.replace("tcp://", "http://", 1)
        else:
            raise ValueError(host)
        self._connector = connector
        self._docker = aiodocker.Docker(url=url, connector=connector)

    async def close(self) -> None:
        """Close every connection; containers are left alone."""
        await self._docker.close()
        await self._connector.close()

    async def version(self) -> str:
        """Return the engine's version."""
        async with _asking():
            return str((await self._docker.version())["Version"])

    async def image_labels(self, image: str) -> Mapping[str, str] | None:
        """Return the labels of an image; None when there is none of this name."""
        try:
            async with _asking():
                found = await self._docker.images.inspect(image)
                return dict(found["Config"].get("Labels") or {})
        except EngineError as error:
            if error.status == 404:
                return None
            raise

    async def create(self, name: str, configuration: Mapping[str, Any]) -> None:
        """Create a container; its name will do where an id is asked for."""
        async with _asking():
            await self._docker.containers.create(configuration, name=name)

    async def start(self, container: str) -> None:
        """Start a container."""
        async with _asking():
            await self._docker.containers.container(container).start()

    async def attach(self, container: str, *, output: bool) -> Attached:
        """Connect to a container's input, from now on, and to its output if wanted."""
        stream = self._docker.containers.container(container).attach(
            stdin=True, stdout=output, stderr=output
        )
        attached = Attached(stream)
        try:
            async with _asking():
                # It would connect when first used, and twice if that is from two sides.
                await stream.__aenter__()
        except BaseException:
            await attached.close()
            raise
        return attached

    async def output(self, container: str, *, limit: int) -> AsyncGenerator[tuple[int, bytes]]:
        """Return what a container has printed since it began, and go on until it ends.

        It comes from the container's log, so that it comes once and in order whoever else has
        read it before. Nothing is read ahead but a little; the container does not wait.

        Args:
            container: Whose output.
            limit: Bytes at which its log begins a new file. Engines have handed over lines
                twice there, so it ends before.

        Raises:
            EngineError: The engine is gone, or the log too long.
        """
        taken = logged = 0
        async with aclosing(self._log(container, follow=True)) as followed:
            async for stream, data in followed:
                taken += 1
                logged += _logged(data)
                if logged > limit:
                    raise EngineError(0, "its log is longer than can be followed")
                yield stream, data
        # Engines have stopped following with the container, however much of the log was unread.
        await self.ended(container)
        async with aclosing(self._log(container, follow=False)) as whole:
            async for stream, data in whole:
                taken -= 1
                if taken < 0:
                    yield stream, data

    async def _log(self, container: str, *, follow: bool) -> AsyncGenerator[tuple[int, bytes]]:
        query = {"follow": str(int(follow)), "stdout": "1", "stderr": "1", "tail": "all"}
        url = self._url(container, "logs")
        timeout = aiohttp.ClientTimeout(total=None)
        try:
            async with self._docker.session.get(url, params=query, timeout=timeout) as response:
                response.raise_for_status()
                content = response.content
                while True:
                    header = await content.readexactly(_HEADER)
                    size = int.from_bytes(header[4:], "big")
                    yield header[0], await content.readexactly(size)
        except asyncio.IncompleteReadError:
            return
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            raise EngineError(0, str(error)) from error

    async def ended(self, container: str) -> Ended:
        """Return how a container ended that is ending just now.

        Raises:
            EngineError: Also when it goes on.
        """
        one = self._docker.containers.container(container)
        async with _asking(_GONE_SECONDS):
            waited = await one.wait()
            state = (await one.show())["State"]
        return Ended(code=int(waited["StatusCode"]), out_of_memory=bool(state["OOMKilled"]))

    async def is_running(self, container: str) -> bool:
        """Tell whether a container runs; one that is not there does not."""
        try:
            async with _asking():
                state = (await self._docker.containers.container(container).show())["State"]
        except EngineError as error:
            if error.status == 404:
                return False
            raise
        return bool(state["Running"])

    async def remove(self, container: str) -> None:
        """Remove a container, also when it runs; absent is fine."""
        try:
            async with _asking():
                await self._docker.containers.container(container).delete(force=True, v=True)
        except EngineError as error:
            # 409: somebody else is removing it.
            if error.status not in {404, 409}:
                raise

    async def memory(self, container: str) -> int | None:
        """Return the bytes of memory that a container needs; None when it does not run."""
        url = self._url(container, "stats")
        async with (
            _asking(),
            self._docker.session.get(url, params={"stream": "0", "one-shot": "1"}) as response,
        ):
            response.raise_for_status()
            told = (await response.json())["memory_stats"]
        if "usage" not in told:
            return None
        # Pages of files that can be dropped at once; named differently by the two cgroups.
        details = told.get("stats", {})
        idle = details.get("total_inactive_file", details.get("inactive_file", 0))
        return max(0, int(told["usage"]) - int(idle))

    async def list(self, label: str, value: str) -> Sequence[Mapping[str, Any]]:
        """Return the containers with a label, the newest first, whether they run or not.

        Each has at least `Id`, `Names`, `State`, `Labels`.
        """
        filters = f'{{"label": ["{label}={value}"]}}'
        async with _asking():
            found = await self._docker.containers.list(all=1, filters=filters)
            return [{key: one[key] for key in ("Id", "Names", "State", "Labels")} for one in found]

    def _url(self, container: str, what: str) -> str:
        docker = self._docker
        return f"{docker.docker_host}/{docker.api_version}/containers/{container}/{what}"


def _logged(data: bytes) -> int:
    """Return about how many bytes of the log a piece of output takes, at most."""
    count = data.count
    escaped = count(b'"') + count(b"\\")
    return len(data) + escaped + 5 * (count(b"<") + count(b">") + count(b"&")) + _ENTRY


@asynccontextmanager
async def _asking(seconds: float = _CALL_SECONDS) -> AsyncIterator[None]:
    """Turn what goes wrong in one call into an `EngineError`."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except aiodocker.DockerError as error:
        status = 0 if error.status >= _UNREACHABLE else error.status
        raise EngineError(status, error.message) from error
    except aiohttp.ClientResponseError as error:
        raise EngineError(error.status, error.message) from error
    except TimeoutError as error:
        raise EngineError(0, f"no answer within {seconds:g} seconds") from error
    except (
        aiohttp.ClientError,
        OSError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise EngineError(0, str(error)) from error
