"""The channel to an agent in a container. Does not know what the lines mean.

The container outlives this process. Its output is read from the connection that was attached
before it was started; after a restart of the executor it is read from its log, from the
beginning: an attached connection that begins later than the container has a seam, where lines
are lost or come twice.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Any

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.chassis.tasks import Tasks
from services.executor.channel import Exit, ExitReason, Receiver
from services.executor.channels.docker.container import LOG_LIMIT
from services.executor.channels.docker.engine import STDERR, Attached, Ended, Engine, EngineError
from services.executor.channels.process.lines import Lines

log = logging.getLogger(__name__)

LINE_LIMIT = 64 << 20
"""Bytes of the longest line; many times what the largest tool result makes."""
_STDERR_LIMIT = 8 << 10
"""Bytes of the last words that are kept for the log."""
_KILLED_SECONDS = 3.0
"""For a killed container to be gone."""
_HEARD_SECONDS = 1.0
"""How long after its removal a container's connection may take to end."""
_HELD_SECONDS = 0.5
"""How often a container is looked at whose output nobody reads for the moment."""
_REPLAY_SECONDS = 10.0
"""For the engine to hand over the first line of a log."""
_END_OF_INPUT = b"\x04\n"
"""What `moorline-agent` in the image takes as the end of its input."""
_BEGINNING = b"moorline-agent: begins\n"
"""What it prints first; a log without it has lost its beginning."""
_SIGNALLED = 128
"""A shell's exit codes from here on are signals."""


