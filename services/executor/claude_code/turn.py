"""One turn of Claude Code: turns the frames of a turn into items and deltas in a book.

Does no I/O. Does not know processes, channels or how a turn is started.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import duration_pb2

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import executions_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.executor.agent_process import Ending, Result
from services.executor.book import Block, Book
from services.executor.claude_code.asks import Ask
from services.executor.claude_code.pieces import PIECE_BYTES, bounded, bounded_json, split
from services.executor.claude_code.results import refusal

_PLAN_TOOL = "ExitPlanMode"
_ONCE = {"attempt": 1, "max_retries": 1}
"""How often a model that refused is asked to go on all the same."""
_PIECES = 256
"""Pieces of one message that may be open; a message beyond 16 MiB ends the turn."""
_ITEM_BYTES = 512 << 10
"""Encoded bytes of one item. What the CLI says itself has half of that at most; but whatever runs
beside it can print in its name, and an item that no message can carry would hold up all others."""
_NAME_CHARACTERS = 200
"""Of an id or a model's name; they have some thirty."""


class Turn:
    """What was said in a turn so far, or between two turns.

    Text goes into the book while it streams, and becomes items when the CLI confirms it with an
    `assistant` frame. Text of a message that was never confirmed is taken back: the CLI writes
    it anew after a broken stream. When the turn ends early, the text so far is kept as partial.
    """

    __slots__ = (
        "_message", "_pieces", "_tools_failed", "_tools_running", "_tools_succeeded",
        "_unstreamed", "asked", "asks", "book", "cut", "failure", "message_id", "model", "plan",
        "unsettled",
    )  # fmt: skip

    def __init__(self, *, message_id: str, book: Book) -> None:
        self.message_id = message_id
        """The message it answers; empty when it answers none."""
        self.book = book
        self.cut = False
        """Whether it was interrupted, so that what is said still was not to end there."""
        self.model = ""
        """The model that answered last."""
        self.plan = ""
        """The plan that was made last, as it was written down."""
        self.asks: dict[str, Ask] = {}
        """The permission requests that can be answered, by their ids."""
        self.unsettled: dict[str, Ask] = {}
        """Those that the process has not been seen to have an answer to."""
        self.asked: set[str] = set()
        """Ids of all permission requests so far."""
        self.failure: Failure | None = None
        """Set when the agent does what cannot be carried, so that it must be ended."""
        self._message = ""
        self._pieces: dict[int, list[Block]] = {}
        self._unstreamed = 0
        self._tools_running: set[str] = set()
        self._tools_succeeded = 0
        self._tools_failed = 0

    def stream_event(self, frame: dict[str, Any]) -> None:
        """Take in a frame of type `stream_event`. By far the most frequent one."""
        event = frame["event"]
        kind = event["type"]
        if frame.get("parent_tool_use_id"):
            # What a sub-agent says is shown when it is confirmed.
            return
        if kind == "content_block_delta":
            delta = event["delta"]
            text = delta.get("text") or delta.get("thinking")
            if text:
                self._fragment(event["index"], text, thought=delta["type"] == "thinking_delta")
        elif kind == "message_start":
            self.withdraw()
            self._message = _name(event["message"]["id"])

    def assistant(self, frame: dict[str, Any]) -> None:
        """Take in a frame of type `assistant`: what it holds is confirmed."""
        message = frame["message"]
        parent = _name(frame.get("parent_tool_use_id") or "")
        if message.get("model") == "<synthetic>":
            # Prose about an error of the provider; the result frame carries the facts.
            return
        if not parent:
            self.model = _name(message.get("model") or self.model)
        for content in message["content"]:
            kind = content["type"]
            if kind == "tool_use":
                self._tool_call(content, parent)
            elif kind in {"text", "thinking"}:
                name, thought = _name(message["id"]), kind == "thinking"
                self._confirm(name, content[kind], parent, thought=thought)

    def user(self, frame: dict[str, Any]) -> None:
        """Take in a frame of type `user`: results of tools, and that a refusal is not the end."""
        if frame.get("refused_message_id"):
            self.retry(_ONCE, refusal())
        contents = frame["message"]["content"]
        if isinstance(contents, str):
            return
        for content in contents:
            if content["type"] == "tool_result":
                self._tool_result(content)

    def ask(self, ask: Ask) -> None:
        """Take in a request for a decision."""
        request = ask.request
        _name(request.permission_id)
        self.asks[request.permission_id] = self.unsettled[request.permission_id] = ask
        self.asked.add(request.permission_id)
        self._append(transcript_pb2.Item(permission_request=request))

    def retry(self, frame: dict[str, Any], failure: Failure) -> None:
        """Take in that the provider is asked again; its text so far is taken back."""
        self.withdraw()
        milliseconds = round(frame.get("retry_delay_ms") or 0)
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(milliseconds)
        self._append(
            transcript_pb2.Item(
                provider_retry=transcript_pb2.ProviderRetry(
                    attempt=frame["attempt"],
                    attempts=frame["max_retries"],
                    delay=delay,
                    error=failure.to_error(),
                )
            )
        )

    def fallback(self, frame: dict[str, Any]) -> None:
        """Take in that another model goes on."""
        self.withdraw()
        self._append(
            transcript_pb2.Item(
                model_fallback=transcript_pb2.ModelFallback(
                    from_model=frame["original_model"], to_model=frame["fallback_model"]
                )
            )
        )

    def compact(self, frame: dict[str, Any]) -> None:
        """Take in that the memory of the conversation was shortened."""
        facts = frame["compact_metadata"]
        self._append(
            transcript_pb2.Item(
                compaction=transcript_pb2.Compaction(
                    automatic=facts.get("trigger") != "manual",
                    tokens_before=facts.get("pre_tokens") or 0,
                    tokens_after=facts.get("post_tokens") or 0,
                )
            )
        )

    def go_on_from(self, before: Turn) -> None:
        """Take over what was said before this turn began, and what is still being said."""
        said = executions_pb2.WatchExecutionResponse()
        before.book.follow(after=0, mark=lambda: None).take(1 << 62, said)
        open_blocks = before.book.blocks
        for update in said.updates:
            if update.HasField("event"):
                if update.event.HasField("transcript"):
                    self.book.append_transcript(update.event.transcript)
                else:
                    self.book.append(update.event.item)
        for block_id, block in open_blocks.items():
            self.book.open(block_id, thought=block.thought).write(block.text, block.size)
        self._message = before._message
        self._pieces = {
            index: [self.book.blocks[block.block_id] for block in blocks]
            for index, blocks in before._pieces.items()
        }
        self._unstreamed = before._unstreamed
        self._tools_running |= before._tools_running
        self.asks |= before.asks
        self.unsettled |= before.unsettled
        self.asked |= before.asked
        self.model = before.model
        self.plan = before.plan

    def withdraw(self) -> None:
        """Take back the text that was not confirmed; the CLI gave up that message."""
        for blocks in self._pieces.values():
            for block in blocks:
                self.book.discard(block.block_id)
        self._pieces = {}

    def withdraw_ask(self, permission_id: str) -> None:
        """Take in that a request needs no answer any more."""
        self.asks.pop(permission_id, None)
        self.unsettled.pop(permission_id, None)

    def end(
        self,
        result: Result,
        failure: Failure | None,
        usage: transcript_pb2.Usage,
        *,
        background: int,
    ) -> Ending:
        """Close what is open and tell how the turn ended."""
        if result is Result.FINISHED:
            self.withdraw()
        for block in list(self.book.blocks.values()):
            self._record(block.block_id, block.text, "", thought=block.thought, partial=True)
        return Ending(
            result=result,
            failure=failure,
            usage=usage,
            tools_running=len(self._tools_running),
            tools_succeeded=self._tools_succeeded,
            tools_failed=self._tools_failed,
            background=background,
            model=self.model,
        )

    def _fragment(self, index: int, text: str, *, thought: bool) -> None:
        blocks = self._pieces.get(index)
        if blocks is None:
            block_id = f"{self._message}-{index:d}"
            blocks = self._pieces[index] = [self.book.open(block_id, thought=thought)]
            self._check_pieces()
        size = len(text) if text.isascii() else len(text.encode())
        block = blocks[-1]
        if block.size + size <= PIECE_BYTES:
            block.write(text, size)
            return
        for part in split(text, PIECE_BYTES - block.size):
            if blocks[-1].size:
                block_id = f"{self._message}-{index}-{len(blocks) + 1}"
                blocks.append(self.book.open(block_id, thought=thought))
            blocks[-1].write(part, len(part.encode()))
        self._check_pieces()

    def _check_pieces(self) -> None:
        if sum(map(len, self._pieces.values())) > _PIECES:
            self.failure = Failure(
                errors_pb2.ERROR_REASON_AGENT_FAILED,
                "The agent wrote a message longer than 16 MiB; ask for less at once.",
            )

    def _confirm(self, message_id: str, text: str, parent: str, *, thought: bool) -> None:
        blocks = [] if parent else self._streamed(message_id, thought=thought)
        parts = [block.text for block in blocks]
        if "".join(parts) != text:
            parts = list(split(text, PIECE_BYTES))
        for number, part in enumerate(parts):
            if number < len(blocks):
                block_id = blocks[number].block_id
            else:
                self._unstreamed += 1
                block_id = f"{message_id}-w{self._unstreamed}"
            self._record(block_id, part, parent, thought=thought, partial=self.cut)
        for block in blocks[len(parts) :]:
            self.book.discard(block.block_id)

    def _streamed(self, message_id: str, *, thought: bool) -> list[Block]:
        """Take the oldest streamed text of a kind that waits for its confirmation."""
        if message_id == self._message:
            for index, blocks in self._pieces.items():
                if blocks[0].thought is thought:
                    return self._pieces.pop(index)
        return []

    def _record(
        self, block_id: str, text: str, parent: str, *, thought: bool, partial: bool
    ) -> None:
        if thought:
            fact = transcript_pb2.AgentThought(
                block_id=block_id, text=text, partial=partial, parent_tool_call_id=parent
            )
            self._append(transcript_pb2.Item(agent_thought=fact))
        else:
            said = transcript_pb2.AgentMessage(
                block_id=block_id, text=text, partial=partial, parent_tool_call_id=parent
            )
            self._append(transcript_pb2.Item(agent_message=said))

    def _tool_call(self, content: dict[str, Any], parent: str) -> None:
        input_json, omitted = bounded_json(content["input"])
        if content["name"] == _PLAN_TOOL:
            self.plan = str(content["input"].get("plan") or "")
        self._tools_running.add(content["id"])
        self._append(
            transcript_pb2.Item(
                tool_call=transcript_pb2.ToolCall(
                    tool_call_id=content["id"],
                    tool_name=content["name"],
                    input_json=input_json,
                    parent_tool_call_id=parent,
                    omitted_bytes=omitted,
                )
            )
        )

    def _tool_result(self, content: dict[str, Any]) -> None:
        output = content.get("content") or ""
        if not isinstance(output, str):
            output = "".join(part.get("text", "") for part in output)
        failed = bool(content.get("is_error"))
        output, omitted = bounded(output, PIECE_BYTES)
        tool_id = content["tool_use_id"]
        self._tools_running.discard(tool_id)
        self._answered(tool_id)
        self._tools_failed += failed
        self._tools_succeeded += not failed
        self._append(
            transcript_pb2.Item(
                tool_result=transcript_pb2.ToolResult(
                    tool_call_id=tool_id,
                    output=output,
                    failed=failed,
                    omitted_bytes=omitted,
                )
            )
        )

    def _append(self, item: transcript_pb2.Item) -> None:
        if item.ByteSize() > _ITEM_BYTES:
            self.failure = Failure(
                errors_pb2.ERROR_REASON_AGENT_FAILED,
                "The agent said something that is too long to be shown; ask for less at once.",
            )
            return
        self.book.append(item)

    def _answered(self, tool_id: str) -> None:
        """Close the requests of a tool call that has ended: somebody has answered them."""
        for permission_id, ask in list(self.unsettled.items()):
            if ask.request.tool_call_id == tool_id:
                self.withdraw_ask(permission_id)


def _name(value: str) -> str:
    """Return an id or a model's name.

    Raises:
        ValueError: It is longer than any.
    """
    if len(value) > _NAME_CHARACTERS:
        raise ValueError(value[:_NAME_CHARACTERS])
    return value
