"""The channel to an agent that is a process of this machine.

Does not know what the lines mean, nor which program it is.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.chassis.tasks import Tasks
from services.executor.channel import Exit, ExitReason, Receiver
from services.executor.channels.process import launcher
from services.executor.channels.process.lines import Lines
from services.executor.channels.process.tree import VARIABLE, Mark, Trees

log = logging.getLogger(__name__)

LINE_LIMIT = 64 << 20
"""Bytes of the longest line; many times what the largest tool result makes."""
_STDERR_LIMIT = 8 << 10
"""Bytes of the last words that are kept for the log."""
_QUIET_SECONDS = 1.0
"""How long nothing comes before what a dead process printed counts as read."""
_DYING_SECONDS = 3.0
"""For a killed process to be reported as gone."""
_INPUT, _OUTPUT, _ERRORS = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """How to start a process.

    Attributes:
        mark: Whose it is.
        program: The program's file.
        arguments: All words of its command line after the program.
        environment: Its whole environment, but for the mark.
        directory: Where it works.
        folders: Made when they are missing.
    """

    mark: Mark
    program: Path
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    folders: tuple[Path, ...]


class ProcessChannel:
    """A `Channel` to a child of this process.

    Args:
        start: What to start.
        trees: Finds what it starts in turn.
        tasks: Owner of what happens after its end.
        roots: Processes that are waited for; this one is among them while it lives.
    """

    def __init__(self, *, start: Start, trees: Trees, tasks: Tasks, roots: set[int]) -> None:
        self._start = start
        self._trees = trees
        self._tasks = tasks
        self._roots = roots
        loop = asyncio.get_running_loop()
        self._gone: asyncio.Future[Exit] = loop.create_future()
        self._read: asyncio.Future[None] = loop.create_future()
        self._lines: Lines | None = None
        self._transport: asyncio.SubprocessTransport | None = None
        self._pid: int | None = None
        self._killed = False
        self._paused = False
        self._fed = 0
        self._room: asyncio.Future[None] | None = None
        self._last_words = bytearray()

    @property
    def gone(self) -> bool:
        """Whether it has been started and has ended, with everything it started."""
        return self._gone.done()

    @property
    def waiting(self) -> int:
        """How many lines are held."""
        return 0 if self._lines is None else self._lines.waiting

    async def open(self, receiver: Receiver) -> None:
        """Start the process.

        Raises:
            Failure: BACKEND_UNAVAILABLE, EXECUTOR_CAPACITY.
        """
        start = self._start
        self._lines = Lines(receiver=receiver, limit=LINE_LIMIT)
        loop = asyncio.get_running_loop()
        started = False
        try:
            for folder in start.folders:
                folder.mkdir(mode=0o700, exist_ok=True)
            if not os.access(start.program, os.X_OK):
                raise _failure(FileNotFoundError())
            await loop.subprocess_exec(
                lambda: _Protocol(self),
                # It cannot be arranged in a fork of this process, which has threads.
                *(sys.executable, "-I", "-S", launcher.__file__, str(os.getpid())),
                *(str(start.program), *start.arguments),
                cwd=start.directory,
                env={**start.environment, VARIABLE: str(start.mark)},
                start_new_session=True,
            )
            started = True
        except OSError as error:
            raise _failure(error) from error
        finally:
            if not started:
                self._gone.set_result(Exit(None, ExitReason.KILLED))
                self._trees.end(start.mark, None)

    async def write(self, line: bytes) -> None:
        """Hand one line to the process."""
        stream = self._pipe(_INPUT)
        if stream is None or stream.is_closing() or self._gone.done():
            return
        cast("asyncio.WriteTransport", stream).write(line + b"\n")
        # Its end lifts this.
        while self._room is not None:
            await asyncio.shield(self._room)

    def hold(self) -> None:
        """Read no more, until `release`; the process waits when its pipe is full."""
        if self._lines is not None:
            self._lines.hold()
            self._pause()

    def release(self) -> None:
        """Hand over what waits, and go on."""
        if self._lines is None:
            return
        self._lines.release()
        if self._paused and not self._lines.held:
            self._paused = False
            stream = self._pipe(_OUTPUT)
            if stream is not None and not stream.is_closing():
                cast("asyncio.ReadTransport", stream).resume_reading()

    async def close_input(self) -> None:
        """Tell the process that no line follows."""
        stream = self._pipe(_INPUT)
        if stream is not None:
            stream.close()

    async def kill(self) -> None:
        """End the process at once, with everything it started."""
        if self._pid is None or self._gone.done():
            return
        self._killed = True
        await asyncio.to_thread(self._trees.end, self._start.mark, self._pid)
        await asyncio.wait({self._gone}, timeout=_DYING_SECONDS)

    async def memory(self) -> int | None:
        """Return the bytes of memory that the process and all it started take."""
        if self._pid is None or self._gone.done():
            return None
        return await asyncio.to_thread(self._trees.memory, self._start.mark, self._pid)

    async def wait(self) -> Exit:
        """Wait until the process is gone."""
        return await asyncio.shield(self._gone)

    # What the transport tells.

    def started(self, transport: asyncio.SubprocessTransport) -> None:
        """Hear that it runs."""
        self._transport = transport
        self._pid = transport.get_pid()
        self._roots.add(self._pid)

    def printed(self, stream: int, data: bytes) -> None:
        """Take what the process printed."""
        if stream == _ERRORS:
            self._last_words += data
            del self._last_words[:-_STDERR_LIMIT]
        elif self._lines is not None and not self._read.done():
            self._fed += len(data)
            if not self._lines.feed(data) and not self._killed:
                log.warning("agent process killed: endless line")
                self._lines.drop()
                self._tasks.spawn(self.kill(), name="process-endless")

    def closed(self, stream: int) -> None:
        """Hear that one of its streams has ended."""
        if stream == _OUTPUT and not self._read.done():
            self._read.set_result(None)
        if stream == _INPUT:
            self.wake()

    def ended(self) -> None:
        """Hear that the process itself is gone."""
        if self._transport is None or self._pid is None:
            return
        # Whoever waits for its end or gave up: the number is another process's from now on.
        self._roots.discard(self._pid)
        ended = _exit(self._transport.get_returncode(), killed=self._killed)
        burying = self._tasks.spawn(self._bury(ended), name="process-bury")
        # Also when the executor ends meanwhile, even before it has begun.
        burying.add_done_callback(lambda _: self._close(ended))

    def wait_for_room(self) -> None:
        """Hear that the process does not read what is written."""
        if self._room is None:
            self._room = asyncio.get_running_loop().create_future()

    def wake(self) -> None:
        """Hear that there is room again, or that none is needed."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None

    async def _bury(self, ended: Exit) -> None:
        """End what the process has left behind, and tell about the end."""
        pid, lines = self._pid, self._lines
        if pid is None or lines is None:
            return
        if left := await asyncio.to_thread(self._trees.end, self._start.mark, pid):
            log.error("processes do not end", extra={"count": left})
        self._let_go(ended)
        if self._killed:
            lines.drop()
        else:
            await self._drain(lines)
        self._close(ended)
        lines.end(ended)

    def _close(self, ended: Exit) -> None:
        """Let everything go that is still held. Called once or twice."""
        self._let_go(ended)
        if not self._read.done():
            self._read.set_result(None)
        if self._transport is not None:
            self._transport.close()

    def _let_go(self, ended: Exit) -> None:
        """Tell those who wait that it is gone. Called once or more."""
        if self._gone.done():
            return
        self.wake()
        if ended.code and not self._killed:
            words = self._last_words.decode(errors="replace")
            log.warning("agent process ended", extra={"code": ended.code, "stderr": words})
        self._gone.set_result(ended)

    async def _drain(self, lines: Lines) -> None:
        """Wait until all that was printed is read, which may be when somebody releases it."""
        while not self._read.done():
            before = self._fed
            await asyncio.wait({self._read}, timeout=_QUIET_SECONDS)
            if self._killed or (not lines.held and before == self._fed):
                return

    def _pause(self) -> None:
        stream = self._pipe(_OUTPUT)
        if stream is not None and not self._paused and not stream.is_closing():
            self._paused = True
            cast("asyncio.ReadTransport", stream).pause_reading()

    def _pipe(self, stream: int) -> asyncio.BaseTransport | None:
        return None if self._transport is None else self._transport.get_pipe_transport(stream)


class _Protocol(asyncio.SubprocessProtocol):
    """Tells the channel what happens to its process."""

    def __init__(self, channel: ProcessChannel) -> None:
        self._channel = channel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._channel.started(cast("asyncio.SubprocessTransport", transport))

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._channel.printed(fd, data)

    def pipe_connection_lost(self, fd: int, _exc: Exception | None) -> None:
        self._channel.closed(fd)

    def process_exited(self) -> None:
        self._channel.ended()

    def pause_writing(self) -> None:
        self._channel.wait_for_room()

    def resume_writing(self) -> None:
        self._channel.wake()


def _exit(code: int | None, *, killed: bool) -> Exit:
    if killed or code in {-signal.SIGKILL, -signal.SIGTERM}:
        return Exit(code, ExitReason.KILLED)
    return Exit(code, ExitReason.EXITED)


def _failure(error: OSError) -> Failure:
    if error.errno in {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}:
        return Failure(
            errors_pb2.ERROR_REASON_EXECUTOR_CAPACITY,
            "This machine has no room for another agent process.",
        )
    return Failure(
        errors_pb2.ERROR_REASON_BACKEND_UNAVAILABLE,
        "The agent's program cannot be started.",
        backend="process",
    )
