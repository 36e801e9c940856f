"""Follows one turn to its end: shows it, decides, stops it when told to.

Knows nothing of how the turn was made or what the view looks like.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import moorline
from moorline.cli.deciding import Decisions
from moorline.cli.exits import Exit, exit_of_outcome
from moorline.cli.invocation import Invocation
from moorline.cli.views import View
from moorline.cli.waiting import tell_place

_NO_HANDLERS = (NotImplementedError, ValueError, RuntimeError)
"""What a loop raises that handles no signals: on Windows, or beside the main thread. Ctrl-C then
just leaves."""

# Out of time, a turn is asked to stop; one that does not is left after this.
STOP_LIMIT = timedelta(seconds=10)


class TurnFollower:
    """One turn on its way to a result and an exit code."""

    def __init__(
        self,
        *,
        client: moorline.AsyncClient,
        invocation: Invocation,
        view: View,
        decisions: Decisions,
        limit: timedelta | None = None,
        stop_on_exit: bool = False,
    ) -> None:
        """Prepare.

        Args:
            client: Tells what the turn waits for.
            invocation: Where to tell what happens.
            view: Shows the turn.
            decisions: Decides about permissions.
            limit: Longest the turn may take from now; None for no limit.
            stop_on_exit: True to cancel the turn when it is left before its end.
        """
        self._client = client
        self._invocation = invocation
        self._view = view
        self._decisions = decisions
        self._limit = limit
        self._stop_on_exit = stop_on_exit
        self._asking: dict[str, asyncio.Task[None]] = {}
        # One question at a time: two prompts would share a line.
        self._one_question = asyncio.Lock()
        self._interrupts = 0
        self._late = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def follow(self, stream: moorline.TurnStream) -> Exit:
        """Follow an entered stream; Ctrl-C stops the turn, a second one leaves it.

        Raises:
            MoorlineError: The connection is lost for good.
        """
        if stream.ahead:
            self._invocation.say("queued", count=stream.ahead)
        placing = asyncio.create_task(tell_place(self._client, self._invocation, stream.turn))
        reading = asyncio.create_task(self._read(stream, placing), name="moorline turn")
        with self._signals(stream, reading), self._clock(stream, reading):
            try:
                await asyncio.wait({reading})
            finally:
                placing.cancel()
                await self._leave(stream, reading)
                await asyncio.gather(placing, return_exceptions=True)
        if reading.cancelled():
            return Exit.STOPPED if self._late else Exit.INTERRUPTED
        reading.result()
        self._view.end(stream.result)
        return self._exit(stream.result.outcome)

    @property
    def left(self) -> bool:
        """True when the person left the turn before its end."""
        return self._interrupts > 1

    async def _read(self, stream: moorline.TurnStream, placing: asyncio.Task[None]) -> None:
        async for event in stream:
            if not isinstance(event, moorline.UserMessage):
                placing.cancel()
            self._view.show(event)
            if isinstance(event, moorline.PermissionRequest):
                self._decide(stream, event)
            elif isinstance(event, moorline.PermissionDecision):
                asking = self._asking.pop(event.permission_id, None)
                if asking is not None:
                    asking.cancel()
                    self._invocation.say("permission.elsewhere")

    def _decide(
        self, stream: moorline.TurnStream, request: moorline.AsyncPermissionRequest
    ) -> None:
        async def decide() -> None:
            async with self._one_question:
                self._view.pause()
                try:
                    choice = await self._decisions.choose(request)
                    # From here on the decision that arrives may be our own.
                    self._asking.pop(request.permission_id, None)
                    await self._decisions.answer(request, choice)
                except KeyboardInterrupt:
                    # Ctrl-C at the question reaches the prompt, not the signal.
                    self._interrupt(stream, None)
                except moorline.MoorlineError as error:
                    self._invocation.tell(self._invocation.texts.error(error))

        self._asking[request.permission_id] = self._spawn(decide())

    def _exit(self, outcome: moorline.TurnOutcome) -> Exit:
        code = exit_of_outcome(outcome)
        if code is Exit.STOPPED and self._interrupts and not self._late:
            return Exit.INTERRUPTED
        if code is Exit.OK and self._decisions.unattended:
            return Exit.NEEDS_PERMISSION
        return code

    @contextmanager
    def _signals(self, stream: moorline.TurnStream, reading: asyncio.Task[None]) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        before = signal.getsignal(signal.SIGINT)
        with suppress(*_NO_HANDLERS):
            loop.add_signal_handler(signal.SIGINT, self._interrupt, stream, reading)
        if self._stop_on_exit:
            with suppress(*_NO_HANDLERS):
                loop.add_signal_handler(signal.SIGTERM, reading.cancel)
        try:
            yield
        finally:
            with suppress(*_NO_HANDLERS):
                loop.remove_signal_handler(signal.SIGINT)
                signal.signal(signal.SIGINT, before)
            if self._stop_on_exit:
                with suppress(*_NO_HANDLERS):
                    loop.remove_signal_handler(signal.SIGTERM)

    def _interrupt(self, stream: moorline.TurnStream, reading: asyncio.Task[None] | None) -> None:
        self._interrupts += 1
        if self._interrupts > 1 and reading is not None:
            reading.cancel()
            return
        self._view.pause()
        self._invocation.say("stopping")
        self._stop(stream)

    @contextmanager
    def _clock(self, stream: moorline.TurnStream, reading: asyncio.Task[None]) -> Iterator[None]:
        if self._limit is None:
            yield
            return
        loop = asyncio.get_running_loop()
        seconds = self._limit.total_seconds()
        handles = [
            loop.call_later(seconds, self._expire, stream),
            loop.call_later(seconds + STOP_LIMIT.total_seconds(), reading.cancel),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.cancel()

    def _expire(self, stream: moorline.TurnStream) -> None:
        self._late = True
        self._view.pause()
        self._invocation.say("timeout")
        self._stop(stream)

    def _stop(self, stream: moorline.TurnStream) -> None:
        async def stop() -> None:
            # Nobody to tell: the turn's outcome, or its absence, tells.
            with suppress(moorline.MoorlineError):
                await stream.cancel()

        self._spawn(stop())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _leave(self, stream: moorline.TurnStream, reading: asyncio.Task[None]) -> None:
        ended = reading.done() and not reading.cancelled() and reading.exception() is None
        reading.cancel()
        for asking in self._asking.values():
            asking.cancel()
        if not ended:
            self._view.pause()
            if self._stop_on_exit:
                self._stop(stream)
        # What was decided, or asked to stop, is on its way: let it arrive.
        if self._tasks and (ended or self._stop_on_exit):
            await asyncio.wait(self._tasks, timeout=1)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(reading, *self._tasks, return_exceptions=True)
