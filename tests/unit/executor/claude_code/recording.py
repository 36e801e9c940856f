"""What the real CLI printed in one turn and in what it said by itself after it.

Version 2.1.330 over the stand-in for its provider: a request repeated, text, a file written with
permission, a sub-agent, and a command left in the background. Without what nobody reads; the
names of the turn, of the attendance after it and of the conversation are words.
"""

from __future__ import annotations

from typing import Any

PRINTED: list[dict[str, Any]] = [
    {
        "type": "control_response",
        "response": {
            "subtype": "success",
            "request_id": "moorline/turn/PROMPT",
            "response": {"mode": "default"},
        },
    },
    {"type": "system", "subtype": "session_state_changed", "state": "running"},
    {"type": "command_lifecycle", "command_uuid": "PROMPT", "state": "queued"},
    {"type": "command_lifecycle", "command_uuid": "PROMPT", "state": "started"},
    {
        "type": "system",
        "subtype": "init",
        "session_id": "CONVERSATION",
        "permissionMode": "default",
        "claude_code_version": "2.1.330",
    },
    {"type": "system", "subtype": "status", "status": "requesting"},
    {
        "type": "system",
        "subtype": "api_retry",
        "attempt": 1,
        "max_retries": 3,
        "retry_delay_ms": 624,
        "error_status": 529,
    },
    {
        "type": "transcript_mirror",
        "filePath": "projects/-workspace/CONVERSATION.jsonl",
        "entries": [{"type": "user", "uuid": "PROMPT"}, {"type": "attachment", "uuid": "u2"}],
    },
    {"type": "stream_event", "event": {"type": "message_start", "message": {"id": "msg_1"}}},
    {
        "type": "stream_event",
        "event": {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": "hello"},
        },
    },
    {
        "type": "assistant",
        "message": {
            "id": "msg_1",
            "model": "claude-opus-5-5",
            "content": [{"type": "text", "text": "hello"}],
        },
    },
    {
        "type": "assistant",
        "message": {
            "id": "msg_1",
            "model": "claude-opus-5-5",
            "content": [
                {
                    "type": "tool_use",
                    "id": "toolu_2",
                    "name": "Write",
                    "input": {"file_path": "a.txt", "content": "one"},
                }
            ],
        },
    },
    {"type": "system", "subtype": "session_state_changed", "state": "requires_action"},
    {
        "type": "control_request",
        "request_id": "u3",
        "request": {
            "subtype": "can_use_tool",
            "tool_name": "Write",
            "input": {"file_path": "/workspace/a.txt", "content": "one"},
            "permission_suggestions": [
                {"type": "setMode", "mode": "acceptEdits", "destination": "session"}
            ],
            "tool_use_id": "toolu_2",
        },
    },
    {
        "type": "transcript_mirror",
        "filePath": "projects/-workspace/CONVERSATION.jsonl",
        "entries": [{"type": "assistant", "uuid": "u4"}, {"type": "assistant", "uuid": "u5"}],
    },
    {"type": "system", "subtype": "session_state_changed", "state": "running"},
    {
        "type": "user",
        "message": {
            "content": [{"tool_use_id": "toolu_2", "type": "tool_result", "content": "(output)"}]
        },
    },
    {"type": "system", "subtype": "status", "status": "requesting"},
    {"type": "stream_event", "event": {"type": "message_start", "message": {"id": "msg_3"}}},
    {
        "type": "assistant",
        "message": {
            "id": "msg_3",
            "model": "claude-opus-5-5",
            "content": [
                {
                    "type": "tool_use",
                    "id": "toolu_4",
                    "name": "Agent",
                    "input": {
                        "description": "task",
                        "prompt": "/sim bash true\n/sim say found",
                        "subagent_type": "general-purpose",
                        "run_in_background": False,
                    },
                }
            ],
        },
    },
    {
        "type": "user",
        "message": {"content": [{"type": "text", "text": "/sim bash true\n/sim say found"}]},
        "parent_tool_use_id": "toolu_4",
    },
    {
        "type": "transcript_mirror",
        "filePath": "projects/-workspace/CONVERSATION.jsonl",
        "entries": [{"type": "user", "uuid": "u6"}, {"type": "attachment", "uuid": "u7"}],
    },
    {
        "type": "assistant",
        "message": {
            "id": "msg_5",
            "model": "claude-opus-5-5",
            "content": [
                {
                    "type": "tool_use",
                    "id": "toolu_6",
                    "name": "Bash",
                    "input": {"command": "true", "description": "Run a command"},
                }
            ],
        },
        "parent_tool_use_id": "toolu_4",
    },
    {
        "type": "transcript_mirror",
        "filePath": "projects/-workspace/CONVERSATION.jsonl",
        "entries": [{"type": "assistant", "uuid": "u8"}],
    },
    {
        "type": "transcript_mirror",
        "filePath": "projects/-workspace/CONVERSATION/subagents/agent-a83eefbcc1d5e6643.jsonl",
        "entries": [{"type": "user", "uuid": "u9"}, {"type": "attachment", "uuid": "u10"}],
    },
    {
        "type": "user",
        "message": {
            "content": [
                {
                    "tool_use_id": "toolu_6",
                    "type": "tool_result",
                    "content": "(output)",
                    "is_error": False,
                }
            ]
        },
        "parent_tool_use_id": "toolu_4",
    },
    {"type": "system", "subtype": "task_notification", "status": "completed"},
    {
        "type": "user",
        "message": {
            "content": [
                {
                    "tool_use_id": "toolu_4",
                    "type": "tool_result",
                    "content": [{"type": "text", "text": "(output)"}],
                }
            ]
        },
    },
    {"type": "system", "subtype": "status", "status": "requesting"},
    {
        "type": "transcript_mirror",
        "filePath": "projects/-workspace/CONVERSATION.jsonl",
        "entries": [{"type": "user", "uuid": "u15"}],
    },
    {"type": "stream_event", "event": {"type": "message_start", "message": {"id": "msg_8"}}},
    {
        "type": "assistant",
        "message": {
            "id": "msg_8",
            "model": "claude-opus-5-5",
            "content": [
                {
                    "type": "tool_use",
                    "id": "toolu_9",
                    "name": "Bash",
                    "input": {
                        "command": "sleep 0.5 && echo 5",
                        "description": "built",
                        "run_in_background": True,
                    },
                }
            ],
        },
    },
    {
        "type": "transcript_mirror",
        "filePath": "projects/-workspace/CONVERSATION.jsonl",
        "entries": [{"type": "assistant", "uuid": "u16"}],
    },
    {
        "type": "system",
        "subtype": "background_tasks_changed",
        "tasks": [{"task_id": "b229rqf6t", "task_type": "local_bash"}],
    },
    {
        "type": "user",
        "message": {
            "content": [
                {
                    "tool_use_id": "toolu_9",
                    "type": "tool_result",
                    "content": "(output)",
                    "is_error": False,
                }
            ]
        },
    },
    {"type": "system", "subtype": "status", "status": "requesting"},
    {"type": "stream_event", "event": {"type": "message_start", "message": {"id": "msg_10"}}},
    {
        "type": "stream_event",
        "event": {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": "bye"},
        },
    },
    {
        "type": "assistant",
        "message": {
            "id": "msg_10",
            "model": "claude-opus-5-5",
            "content": [{"type": "text", "text": "bye"}],
        },
    },
    {
        "type": "transcript_mirror",
        "filePath": "projects/-workspace/CONVERSATION.jsonl",
        "entries": [{"type": "user", "uuid": "u17"}],
    },
    {
        "type": "transcript_mirror",
        "filePath": "projects/-workspace/CONVERSATION.jsonl",
        "entries": [{"type": "assistant", "uuid": "u18"}],
    },
    {
        "terminal_reason": "completed",
        "is_error": False,
        "subtype": "success",
        "type": "result",
        "user_message_uuid": "PROMPT",
        "model_usage_since_last_result": {
            "claude-opus-5-5": {"inputTokens": 870, "outputTokens": 29, "costUSD": 0.00487}
        },
    },
    {"type": "command_lifecycle", "command_uuid": "PROMPT", "state": "completed"},
    {"type": "system", "subtype": "session_state_changed", "state": "idle"},
    {
        "type": "control_response",
        "response": {
            "subtype": "success",
            "request_id": "moorline/attend/ATTENDANCE",
            "response": {"mode": "default"},
        },
    },
    {"type": "system", "subtype": "task_notification", "status": "completed"},
    {"type": "system", "subtype": "background_tasks_changed", "tasks": []},
    {"type": "system", "subtype": "session_state_changed", "state": "running"},
    {
        "type": "system",
        "subtype": "init",
        "session_id": "CONVERSATION",
        "permissionMode": "default",
        "claude_code_version": "2.1.330",
    },
    {"type": "system", "subtype": "status", "status": "requesting"},
    {
        "type": "transcript_mirror",
        "filePath": "projects/-workspace/CONVERSATION.jsonl",
        "entries": [{"type": "user", "uuid": "u20"}],
    },
    {"type": "stream_event", "event": {"type": "message_start", "message": {"id": "msg_11"}}},
    {
        "type": "stream_event",
        "event": {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": "built"},
        },
    },
    {
        "type": "assistant",
        "message": {
            "id": "msg_11",
            "model": "claude-opus-5-5",
            "content": [{"type": "text", "text": "built"}],
        },
    },
    {
        "type": "transcript_mirror",
        "filePath": "projects/-workspace/CONVERSATION.jsonl",
        "entries": [{"type": "assistant", "uuid": "u21"}],
    },
    {
        "terminal_reason": "completed",
        "origin": {"kind": "task-notification", "producer": "session-task", "runId": "run"},
        "is_error": False,
        "subtype": "success",
        "type": "result",
        "model_usage_since_last_result": {
            "claude-opus-5-5": {"inputTokens": 200, "outputTokens": 2, "costUSD": 0.00103}
        },
    },
    {"type": "system", "subtype": "session_state_changed", "state": "idle"},
]