class DockerChannel:
    """A `Channel` to a container's first process.

    Args:
        engine: Where it runs.
        container: Its name, or its id.
        workspace: Whose it is; for the log.
        configuration: What to create; None for a container that runs.
        prepare: Called in a thread before a container is created; may take long and raise OSError.
        tasks: Owner of the tasks that listen to it.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        container: str,
        workspace: str,
        configuration: Mapping[str, Any] | None,
        prepare: Callable[[], None] | None,
        tasks: Tasks,
    ) -> None:
        self._engine = engine
        self.workspace = workspace
        self._configuration = configuration
        self._prepare = prepare
        self._container = container
        self._tasks = tasks
        self.before: Callable[[], Awaitable[None]] | None = None
        """Awaited before a container is created; may raise EngineError."""
        self.left_behind = False
        """Whether the engine has been told in vain to remove it."""
        loop = asyncio.get_running_loop()
        self._gone: asyncio.Future[Exit] = loop.create_future()
        self._removed: asyncio.Future[None] = loop.create_future()
        self._released = asyncio.Event()
        self._released.set()
        self._lines: Lines | None = None
        self._input: Attached | None = None
        self._listening: asyncio.Task[None] | None = None
        self._killed = False
        self._taking: asyncio.Task[None] | None = None
        self._begun = False
        self._input_closed = False
        self._last_words = bytearray()

    @property
    def container(self) -> str:
        """Name or id of the container, which may not be there yet, or any more."""
        return self._container

    @property
    def gone(self) -> bool:
        """Whether it has ended, or could not be started."""
        return self._gone.done()

    @property
    def removed(self) -> bool:
        """Whether nothing is left of it, as far as can be done about it here."""
        return self._removed.done()

    async def settled(self) -> None:
        """Wait until nothing is left of a container that was to be ended; no time for others."""
        if self._killed or self._gone.done():
            await asyncio.wait({self._removed}, timeout=_KILLED_SECONDS)

    async def open(self, receiver: Receiver) -> None:
        """Start the container, or go on with one that runs.

        Raises:
            Failure: BACKEND_UNAVAILABLE, EXECUTION_LOST.
        """
        self._lines = Lines(receiver=receiver, limit=LINE_LIMIT)
        begin = self._adopt if self._configuration is None else self._start
        opening = self._tasks.spawn(begin(), name="container-open")
        try:
            failure = await asyncio.shield(opening)
        except asyncio.CancelledError:
            # What the engine was asked for, it does; it can be taken back only then.
            self._tasks.spawn(self._abandon(opening), name="container-abandon")
            raise
        if failure is not None:
            await self._give_up()
            raise failure

    async def write(self, line: bytes) -> None:
        """Hand one line to the process."""
        if self._input is not None and not self._input_closed:
            await self._input.write(line + b"\n")

    def hold(self) -> None:
        """Read no more, until `release`.

        The container waits when the engine's buffer is full. After an adoption it does not wait:
        its log takes what it prints.
        """
        if self._lines is not None:
            self._lines.hold()
            self._released.clear()

    def release(self) -> None:
        """Hand over what waits, and go on."""
        if self._lines is not None:
            self._lines.release()
            if not self._lines.held:
                self._released.set()

    async def close_input(self) -> None:
        """Tell the process that no line follows."""
        if self._input is not None and not self._input_closed:
            self._input_closed = True
            await self._input.write(_END_OF_INPUT)

    async def kill(self) -> None:
        """Kill everything in the container, and remove it."""
        if self._listening is None or self._gone.done():
            return
        self._killed = True
        # Nobody may release it any more.
        self._released.set()
        self._taking = self._tasks.spawn(self._take_away(self._listening), name="container-kill")
        await asyncio.wait({self._removed}, timeout=_KILLED_SECONDS)

    async def memory(self) -> int | None:
        """Return the bytes of memory that everything in the container takes."""
        if self._listening is None or self._gone.done():
            return None
        try:
            return await self._engine.memory(self._container)
        except EngineError:
            return None

    async def wait(self) -> Exit:
        """Wait until the process is gone."""
        return await asyncio.shield(self._gone)

    # Beginning.

    async def _start(self) -> Failure | None:
        try:
            if self.before is not None:
                await self.before()
            if self._prepare is not None:
                await asyncio.to_thread(self._prepare)
            await self._engine.create(self._container, self._configuration or {})
            # Before it is started, so that nothing it prints is missed.
            self._input = attached = await self._engine.attach(self._container, output=True)
            await self._engine.start(self._container)
        except (EngineError, OSError) as error:
            self._log("agent container not started", error)
            return Failure(
                errors_pb2.ERROR_REASON_BACKEND_UNAVAILABLE,
                "The Docker engine did not start the agent's container.",
                backend="docker",
            )
        self._listen(_pieces(attached))
        return None

    async def _adopt(self) -> Failure | None:
        lost = Failure(
            errors_pb2.ERROR_REASON_EXECUTION_LOST,
            f"The agent of workspace {self.workspace} cannot be taken over by this executor.",
        )
        pieces = self._engine.output(self._container, limit=LOG_LIMIT)
        first = None
        try:
            if not await self._engine.is_running(self._container):
                return lost
            self._input = await self._engine.attach(self._container, output=False)
            async with asyncio.timeout(_REPLAY_SECONDS):
                first = await anext(pieces, None)
                while first is not None and first[0] == STDERR:
                    self._take(*first)
                    first = await anext(pieces, None)
        except (EngineError, TimeoutError) as error:
            self._log("agent container not adopted", error)
            return lost
        if first is None or first[1] != _BEGINNING:
            log.warning("log without beginning", extra={"workspace": self.workspace})
            await pieces.aclose()
            return lost
        self._begun = True
        self._listen(pieces)
        return None

    async def _abandon(self, opening: asyncio.Task[Failure | None]) -> None:
        failure = await opening
        if failure is None:
            await self.kill()
        else:
            await self._give_up()

    async def _give_up(self) -> None:
        """Leave nothing of what could not be opened."""
        await self._remove()
        if not self._gone.done():
            self._gone.set_result(Exit(None, ExitReason.KILLED))

    def _listen(self, pieces: AsyncGenerator[tuple[int, bytes]]) -> None:
        self._listening = self._tasks.spawn(self._hear(pieces), name="container-listen")

    # Listening.

    async def _hear(self, pieces: AsyncGenerator[tuple[int, bytes]]) -> None:
        """Take what it prints until it is gone, and then what there is to know about the end."""
        whole = True
        try:
            async with aclosing(pieces):
                async for stream, data in pieces:
                    if self._lines is not None and self._lines.held:
                        await self._until_released()
                    self._take(stream, data)
        except EngineError as error:
            whole = self._killed
            if not self._killed:
                self._log("agent container out of sight", error)
        except asyncio.CancelledError:
            if not self._killed:
                # Nobody listens any more, and the container must not wait for it.
                await self._hang_up()
                raise
            whole = False
        # Before anything that may be cut short by our own end.
        await self._hang_up()
        if not self._gone.done():
            self._gone.set_result(await self._exit() if whole else Exit(None, ExitReason.LOST))
        self._end(self._gone.result())
        if self._taking is not None:
            # It tells when it is really gone, and not only going.
            await asyncio.wait({self._taking})
        await self._remove()

    async def _until_released(self) -> None:
        """Wait until lines may be handed over; it may end meanwhile, which is not heard then."""
        while not self._released.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_HELD_SECONDS):
                    await self._released.wait()
                    return
            if not self._gone.done() and not await self._engine.is_running(self._container):
                self._gone.set_result(await self._exit())

    def _take(self, stream: int, data: bytes) -> None:
        if self._killed or self._lines is None:
            return
        if stream == STDERR:
            self._last_words += data
            del self._last_words[:-_STDERR_LIMIT]
        elif not self._lines.feed(self._without_beginning(data)):
            log.warning("agent killed: endless line", extra={"workspace": self.workspace})
            self._tasks.spawn(self.kill(), name="container-endless")

    def _without_beginning(self, data: bytes) -> bytes:
        """Return output without the line that is none of the agent's."""
        if self._begun:
            return data
        self._begun = True
        # It is written at once, so it comes whole.
        return data.removeprefix(_BEGINNING)

    async def _take_away(self, listening: asyncio.Task[None]) -> None:
        """Kill and remove it by one call, which the engine finishes although we may end."""
        try:
            await self._engine.remove(self._container)
        except EngineError as error:
            self._log("agent container not killed", error)
            if not self._gone.done():
                listening.cancel()
        else:
            # Engines have left a connection open whose container they removed.
            await asyncio.wait({self._gone}, timeout=_HEARD_SECONDS)
            if not self._gone.done():
                self._gone.set_result(await self._exit())
                listening.cancel()

    async def _exit(self) -> Exit:
        if self._killed:
            # It is gone, and nobody knows it any more.
            return Exit(-signal.SIGKILL, ExitReason.KILLED)
        try:
            ended = await self._engine.ended(self._container)
        except EngineError as error:
            self._log("agent container lost", error)
            return Exit(None, ExitReason.LOST)
        return _exit(ended, killed=self._killed)

    def _end(self, ended: Exit) -> None:
        if ended.code and not self._killed:
            words = self._last_words.decode(errors="replace")
            facts = {"workspace": self.workspace, "code": ended.code, "stderr": words}
            log.warning("agent container ended", extra=facts)
        if self._lines is not None:
            if self._killed:
                self._lines.drop()
            self._lines.end(ended)

    async def _hang_up(self) -> None:
        if self._input is not None:
            await self._input.close()

    async def _remove(self) -> None:
        await self._hang_up()
        try:
            await self._engine.remove(self._container)
        except EngineError as error:
            self._log("agent container not removed", error)
            self.left_behind = True
        if not self._removed.done():
            self._removed.set_result(None)

    def _log(self, message: str, error: Exception) -> None:
        log.warning(message, extra={"workspace": self.workspace, "problem": str(error)})


async def _pieces(attached: Attached) -> AsyncGenerator[tuple[int, bytes]]:
    while (piece := await attached.read()) is not None:
        yield piece


def _exit(ended: Ended, *, killed: bool) -> Exit:
    code = ended.code
    if code > _SIGNALLED:
        code = _SIGNALLED - code
    if killed:
        return Exit(code, ExitReason.KILLED)
    # Memory may have run out for a command of the agent's long before.
    if code == -9:
        return Exit(code, ExitReason.OUT_OF_MEMORY if ended.out_of_memory else ExitReason.KILLED)
    if code == -15:
        return Exit(code, ExitReason.KILLED)
    return Exit(code, ExitReason.EXITED)
