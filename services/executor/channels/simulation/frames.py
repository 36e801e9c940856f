"""The frames a Claude Code CLI prints, built as it builds them.

Does not know scripts, and does not know who reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

VERSION = "2.1.330"
MODEL = "simulation"

_TOOLS = ("AskUserQuestion", "Bash", "Edit", "ExitPlanMode", "Read", "Task", "Write")
_CAPABILITIES = ("interrupt_receipt_v1", "msg_lifecycle_v1")


class DeltaShape(NamedTuple):
    """The parts of a fragment's frame that stay the same while one block is written.

    A fragment is `head`, its text as JSON, `middle`, twelve hexadecimal digits, `"}`.
    """

    head: bytes
    middle: bytes


class Frames:
    """Builds the lines of one process, each with an id of its own.

    The ids come from the seed and what was asked, so that a repeated run prints the same.

    Args:
        seed: Any number.
        session_id: The conversation.
        mode: Value of `--permission-mode`.
        model: Value of `--model`.
        directory: The workspace, as the process sees it.
    """

    __slots__ = (
        "_directory", "_seed", "_uuid", "count", "message_id", "mode", "model", "session_id",
    )  # fmt: skip

    def __init__(
        self, *, seed: int, session_id: str, mode: str, model: str, directory: str
    ) -> None:
        self.session_id = session_id
        self.message_id = ""
        """The user's message that is being answered; set for each turn, empty for one of the
        agent's own."""
        self.mode = mode
        """What may be done without asking."""
        self.model = model
        """The model that answers."""
        self.count = 0
        """Frames so far."""
        self._seed = seed
        self._directory = directory
        self._uuid = f"{self.new_id('frame')[:8]}-0000-4000-8000-"

    def new_id(self, kind: str) -> str:
        """Return 24 hexadecimal digits that no other call returns."""
        self.count += 1
        named = f"{self._seed}/{self.session_id}/{self.message_id}/{self.count}/{kind}"
        return hashlib.sha256(named.encode()).hexdigest()[:24]

    def line(self, **frame: Any) -> bytes:
        """Return one frame as a line."""
        self.count += 1
        return orjson.dumps(
            {**frame, "session_id": self.session_id, "uuid": f"{self._uuid}{self.count:012x}"}
        )

    def init(self) -> bytes:
        """Return the frame that begins each turn."""
        return self.line(
            type="system",
            subtype="init",
            cwd=self._directory,
            tools=_TOOLS,
            mcp_servers=[],
            model=self.model,
            permissionMode=self.mode,
            apiKeySource="none",
            claude_code_version=VERSION,
            capabilities=_CAPABILITIES,
            **self.answered(),
        )

    def answered(self) -> dict[str, Any]:
        """Return what tells which messages are answered; nothing for a turn of the agent's own."""
        return {"user_message_uuids": [self.message_id]} if self.message_id else {}

    def system(self, subtype: str, **facts: Any) -> bytes:
        """Return a frame of type `system`."""
        return self.line(type="system", subtype=subtype, **facts)

    def requesting(self) -> bytes:
        """Return that the provider is being asked."""
        return self.system("status", status="requesting", **self.answered())

    def lifecycle(self, state: str) -> bytes:
        """Return what became of the user's message."""
        return self.line(type="command_lifecycle", command_uuid=self.message_id, state=state)

    def state(self, state: str) -> bytes:
        """Return whether the process runs, needs someone, or is idle."""
        return self.line(type="system", subtype="session_state_changed", state=state)

    def event(self, **event: Any) -> bytes:
        """Return one event of the provider's stream."""
        return self.line(
            type="stream_event",
            event=event,
            parent_tool_use_id=None,
            user_message_uuid=self.message_id,
        )

    def message_start(self, message_id: str) -> bytes:
        """Return the event that begins a message."""
        usage = {"input_tokens": 0, "output_tokens": 0}
        message = {
            "id": message_id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "usage": usage,
        }
        return self.event(type="message_start", message=message)

    def delta_shape(self, message_id: str, kind: str) -> DeltaShape:
        """Return the frame of a fragment in parts: printing one must cost next to nothing.

        Args:
            message_id: The message being written.
            kind: `text` or `thinking`.
        """
        mark = "\ue000"
        frame = {
            "type": "stream_event",
            "event": {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": f"{kind}_delta", kind: mark},
            },
            "parent_tool_use_id": None,
            "user_message_uuid": self.message_id,
            "api_message_id": message_id,
            "session_id": self.session_id,
            "uuid": f"{self._uuid}{mark}",
        }
        head, middle, _ = orjson.dumps(frame).split(mark.encode())
        return DeltaShape(head[:-1], middle[1:])

    def assistant(
        self,
        message_id: str,
        content: dict[str, Any],
        *,
        model: str = "",
        parent: str | None = None,
    ) -> bytes:
        """Return the frame that confirms one block of a message."""
        message = {
            "id": message_id,
            "type": "message",
            "role": "assistant",
            "model": model or self.model,
            "content": [content],
        }
        return self.line(
            type="assistant", message=message, parent_tool_use_id=parent, request_id=None
        )

    def tool_result(
        self, tool_id: str, output: str, *, failed: bool, parent: str | None = None
    ) -> bytes:
        """Return the frame that carries a tool's result."""
        content = {
            "tool_use_id": tool_id,
            "type": "tool_result",
            "content": output,
            "is_error": failed,
        }
        return self.line(
            type="user",
            message={"role": "user", "content": [content]},
            parent_tool_use_id=parent,
            tool_use_result=output,
        )

    def told(self, text: str, *, parent: str) -> bytes:
        """Return what a sub-agent was told."""
        content = {"type": "text", "text": text}
        return self.line(
            type="user", message={"role": "user", "content": [content]}, parent_tool_use_id=parent
        )

    def stopped(self) -> bytes:
        """Return what the agent is told after the model refused to go on."""
        content = {"type": "text", "text": "Your response above was stopped."}
        return self.line(
            type="user",
            message={"role": "user", "content": [content]},
            parent_tool_use_id=None,
            isSynthetic=True,
            refused_message_id=f"msg_{self.new_id('message')}",
        )

    def permission(
        self,
        request_id: str,
        tool_id: str,
        tool: str,
        tool_input: Any,
        *,
        suggestions: Sequence[Mapping[str, Any]],
        needs_user: bool,
    ) -> bytes:
        """Return the request to let a tool run."""
        request: dict[str, Any] = {
            "subtype": "can_use_tool",
            "tool_name": tool,
            "display_name": tool,
            "input": tool_input,
            "tool_use_id": tool_id,
        }
        if needs_user:
            request["requires_user_interaction"] = True
        else:
            request["permission_suggestions"] = suggestions
        return orjson.dumps(
            {"type": "control_request", "request_id": request_id, "request": request}
        )

    def api_retry(self, attempt: int, status: int | None, error: str) -> bytes:
        """Return the notice that the provider is tried again."""
        return self.line(
            type="system",
            subtype="api_retry",
            attempt=attempt,
            max_retries=6,
            retry_delay_ms=10,
            error_status=status,
            error=error,
        )
