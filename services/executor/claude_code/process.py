"""The adapter for Claude Code: one long-lived CLI process as an `AgentProcess`.

Does not know where the process runs, nor who asked for the turn. The rules it keeps:
one prompt at a time, because the CLI merges prompts that arrive during a turn; a result belongs
to the message whose uuid it repeats, because finished background work starts turns of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import orjson

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import executions_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.chassis.tasks import Tasks
from services.executor.agent_process import Ending, Work
from services.executor.book import Book
from services.executor.channel import Channel, Exit
from services.executor.claude_code import frames, heaps, results
from services.executor.claude_code.belongings import Belongings
from services.executor.claude_code.dialogue import Dialogue
from services.executor.claude_code.entry import Entry
from services.executor.claude_code.patience import Patience
from services.executor.claude_code.turn import Turn

log = logging.getLogger(__name__)

_MALFORMED = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What taking apart a frame of an unexpected shape raises."""


class ClaudeCode:
    """One CLI process; the `Receiver` of its channel.

    Args:
        channel: A way to the process, not yet open.
        dialogue: What goes on in it; nothing yet.
        terms: What it is started with.
        default_model: Model that answers when an execution names none; empty for the CLI's choice.
        belongings: What it has on disk; None when it needs nothing there.
        patience: How long it may take for what it owes.
        tasks: Owner of the tasks for what takes time while it is listened to.
    """

    __slots__ = (
        "_alive", "_belongings", "_channel", "_condemned", "_default_model", "_dialogue",
        "_ended", "_granted", "_killed", "_name", "_opened", "_patience", "_request_count",
        "_requests", "_tasks", "_terms", "_turns", "_writing",
    )  # fmt: skip

    def __init__(
        self,
        *,
        channel: Channel,
        dialogue: Dialogue,
        terms: frames.Terms,
        default_model: str,
        belongings: Belongings | None,
        patience: Patience,
        tasks: Tasks,
    ) -> None:
        self._channel = channel
        self._dialogue = dialogue
        self._terms = terms
        self._default_model = default_model
        self._belongings = belongings
        self._patience = patience
        self._tasks = tasks
        # The mutable state of a process is the rest, beside the dialogue.
        self._alive = False
        self._opened = False
        self._killed = False
        self._ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._condemned = False
        self._requests: dict[str, asyncio.Future[None]] = {}
        self._request_count = 0
        self._name = uuid.uuid4().hex
        self._granted: set[str] = set()
        self._turns = 0
        self._writing = False

    @property
    def alive(self) -> bool:
        """Whether it can take another turn, or take part in the running one."""
        dying = self._killed or self._condemned
        return self._alive and not dying and self._dialogue.verdict is None

    @property
    def conversation(self) -> str:
        """Handle to continue the conversation in another process."""
        return self._dialogue.conversation

    @property
    def background(self) -> int:
        """How many things go on in the background."""
        return self._dialogue.background if self._alive else 0

    @property
    def turns(self) -> int:
        """How many turns have begun so far."""
        return self._turns

    @property
    def model(self) -> str:
        """The model that answered last."""
        return self._dialogue.model

    async def open(self) -> None:
        """Start the process and shake hands with it.

        Raises:
            Failure: AGENT_CRASHED, AGENT_STALLED, BACKEND_UNAVAILABLE, CONVERSATION_LOST.
        """
        if self._belongings is not None:
            self._tell(await asyncio.to_thread(self._belongings.prepare))
        # It may speak, and even die, before the call returns.
        self._alive = True
        await self._channel.open(self)
        self._opened = True
        seconds = self._patience.opening.total_seconds()
        ready = False
        try:
            async with asyncio.timeout(seconds):
                await self._control("initialize")
            ready = True
        except TimeoutError as error:
            raise Failure(
                errors_pb2.ERROR_REASON_AGENT_STALLED,
                f"The agent process did not answer within {seconds:g} seconds.",
                retry_delay=timedelta(seconds=1),
                seconds=f"{seconds:g}",
            ) from error
        finally:
            if not ready:
                await self.kill()

    def fits(self, work: Work) -> bool:
        """Tell whether it can take an execution."""
        terms = self._terms
        return (
            self.alive
            and work.resume_from == self.conversation
            and work.instructions == terms.instructions
            and work.max_steps == terms.max_steps
            and set(work.allowed_rules) == self._granted | set(terms.rules)
        )

    async def begin(self, work: Work, book: Book) -> asyncio.Future[Ending]:
        """Give it the prompt of a turn."""
        return await self._enter(self._entry(work, book, attends=False))

    async def attend(self, work: Work, book: Book) -> asyncio.Future[Ending]:
        """Record what it says by itself."""
        return await self._enter(self._entry(work, book, attends=True))

    async def adopt(self, work: Work, book: Book) -> asyncio.Future[Ending]:
        """Take over what another executor began.

        Raises:
            Failure: EXECUTION_LOST.
        """
        if self._belongings is not None:
            self._tell(await asyncio.to_thread(self._belongings.noted))
        entry = self._entry(work, book, attends=work.background)
        self._turns += 1
        self._dialogue.expect(entry)
        self._alive = True
        await self._channel.open(self)
        self._opened = True
        self._listen_anew()
        # The answer comes after everything that was printed before.
        self._tasks.spawn(self._catch_up(), name="agent-process-adopted")
        return entry.ending

    async def interrupt(self) -> None:
        """Ask it to end the running turn; returns before it has."""
        if self._alive and self._dialogue.engaged:
            self._dialogue.interrupt(self._request_id())
            await self._write()

    async def answer(self, decision: transcript_pb2.PermissionDecision) -> None:
        """Hand over a decision.

        Raises:
            Failure: RESOURCE_NOT_FOUND when it was never asked for; FIELD_INVALID when it allows
                what cannot be allowed.
        """
        self._granted.update(self._dialogue.answer(decision))
        await self._write()

    async def close(self) -> None:
        """End the process in good order, by force when it takes too long."""
        closing = self._patience.closing.total_seconds()
        with contextlib.suppress(TimeoutError):
            # It may not read, and what it has not read is in the way.
            await asyncio.wait_for(self._channel.close_input(), closing)
        if not await self._is_gone(self._patience.closing):
            await self.kill()

    async def kill(self) -> None:
        """End the process at once, and the running turn with it."""
        self._killed = True
        self._dialogue.lift_bounds()
        await self._channel.kill()
        if not await self._is_gone(self._patience.dying):
            log.error("agent process does not end")
            self._dialogue.die(results.crash(None))

    def quiet_for(self) -> timedelta:
        """Return how long it has owed us a word."""
        if not self._dialogue.owes_a_word:
            return timedelta(0)
        return timedelta(seconds=max(0.0, time.monotonic() - self._dialogue.heard))

    async def memory(self) -> int | None:
        """Return the bytes it takes with all it started."""
        return await self._channel.memory()

    # Listening, as a `channel.Receiver`.

    def receive(self, lines: Sequence[bytes]) -> None:
        """Take in what the process has printed."""
        self._listen_anew()
        if not self._condemned:
            self._take(iter(lines))

    def exited(self, ended: Exit) -> None:
        """Hear that the process is gone."""
        self._alive = False
        self._ended.set_result(ended)
        crash = self._dialogue.verdict or results.crash(ended)
        for request in self._requests.values():
            if not request.done():
                request.set_exception(crash)
        self._dialogue.die(crash)

    def _take(self, lines: Iterator[bytes]) -> bool:
        """Take in lines; False when the rest waits until the book has room."""
        loads = orjson.loads
        dialogue = self._dialogue
        turn = dialogue.turn
        for line in lines:
            try:
                if len(line) > heaps.LONG_BYTES:
                    heaps.check(line)
                frame = loads(line)
                # The one frame that is frequent first, and without a call in between.
                if frame["type"] == "stream_event":
                    turn.stream_event(frame)
                    continue
                self._receive(frame)
            except _MALFORMED:
                self._receive_mended(line)
            # Some frames begin or end a turn.
            turn = dialogue.turn
            if turn.book.full:
                turn.book.publish()
                self._channel.hold()
                self._tasks.spawn(self._go_on(turn.book, lines), name="agent-process-held")
                self._write_soon()
                return False
        turn.book.publish()
        if turn.failure is not None:
            self._condemned = True
            self._tasks.spawn(self._give_up(turn), name="agent-process-condemned")
        self._write_soon()
        return True

    def _receive(self, frame: dict[str, Any]) -> None:
        if frame["type"] == "control_response":
            responded = self._requests.pop(frame["response"]["request_id"], None)
            if responded is not None:
                if not responded.done():
                    responded.set_result(None)
                return
        self._dialogue.receive(frame)

    def _receive_mended(self, line: bytes) -> None:
        """Take in a line whose text holds halves of characters, as JavaScript may print them."""
        try:
            frame = heaps.mended(line)
            if frame["type"] == "stream_event":
                self._dialogue.turn.stream_event(frame)
            else:
                self._receive(frame)
        except _MALFORMED:
            log.warning("frame not understood", extra={"bytes": len(line)})

    async def _go_on(self, book: Book, lines: Iterator[bytes]) -> None:
        await book.room()
        self._listen_anew()
        if self._take(lines):
            self._channel.release()

    async def _give_up(self, turn: Turn) -> None:
        turn.book.lift_bound()
        await self._channel.kill()

    # Speaking.

    def _entry(self, work: Work, book: Book, *, attends: bool) -> Entry:
        name = frames.stable_uuid(f"message/{work.execution_id}")
        mode = work.permission_mode
        self._dialogue.accepts_all = mode == executions_pb2.Execution.PERMISSION_MODE_ACCEPT_ALL
        prompt = b""
        if not attends:
            prompt = frames.prompt(
                text=work.prompt, message_id=name, session_id=self._dialogue.conversation
            )
        return Entry(
            turn=Turn(message_id=name, book=book),
            attends=attends,
            mode=frames.mode_of(mode),
            model=work.model or self._default_model or frames.DEFAULT_MODEL,
            prompt=prompt,
        )

    async def _enter(self, entry: Entry) -> asyncio.Future[Ending]:
        self._turns += 1
        self._listen_anew()
        self._dialogue.enter(entry)
        if self._alive:
            # One that does not read must not keep anybody from giving it up.
            writing = self._tasks.spawn(self._write(), name="agent-process-write")
            await asyncio.wait({writing}, timeout=self._patience.closing.total_seconds())
            if self._dialogue.prompt:
                self._tasks.spawn(self._hurry(entry), name="agent-process-hurried")
        else:
            crash = self._dialogue.verdict or results.crash(await self._channel.wait())
            self._dialogue.die(crash)
        return entry.ending

    async def _hurry(self, entry: Entry) -> None:
        """Break off what it says by itself when a prompt has waited long enough."""
        await asyncio.wait({entry.ending}, timeout=self._patience.speaking.total_seconds())
        if not entry.ending.done() and self._dialogue.prompt:
            await self._channel.write(frames.request("interrupt", request_id=self._request_id()))

    async def _catch_up(self) -> None:
        try:
            await self._control("mcp_status")
        except Failure:
            # It is gone, and the turn with it.
            return
        self._dialogue.caught_up()
        await self._write()

    def _write_soon(self) -> None:
        if self._dialogue.outbox and not self._dialogue.replaying and not self._writing:
            self._tasks.spawn(self._write(), name="agent-process-write")

    async def _write(self) -> None:
        """Write what is to be written, in order, whoever else is at it."""
        if self._writing:
            return
        self._writing = True
        try:
            while self._dialogue.outbox:
                await self._channel.write(self._dialogue.outbox.pop(0))
        finally:
            self._writing = False

    async def _control(self, subtype: str) -> None:
        if self._ended.done():
            raise self._dialogue.verdict or results.crash(self._ended.result())
        request_id = self._request_id()
        responded = self._requests[request_id] = asyncio.get_running_loop().create_future()
        await self._channel.write(frames.request(subtype, request_id=request_id))
        await responded

    def _request_id(self) -> str:
        self._request_count += 1
        # Not the one of an executor before this one, whose answer may be printed again.
        return f"{self._name}-{self._request_count}"

    def _tell(self, parts: Sequence[executions_pb2.TranscriptPart]) -> None:
        for part in parts:
            self._dialogue.turn.book.append_transcript(part)

    def _listen_anew(self) -> None:
        self._dialogue.heard = time.monotonic()

    async def _is_gone(self, patience: timedelta) -> bool:
        if not self._opened:
            return True
        await asyncio.wait({self._ended}, timeout=patience.total_seconds())
        return self._ended.done()
