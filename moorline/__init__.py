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
from moorline.client import Client, SyncAgents, SyncKeys
from moorline.connection import ConnectionState, Patience
from moorline.events import (
    AsyncEvent,
    AsyncPermissionRequest,
    AsyncStoredEvent,
    Checkpoint,
    Decider,
    Event,
    Message,
    MessageDiscarded,
    OutcomeState,
    PermissionDecision,
    PermissionRequest,
    StoredEvent,
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
from moorline.resources import (
    Agent,
    AgentState,
    Backend,
    Key,
    NewKey,
    PermissionMode,
    Turn,
    TurnState,
    Usage,
)
from moorline.sync_agent import (
    SyncAgent,
    SyncEvent,
    SyncEventStream,
    SyncPermissionRequest,
    SyncStoredEvent,
    SyncTurn,
    SyncTurnStream,
)
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
    "AsyncKeys",
    "AsyncPermissionRequest",
    "AsyncStoredEvent",
    "AsyncTurn",
    "AuthenticationError",
    "Backend",
    "CallTimeoutError",
    "Checkpoint",
    "Client",
    "ConflictError",
    "ConnectionLostError",
    "ConnectionState",
    "Decider",
    "Event",
    "EventStream",
    "InvalidRequestError",
    "Key",
    "Message",
    "MessageDiscarded",
    "MoorlineError",
    "NewKey",
    "NotFoundError",
    "OutcomeState",
    "Patience",
    "PermissionDecision",
    "PermissionDeniedError",
    "PermissionMode",
    "PermissionRequest",
    "ProtocolError",
    "RateLimitedError",
    "SequenceUnknownError",
    "ServerError",
    "StoredEvent",
    "SyncAgent",
    "SyncAgents",
    "SyncEvent",
    "SyncEventStream",
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
    "UserMessage",
]
