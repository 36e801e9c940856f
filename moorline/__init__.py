"""Moorline's client: talk to your agents from Python.

    import moorline

    with moorline.Client() as client:
        print(client.run("What does this repository do?").text)

`AsyncClient` has the same names for programs with an event loop. Neither needs
gRPC; the generated API beside this package does.
"""

from __future__ import annotations

from moorline.aio import AsyncClient, AsyncKeys
from moorline.async_agent import AsyncAgent, AsyncTurn
from moorline.async_agents import AgentRemoved, AgentsListed, AgentStream, AsyncAgents
from moorline.async_files import AsyncFiles
from moorline.changes import ChangeKind, FileChange
from moorline.checks import Check, Finding, Subject
from moorline.client import Client, SyncAgents, SyncKeys
from moorline.connection import ConnectionState, Patience
from moorline.events import (
    AsyncEvent,
    AsyncStoredEvent,
    BackgroundWork,
    Checkpoint,
    Compaction,
    FilesChanged,
    Message,
    MessageDiscarded,
    ModelFallback,
    OutcomeState,
    ProviderRetry,
    TextDelta,
    Thought,
    ToolCall,
    ToolResult,
    TurnAttempt,
    TurnOutcome,
    UnknownEvent,
    UserMessage,
)
from moorline.exceptions import (
    AuthenticationError,
    CallTimeoutError,
    ConflictError,
    ConnectionLostError,
    InvalidRequestError,
    MoorlineError,
    NotFoundError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitedError,
    SequenceUnknownError,
    ServerError,
    TurnFailedError,
    UnavailableError,
)
from moorline.files import File, FileKind, WorkspaceChanges
from moorline.permissions import (
    AsyncPermissionRequest,
    Decider,
    Decision,
    PermissionDecision,
    PermissionKind,
    PermissionRequest,
    PermissionSuggestion,
    Question,
    QuestionOption,
)
from moorline.resources import (
    Agent,
    AgentState,
    Backend,
    Key,
    MonthlyUsage,
    NewKey,
    PermissionMode,
    Turn,
    TurnState,
    Usage,
    UsageTotal,
)
from moorline.stored_event import Event, StoredEvent
from moorline.sync_agent import (
    SyncAgent,
    SyncEvent,
    SyncEventStream,
    SyncPermissionRequest,
    SyncStoredEvent,
    SyncTurn,
    SyncTurnStream,
)
from moorline.sync_files import SyncFiles
from moorline.turn_stream import TurnResult, TurnStream
from moorline.watching import EventStream

__all__ = [
    "Agent",
    "AgentRemoved",
    "AgentState",
    "AgentStream",
    "AgentsListed",
    "AsyncAgent",
    "AsyncAgents",
    "AsyncClient",
    "AsyncEvent",
    "AsyncFiles",
    "AsyncKeys",
    "AsyncPermissionRequest",
    "AsyncStoredEvent",
    "AsyncTurn",
    "AuthenticationError",
    "Backend",
    "BackgroundWork",
    "CallTimeoutError",
    "ChangeKind",
    "Check",
    "Checkpoint",
    "Client",
    "Compaction",
    "ConflictError",
    "ConnectionLostError",
    "ConnectionState",
    "Decider",
    "Decision",
    "Event",
    "EventStream",
    "File",
    "FileChange",
    "FileKind",
    "FilesChanged",
    "Finding",
    "InvalidRequestError",
    "Key",
    "Message",
    "MessageDiscarded",
    "ModelFallback",
    "MonthlyUsage",
    "MoorlineError",
    "NewKey",
    "NotFoundError",
    "OutcomeState",
    "Patience",
    "PermissionDecision",
    "PermissionDeniedError",
    "PermissionKind",
    "PermissionMode",
    "PermissionRequest",
    "PermissionSuggestion",
    "ProtocolError",
    "ProviderRetry",
    "Question",
    "QuestionOption",
    "RateLimitedError",
    "SequenceUnknownError",
    "ServerError",
    "StoredEvent",
    "Subject",
    "SyncAgent",
    "SyncAgents",
    "SyncEvent",
    "SyncEventStream",
    "SyncFiles",
    "SyncKeys",
    "SyncPermissionRequest",
    "SyncStoredEvent",
    "SyncTurn",
    "SyncTurnStream",
    "TextDelta",
    "Thought",
    "ToolCall",
    "ToolResult",
    "Turn",
    "TurnAttempt",
    "TurnFailedError",
    "TurnOutcome",
    "TurnResult",
    "TurnState",
    "TurnStream",
    "UnavailableError",
    "UnknownEvent",
    "Usage",
    "UsageTotal",
    "UserMessage",
    "WorkspaceChanges",
]
