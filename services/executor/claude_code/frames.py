"""Claude Code's command line and the lines written to it.

Knows the CLI's words; does not know channels, books or turns. Flags, frames and rules are those
of version 2.1.330, the one this adapter is written for.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from moorline.executor.v1 import executions_pb2
from services.executor.backend import View

CLI_VERSION = "2.1.330"
"""The version this adapter was written against; another one is logged."""

DEFAULT_MODEL = "default"
"""What the CLI calls the model it would choose itself."""

_MODES: Mapping[int, str] = {
    executions_pb2.Execution.PERMISSION_MODE_ACCEPT_EDITS: "acceptEdits",
    executions_pb2.Execution.PERMISSION_MODE_PLAN: "plan",
}
# PERMISSION_MODE_ACCEPT_ALL is none of the CLI's modes: its own one is refused to root, and can
# neither be entered nor left while it runs. We answer its questions instead.

_REFUSED_TOOLS = (
    "SendMessage,ListAgents,CronCreate,CronDelete,CronList,ScheduleWakeup,WebFetch,WebSearch"
)
"""Tools that reach other agents, later times or other machines."""

_NAMESPACE = uuid.UUID("0a5a1c2e-6d0f-5c5b-9a41-6f1f7f0c9d11")

_ENVIRONMENT: Mapping[str, str] = {
    # Nothing but the model provider is called.
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_BUG_COMMAND": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    # Idle is told, not guessed.
    "CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS": "1",
    # Of the CLI's two watchdogs only this one works with a base URL of our own.
    "CLAUDE_ENABLE_BYTE_WATCHDOG": "1",
    "CLAUDE_BYTE_STREAM_IDLE_TIMEOUT_MS": "180000",
    "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
    "CLAUDE_CODE_DISABLE_CRON": "1",
    # CLAUDE.md of the workspace is read although its settings are not.
    "CLAUDE_CODE_ADDITIONAL_DIRECTORIES_CLAUDE_MD": "1",
}

STATE_FOLDERS = ("claude", "home", "tmp")
"""What a process needs in `View.state`; never shared, as two that share it can reach each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a process is started with, and cannot be told later.

    Attributes:
        instructions: Standing instructions; may be empty.
        rules: Uses of tools that need no question.
        max_steps: Answers of the model that a turn may take; 0 for no limit.
        fallback_model: The model that goes on when the first one is overloaded; may be empty.
    """

    instructions: str
    rules: tuple[str, ...]
    max_steps: int
    fallback_model: str


def stable_uuid(name: str) -> str:
    """Return the UUID of a name of ours, always the same: the CLI takes no other ids."""
    return str(uuid.uuid5(_NAMESPACE, name))


def mode_of(permission_mode: int) -> str:
    """Return the CLI's word for a value of `Execution.PermissionMode`."""
    return _MODES.get(permission_mode, "default")


def environment(view: View, *, retries: int) -> dict[str, str]:
    """Return what every process gets, wherever it runs.

    Args:
        view: Where the process finds what it has.
        retries: Repetitions of a request that the provider failed to answer.
    """
    claude, home, temporary = (f"{view.state}/{folder}" for folder in STATE_FOLDERS)
    return {
        **_ENVIRONMENT,
        "CLAUDE_CODE_MAX_RETRIES": str(retries),
        "CLAUDE_CONFIG_DIR": claude,
        "HOME": home,
        "CLAUDE_CODE_TMPDIR": temporary,
    }


def command_line(
    *, directory: str, terms: Terms, mode: str, model: str, session_id: str, resume: str
) -> tuple[str, ...]:
    """Return the command line of a process.

    Args:
        directory: The workspace, as the process sees it.
        terms: What it is started with.
        mode: The CLI's word for what the agent may do without asking.
        model: Model that answers; empty for the CLI's own choice.
        session_id: Id of a new conversation; not used when `resume` is set.
        resume: Conversation to continue; empty for a new one.
    """
    argv = [
        "claude",
        "-p",
        "--output-format=stream-json",
        "--input-format=stream-json",
        "--verbose",
        "--include-partial-messages",
        "--permission-prompt-tool=stdio",
        "--session-mirror",
        f"--permission-mode={mode}",
        # A workspace is untrusted: its hooks, servers and settings must not run or redirect us.
        "--setting-sources=",
        "--strict-mcp-config",
        "--no-chrome",
        f"--disallowedTools={_REFUSED_TOOLS}",
        f"--add-dir={directory}",
    ]
    # Always with "=", so that a value that begins with a dash stays a value.
    argv += [f"--allowedTools={rule}" for rule in terms.rules]
    if model:
        argv.append(f"--model={model}")
    if terms.fallback_model and terms.fallback_model != model:
        argv.append(f"--fallback-model={terms.fallback_model}")
    if terms.max_steps:
        argv.append(f"--max-turns={terms.max_steps}")
    if terms.instructions:
        # No word of a command line can hold it.
        argv.append(f"--append-system-prompt={terms.instructions.replace(chr(0), ' ')}")
    argv.append(f"--resume={resume}" if resume else f"--session-id={session_id}")
    return tuple(argv)


def prompt(*, text: str, message_id: str, session_id: str) -> bytes:
    """Return the line that begins a turn.

    `client_composed` keeps a prompt from being read as a slash command, and `@path` in it from
    sending that file to the provider unasked.

    Args:
        text: The user's words.
        message_id: A UUID; the result of the turn repeats it.
        session_id: The conversation; empty while it is not known.
    """
    return orjson.dumps(
        {
            "type": "user",
            "message": {"role": "user", "content": text},
            "parent_tool_use_id": None,
            "session_id": session_id,
            "uuid": message_id,
            "client_composed": True,
        }
    )


def request(subtype: str, *, request_id: str, **fields: str) -> bytes:
    """Return a control request, for example `initialize` or `interrupt`."""
    return orjson.dumps(
        {
            "type": "control_request",
            "request_id": request_id,
            "request": {"subtype": subtype, **fields},
        }
    )


def allow(*, request_id: str, tool_input: Any, updates: Sequence[Mapping[str, Any]] = ()) -> bytes:
    """Return the answer that lets a tool run.

    Args:
        request_id: The request.
        tool_input: What the tool is given.
        updates: Changes of permissions, in the CLI's words.
    """
    answer = {"behavior": "allow", "updatedInput": tool_input}
    if updates:
        answer["updatedPermissions"] = updates
    return _answer(request_id, answer)


def deny(*, request_id: str, reason: str) -> bytes:
    """Return the answer that refuses a tool; the agent is told the reason and goes on."""
    message = reason or "The user refused this tool call."
    return _answer(request_id, {"behavior": "deny", "message": message})


def unsupported(*, request_id: str) -> bytes:
    """Return the answer to a request of the CLI's that this adapter does not know."""
    response = {"subtype": "error", "request_id": request_id, "error": "unsupported_request"}
    return orjson.dumps({"type": "control_response", "response": response})


def _answer(request_id: str, answer: dict[str, Any]) -> bytes:
    response = {"subtype": "success", "request_id": request_id, "response": answer}
    return orjson.dumps({"type": "control_response", "response": response})
