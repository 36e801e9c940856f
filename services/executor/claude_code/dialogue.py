"""What goes on in a CLI process: whose turn it is, what is asked, what runs beside it.

Takes in the frames that are not frequent, and tells which lines are to be written. Does no I/O.

Whatever it makes of the frames depends on the frames alone. So that the beginning and the end of
an execution are among them, a request of ours whose answer is of no interest marks both in what
the process prints: an executor that reads all of it again makes the same of it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

from moorline.errors.v1 import errors_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure, not_found
from services.executor.agent_process import Ending, Result
from services.executor.book import Book
from services.executor.claude_code import asks, frames, results
from services.executor.claude_code.diffs import diff_of
from services.executor.claude_code.entry import ATTEND, MODEL, TURN, Entry
from services.executor.claude_code.transcripts import (
    Parts,
    checked_conversation,
    conversation_of,
)
from services.executor.claude_code.turn import Turn

log = logging.getLogger(__name__)

_LEAVE = "moorline/leave/"


class Dialogue:
    """The state of a process, but for its channel.

    Args:
        conversation: Conversation its command line resumes; empty for a new one.
        mode: The mode its command line names.
        model: The model its command line names.
        last_entry: Id of the newest entry of its transcript that is stored; empty for none.
        files: The workspace.
        seen_as: Where the process finds it.
    """

    def __init__(
        self,
        *,
        conversation: str,
        mode: str,
        model: str,
        last_entry: str,
        files: Path,
        seen_as: str,
    ) -> None:
        self.conversation = conversation
        self.mode = mode
        self.model = ""
        """The model that answered last."""
        self.turn = Turn(message_id="", book=Book())
        """What is said now; between two turns what waits for the next one."""
        self.coming: Entry | None = None
        self.prompt = b""
        """The prompt that waits until the process is idle."""
        self.outbox: list[bytes] = []
        """Lines to write."""
        self.heard = 0.0
        """When it said something last, by the monotonic clock; to come when that was announced."""
        self.accepts_all = False
        self.verdict: Failure | None = None
        """Why it is not of use any more."""
        self.replaying = False
        """Whether it tells again what it has told another executor."""
        self._requested_model = model
        self._files = files
        self._seen_as = seen_as
        self._ending: asyncio.Future[Ending] | None = None
        self._attending = False
        self._foreign = False
        self._unsaid = b""
        self._entered: Entry | None = None
        self._expected: Entry | None = None
        self._interrupted = False
        self._busy = False
        self._notified = False
        self._tasks = 0
        self._parts = Parts(conversation, last_entry)
        self._usage = transcript_pb2.Usage()
        self._cost = 0.0

    @property
    def engaged(self) -> bool:
        """Whether an execution waits for its end."""
        return self._ending is not None or self.coming is not None

    @property
    def background(self) -> int:
        """How many things go on in the background."""
        by_itself = self._busy and (self._ending is None or self._attending)
        return self._tasks + self._notified + by_itself

    @property
    def owes_a_word(self) -> bool:
        """Whether it is its turn to say something."""
        turn = self.turn if self.coming is None else self.coming.turn
        if not self.engaged or turn.asks or turn.book.full:
            return False
        return self.coming is not None or self._busy or not self._attending

    # What the process is told.

    def enter(self, entry: Entry) -> None:
        """Begin a turn or an attendance: write what tells the process of it."""
        self.coming = entry
        self.turn.book.lift_bound()
        prompt_waits = self._busy or entry.mode != self.mode
        if not entry.attends and entry.model != self._requested_model:
            self._requested_model = entry.model
            self._ask("set_model", entry.marker + MODEL, model=entry.model)
            prompt_waits = True
        self._ask("set_permission_mode", entry.marker, mode=entry.mode)
        if prompt_waits:
            self.prompt = entry.prompt
        elif entry.prompt:
            self.outbox.append(entry.prompt)

    def expect(self, entry: Entry) -> None:
        """Look out for a turn or an attendance that another executor began."""
        self.coming = self._expected = entry
        self.replaying = True
        self.turn.book.lift_bound()

    def caught_up(self) -> None:
        """Hear that it has told everything again; give it what it never got."""
        self.replaying = False
        entry, self._expected = self._expected, None
        unknown = entry is not None and entry is self.coming
        unsaid = entry is self._entered and self._unsaid
        if entry is None or not (unknown or unsaid):
            return
        if self._interrupted:
            if unknown:
                self._arrive(entry)
            self._end(Result.INTERRUPTED, None)
        elif unknown:
            # Nor does anybody know whether it got the model.
            self._requested_model = ""
            self.enter(entry)
        else:
            self.prompt = self._unsaid
            self._speak_when_idle()

    def interrupt(self, request_id: str) -> None:
        """Break the turn off: the process ends it, unless it knows nothing of it yet."""
        self._interrupted = self.replaying
        attends = self._attending if self.coming is None else self.coming.attends
        if attends or self.prompt:
            turn = self.turn if self.coming is None else self.coming.turn
            self.prompt = b""
            self._ask("mcp_status", f"{_LEAVE}{turn.message_id}")
        else:
            self._ask("interrupt", request_id)

    def answer(self, decision: transcript_pb2.PermissionDecision) -> tuple[str, ...]:
        """Hand a decision over.

        Returns:
            The uses of tools that need no question any more.

        Raises:
            Failure: RESOURCE_NOT_FOUND when it was never asked for; FIELD_INVALID when it allows
                what cannot be allowed.
        """
        turn = self.turn
        if self._ending is None or decision.permission_id not in turn.asked:
            raise not_found()
        ask = turn.asks.get(decision.permission_id)
        if ask is None:
            return ()
        self.outbox.append(asks.reply_to(ask, decision))
        del turn.asks[decision.permission_id]
        self.heard = time.monotonic()
        return tuple(asks.allowed_with(ask, decision).rules) if decision.allowed else ()

    def lift_bounds(self) -> None:
        """Let what is waited for be recorded, whoever reads it."""
        self.turn.book.lift_bound()
        if self.coming is not None:
            self.coming.turn.book.lift_bound()

    # What the process tells.

    def receive(self, frame: dict[str, Any]) -> None:
        """Take in a frame that is not of type `stream_event`."""
        turn = self.turn
        match frame["type"]:
            case "assistant":
                turn.assistant(frame)
                self.model = turn.model or self.model
            case "user":
                turn.user(frame)
            case "system":
                self._system(frame)
            case "result":
                self._result(frame)
            case "transcript_mirror":
                self._mirrored(frame)
            case _:
                self._protocol(frame)

    def die(self, failure: Failure) -> None:
        """End what is going on, or was to come: the process is gone."""
        if self.coming is not None:
            self._arrive(self.coming)
        self._end(Result.DIED, self.turn.failure or failure)

    def _end(self, result: Result, failure: Failure | None) -> None:
        """End the turn that is going on; nothing when there is none."""
        turn, ending = self.turn, self._ending
        if ending is None and not self._foreign:
            return
        usage, self._usage = self._usage, transcript_pb2.Usage()
        told = turn.end(result, failure, usage, background=self.background)
        self._ending, self._foreign, self._attending = None, False, False
        self.prompt = self._unsaid = b""
        self.turn = Turn(message_id="", book=Book())
        if result is not Result.DIED:
            for ask in turn.unsettled.values():
                # Asked by what goes on in the background; the next execution asks it again. By
                # what the process has told, and not by what it was told, which leaves no trace.
                self.turn.ask(ask)
        turn.book.publish()
        if ending is not None and not ending.done():
            ending.set_result(told)

    def _protocol(self, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "control_request":
                self._asked(frame["request_id"], frame["request"])
            case "control_cancel_request":
                self.turn.withdraw_ask(frame["request_id"])
            case "control_response":
                self._marked(frame["response"])
            case "command_lifecycle":
                if frame["command_uuid"] == self.turn.message_id:
                    self._unsaid = b""

    def _system(self, frame: dict[str, Any]) -> None:
        turn = self.turn
        match frame["subtype"]:
            case "init":
                self._busy, self._notified = True, False
                self.conversation = checked_conversation(frame["session_id"])
                self.mode = frame.get("permissionMode") or self.mode
                version = frame.get("claude_code_version")
                if version != frames.CLI_VERSION:
                    log.warning("another version of the agent", extra={"version": version})
            case "status":
                self.mode = frame.get("permissionMode") or self.mode
                if frame.get("status") == "requesting":
                    # What has ended in the background is told with this request.
                    self._notified = False
            case "api_retry":
                turn.retry(frame, results.provider_failure(frame.get("error_status")))
                self.heard = time.monotonic() + (frame.get("retry_delay_ms") or 0) / 1000
            case "model_fallback":
                turn.fallback(frame)
            case "compact_boundary":
                turn.compact(frame)
            case _:
                self._beside(frame)

    def _beside(self, frame: dict[str, Any]) -> None:
        """Take in what goes on in the background, and whether it waits for answers."""
        match frame["subtype"]:
            case "session_state_changed":
                if frame["state"] != "requires_action":
                    self.turn.unsettled.clear()
            case "task_notification":
                self._notified = True
            case "background_tasks_changed":
                self._tasks = len(frame["tasks"])
                if self._attending:
                    self._rest()

    def _result(self, frame: dict[str, Any]) -> None:
        results.add(self._usage, results.usage(frame, cost_before=self._cost))
        self._cost = float(frame.get("total_cost_usd") or 0.0)
        self._busy = False
        result, failure = results.outcome(frame)
        if failure and failure.reason == errors_pb2.ERROR_REASON_CONVERSATION_LOST:
            # What it would say next belongs to no conversation we can name.
            self.verdict = failure
            self.conversation = ""
        if self._attending:
            self._rest()
        elif self.prompt:
            self._speak_when_idle()
        elif results.answers(frame, self.turn.message_id):
            self._end(result, failure)

    def _asked(self, request_id: str, request: dict[str, Any]) -> None:
        if asks.too_much(self.turn.asks, self.outbox):
            self.turn.failure = asks.TOO_MUCH
            return
        if request["subtype"] != "can_use_tool":
            self.outbox.append(frames.unsupported(request_id=request_id))
            return
        tool, tool_input = request["tool_name"], request["input"]
        if self.accepts_all and not asks.needs_user(tool):
            self.outbox.append(frames.allow(request_id=request_id, tool_input=tool_input))
            return
        diff = diff_of(tool, tool_input, files=self._files, seen_as=self._seen_as)
        try:
            ask = asks.ask_of(request_id, request, plan=self.turn.plan, diff=diff)
        except (AttributeError, KeyError, TypeError, ValueError):
            # The process must not wait for an answer that nobody can give.
            self.outbox.append(frames.unsupported(request_id=request_id))
            log.warning("request not understood", extra={"tool": tool})
            return
        self.turn.ask(ask)

    def _mirrored(self, frame: dict[str, Any]) -> None:
        conversation = conversation_of(frame["filePath"])
        if not conversation:
            return
        if self._parts.conversation != conversation:
            self._parts = Parts(conversation)
        for part in self._parts.add(frame["entries"]):
            self.turn.book.append_transcript(part)

    def _marked(self, response: dict[str, Any]) -> None:
        marker = response["request_id"]
        if "still_queued" in (response.get("response") or ()):
            # The answer to an interrupt. What is confirmed from now on was cut short.
            self.turn.cut = True
        entry = self.coming
        if entry is not None and marker.startswith(entry.marker):
            if response["subtype"] == "error":
                entry.turn.failure = Failure(
                    errors_pb2.ERROR_REASON_AGENT_FAILED,
                    "The agent refused the model or the permission mode of the turn.",
                )
            if marker != entry.marker:
                return
            self._arrive(entry)
            if self._attending:
                self._rest()
            else:
                self._speak_when_idle()
        elif marker.endswith(MODEL):
            return
        elif marker.startswith((TURN, ATTEND)):
            self._begin_foreign(marker)
        elif self.turn.message_id and marker == f"{_LEAVE}{self.turn.message_id}":
            # It may have ended by itself in the meantime, and another one begun.
            self._end(Result.FINISHED if self._attending else Result.INTERRUPTED, None)

    def _arrive(self, entry: Entry) -> None:
        before, self.turn = self.turn, entry.turn
        self.coming = None
        self._ending, self._attending = entry.ending, entry.attends
        self._foreign = False
        self._entered = entry
        self._unsaid = entry.prompt
        self.turn.go_on_from(before)
        self.turn.model = self.turn.model or self.model

    def _begin_foreign(self, marker: str) -> None:
        """Begin what another executor began: it has it in its book, so it is of no interest."""
        book = Book()
        book.lift_bound()
        self.turn = Turn(message_id=marker.rpartition("/")[2], book=book)
        self.outbox.clear()
        self._foreign = True
        self._attending = marker.startswith(ATTEND)
        if self._attending:
            self._rest()

    def _rest(self) -> None:
        """End the attendance when nothing is left to attend to."""
        if not self._busy and not self._tasks and not self._notified:
            self._end(Result.FINISHED, None)

    def _speak_when_idle(self) -> None:
        waits = self.coming is not None or self._busy or self.turn.failure is not None
        if self.prompt and not waits:
            self.outbox.append(self.prompt)
            self.prompt = b""

    def _ask(self, subtype: str, request_id: str, **fields: str) -> None:
        self.outbox.append(frames.request(subtype, request_id=request_id, **fields))
