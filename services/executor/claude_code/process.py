"""The adapter for Claude Code: one long-lived CLI process as an `AgentProcess`.

Does not know where the process runs, nor who asked for the turn. The rules it keeps:
one prompt at a time, because the CLI merges prompts that arrive during a turn; a result belongs
to the message whose uuid it repeats, because finished background work starts turns of its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson

from moorline.errors.v1 import errors_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure, not_found
from services.chassis.tasks import Tasks
from services.executor.agent_process import Ending, Result, Work
from services.executor.book import Book
from services.executor.channel import Channel, Exit
from services.executor.claude_code import frames, results
from services.executor.claude_code.turn import Turn

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a process may take for what it owes.

    Attributes:
        opening: To answer `initialize`.
        closing: To exit when its input ends.
        dying: To be gone after a kill.
    """

    opening: timedelta
    closing: timedelta
    dying: timedelta


PATIENCE = Patience(
    # Unloaded the CLI answers within 0.4 s; a cold machine may need ten times that.
    opening=timedelta(seconds=30),
    # An idle CLI exits within 0.2 s.
    closing=timedelta(seconds=3),
    dying=timedelta(seconds=5),
)
"""What the CLI was observed to need, and more."""

_MALFORMED = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What taking apart a frame of an unexpected shape raises."""


class ClaudeCode:
    """One CLI process; the `Receiver` of its channel.

    Args:
        channel: A way to the process, not yet open.
        resume: Conversation its command line resumes; empty for a new one.
        accept_all: Whether every tool may run without asking anyone.
        patience: How long it may take for what it owes.
        tasks: Owner of the tasks for what takes time while it is listened to.
    """

    __slots__ = (
        "_accept_all", "_alive", "_channel", "_condemned", "_conversation", "_cost", "_ended",
        "_ending", "_heard", "_opened", "_patience", "_replies", "_replying", "_request_count",
        "_requests", "_tasks", "_turn", "_usage",
    )  # fmt: skip

    def __init__(
        self,
        *,
        channel: Channel,
        resume: str,
        accept_all: bool,
        patience: Patience,
        tasks: Tasks,
    ) -> None:
        self._channel = channel
        self._patience = patience
        self._accept_all = accept_all
        self._tasks = tasks
        # The mutable state of a process is the rest.
        self._conversation = resume
        self._alive = False
        self._opened = False
        self._ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._condemned = False
        self._requests: dict[str, asyncio.Future[None]] = {}
        self._request_count = 0
        self._replies: list[bytes] = []
        self._replying = False
        self._turn: Turn | None = None
        self._ending: asyncio.Future[Ending] | None = None
        self._usage = transcript_pb2.Usage()
        self._cost = 0.0
        self._heard = 0.0

    @property
    def alive(self) -> bool:
        """Whether it can take another turn, or take part in the running one."""
        return self._alive

    @property
    def conversation(self) -> str:
        """Handle to continue the conversation in another process."""
        return self._conversation

    async def open(self) -> None:
        """Start the process and shake hands with it.

        Raises:
            Failure: AGENT_CRASHED, AGENT_STALLED, BACKEND_UNAVAILABLE.
        """
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

    async def begin(self, work: Work, book: Book) -> asyncio.Future[Ending]:
        """Give it the prompt of a turn."""
        message_id = frames.stable_uuid(f"message/{work.execution_id}")
        ending = self._ending = asyncio.get_running_loop().create_future()
        self._turn = Turn(message_id=message_id, book=book)
        self._listen_anew()
        if self._alive:
            line = frames.prompt(
                text=work.prompt, message_id=message_id, session_id=self._conversation
            )
            await self._channel.write(line)
        else:
            self._end_turn(Result.DIED, _crash(await self._channel.wait()))
        return ending

    async def interrupt(self) -> None:
        """Ask it to end the running turn; returns before it has."""
        if self._alive:
            await self._channel.write(frames.request("interrupt", request_id=self._request_id()))

    async def answer(self, permission_id: str, *, allowed: bool, reason: str) -> None:
        """Hand over a decision.

        Raises:
            Failure: RESOURCE_NOT_FOUND when it was never asked for.
        """
        turn = self._turn
        if turn is None or permission_id not in turn.asked:
            raise not_found()
        if permission_id not in turn.asks:
            return
        tool_input = turn.asks.pop(permission_id)
        self._listen_anew()
        if allowed:
            line = frames.allow(request_id=permission_id, tool_input=tool_input)
        else:
            line = frames.deny(request_id=permission_id, reason=reason)
        await self._channel.write(line)

    async def close(self) -> None:
        """End the process in good order, by force when it takes too long."""
        await self._channel.close_input()
        if not await self._is_gone(self._patience.closing):
            await self.kill()

    async def kill(self) -> None:
        """End the process at once, and the running turn with it."""
        if self._turn is not None:
            self._turn.book.lift_bound()
        await self._channel.kill()
        if not await self._is_gone(self._patience.dying):
            log.error("agent process does not end")
            self._end_turn(Result.DIED, _crash(None))

    def quiet_for(self) -> timedelta:
        """Return how long it has owed us a word."""
        turn = self._turn
        if turn is None or turn.asks or turn.book.full:
            return timedelta(0)
        return timedelta(seconds=time.monotonic() - self._heard)

    # Listening, as a `channel.Receiver`.

    def receive(self, lines: Sequence[bytes]) -> None:
        """Take in what the process has printed."""
        self._heard = time.monotonic()
        if not self._condemned:
            self._take(iter(lines))

    def exited(self, ended: Exit) -> None:
        """Hear that the process is gone."""
        self._alive = False
        self._ended.set_result(ended)
        crash = _crash(ended)
        for request in self._requests.values():
            if not request.done():
                request.set_exception(crash)
        turn = self._turn
        self._end_turn(Result.DIED, crash if turn is None else turn.failure or crash)

    def _take(self, lines: Iterator[bytes]) -> bool:
        """Take in lines; False when the rest waits until the book has room."""
        loads = orjson.loads
        turn = self._turn
        for line in lines:
            try:
                frame = loads(line)
                # The one frame that is frequent first, and without a call in between.
                if frame["type"] == "stream_event":
                    if turn is not None:
                        turn.stream_event(frame)
                    continue
                self._receive(frame)
            except _MALFORMED:
                log.warning("frame not understood", extra={"bytes": len(line)})
                continue
            turn = self._turn
            if turn is not None and turn.book.full:
                turn.book.publish()
                self._channel.hold()
                self._tasks.spawn(self._go_on(turn.book, lines), name="agent-process-held")
                return False
        if turn is not None:
            turn.book.publish()
            if turn.failure is not None:
                self._condemned = True
                self._tasks.spawn(self._give_up(turn), name="agent-process-condemned")
        if self._replies and not self._replying:
            self._replying = True
            self._tasks.spawn(self._reply(), name="agent-process-reply")
        return True

    async def _go_on(self, book: Book, lines: Iterator[bytes]) -> None:
        await book.room()
        self._listen_anew()
        if self._take(lines):
            self._channel.release()

    async def _give_up(self, turn: Turn) -> None:
        turn.book.lift_bound()
        await self._channel.kill()

    async def _reply(self) -> None:
        while self._replies:
            await self._channel.write(self._replies.pop(0))
        self._replying = False

    def _receive(self, frame: dict[str, Any]) -> None:
        turn = self._turn
        match frame["type"]:
            case "control_response":
                self._responded(frame["response"])
            case "system":
                self._system(frame)
            case "result":
                self._result(frame)
            case _ if turn is None:
                # Work in the background, between two turns.
                return
            case "assistant":
                turn.assistant(frame)
            case "user":
                turn.user(frame)
            case "control_request":
                self._asked(turn, frame["request_id"], frame["request"])
            case "control_cancel_request":
                turn.asks.pop(frame["request_id"], None)

    def _system(self, frame: dict[str, Any]) -> None:
        if frame["subtype"] == "init":
            self._conversation = frame["session_id"]
            version = frame.get("claude_code_version")
            if version != frames.CLI_VERSION:
                log.warning("another version of the agent", extra={"version": version})
        elif frame["subtype"] == "api_retry" and self._turn is not None:
            self._turn.withdraw()

    def _asked(self, turn: Turn, request_id: str, request: dict[str, Any]) -> None:
        if request["subtype"] != "can_use_tool":
            self._replies.append(frames.unsupported(request_id=request_id))
        elif self._accept_all:
            reply = frames.allow(request_id=request_id, tool_input=request["input"])
            self._replies.append(reply)
        else:
            turn.ask(request_id, request)

    def _result(self, frame: dict[str, Any]) -> None:
        results.add(self._usage, results.usage(frame, cost_before=self._cost))
        self._cost = float(frame.get("total_cost_usd") or 0.0)
        if self._turn is None or not _answers(frame, self._turn.message_id):
            return
        result, failure = results.outcome(frame)
        if failure and failure.reason == errors_pb2.ERROR_REASON_CONVERSATION_LOST:
            # What it would say next belongs to no conversation we can name.
            self._alive = False
            self._conversation = ""
        self._end_turn(result, failure)

    def _end_turn(self, result: Result, failure: Failure | None) -> None:
        turn, ending = self._turn, self._ending
        if turn is None or ending is None:
            return
        self._turn = self._ending = None
        usage, self._usage = self._usage, transcript_pb2.Usage()
        told = turn.end(result, failure, usage)
        turn.book.publish()
        if not ending.done():
            ending.set_result(told)

    # Control requests of ours.

    async def _control(self, subtype: str) -> None:
        if self._ended.done():
            raise _crash(self._ended.result())
        request_id = self._request_id()
        responded = self._requests[request_id] = asyncio.get_running_loop().create_future()
        await self._channel.write(frames.request(subtype, request_id=request_id))
        await responded

    def _responded(self, response: dict[str, Any]) -> None:
        responded = self._requests.pop(response["request_id"], None)
        if responded is not None and not responded.done():
            responded.set_result(None)

    def _request_id(self) -> str:
        self._request_count += 1
        return f"moorline-{self._request_count}"

    def _listen_anew(self) -> None:
        self._heard = time.monotonic()

    async def _is_gone(self, patience: timedelta) -> bool:
        if not self._opened:
            return True
        await asyncio.wait({self._ended}, timeout=patience.total_seconds())
        return self._ended.done()


def _answers(frame: dict[str, Any], message_id: str) -> bool:
    """Tell whether a result belongs to our message; results of background work do not."""
    answered = [frame.get("user_message_uuid"), *(frame.get("user_message_uuids") or ())]
    if any(answered):
        return message_id in answered
    return not frame.get("origin")


def _crash(ended: Exit | None) -> Failure:
    code = "unknown" if ended is None or ended.code is None else str(ended.code)
    reason = "lost" if ended is None else ended.reason.value
    return Failure(
        errors_pb2.ERROR_REASON_AGENT_CRASHED,
        f"The agent process ended abnormally: {reason}, exit code {code}.",
        exitCode=code,
        exitReason=reason,
    )
