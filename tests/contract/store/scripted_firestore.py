"""A Firestore of a few lines that answers as a test's script says.

For what an emulator never answers: refusals, quotas, and errors at the worst moment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import grpc
from google.cloud.firestore_v1.types import (
    BatchGetDocumentsRequest,
    BatchGetDocumentsResponse,
    CommitRequest,
    CommitResponse,
    RunQueryRequest,
    RunQueryResponse,
)

Refusal = tuple[grpc.StatusCode, str]
Context = grpc.aio.ServicerContext[Any, Any]


class ScriptedFirestore:
    """Serves an empty database on the loopback address; an async context manager.

    Attributes:
        refusals: What the next calls of a method are refused with, by its name;
            `None` lets one pass.
        always: What every call is refused with; None for nothing.
        calls: How often each method was called.
        on_commit: Called with each commit that passes; what it returns is the answer.
    """

    def __init__(self) -> None:
        self.refusals: dict[str, list[Refusal | None]] = {}
        self.always: Refusal | None = None
        self.calls: dict[str, int] = {}
        self.on_commit: Callable[[Any], Any] = _committed
        self.metadata: dict[str, str] = {}
        self.found: dict[str, Any] = {}
        self._server = grpc.aio.server()
        self.host = ""

    async def __aenter__(self) -> Self:
        """Serve."""
        handlers = {
            "Commit": grpc.unary_unary_rpc_method_handler(
                self._commit,
                request_deserializer=CommitRequest.pb().FromString,
                response_serializer=_bytes,
            ),
            "BatchGetDocuments": grpc.unary_stream_rpc_method_handler(
                self._get,
                request_deserializer=BatchGetDocumentsRequest.pb().FromString,
                response_serializer=_bytes,
            ),
            "RunQuery": grpc.unary_stream_rpc_method_handler(
                self._query,
                request_deserializer=RunQueryRequest.pb().FromString,
                response_serializer=_bytes,
            ),
        }
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("google.firestore.v1.Firestore", handlers),)
        )
        self.host = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self._server.stop(None)

    async def _called(self, method: str, context: Context) -> None:
        self.calls[method] = self.calls.get(method, 0) + 1
        self.metadata = {str(key): str(value) for key, value in context.invocation_metadata() or ()}
        script = self.refusals.get(method)
        refusal = (script.pop(0) if script else None) or self.always
        if refusal is not None:
            await context.abort(*refusal)

    async def _commit(self, request: Any, context: Context) -> Any:
        await self._called("Commit", context)
        return self.on_commit(request)

    async def _get(self, request: Any, context: Context) -> AsyncIterator[Any]:
        await self._called("BatchGetDocuments", context)
        for name in request.documents:
            answer = BatchGetDocumentsResponse.pb()()
            if name in self.found:
                answer.found.CopyFrom(self.found[name])
            else:
                answer.missing = name
            answer.read_time.seconds = 1_000
            yield answer

    async def _query(self, request: Any, context: Context) -> AsyncIterator[Any]:
        await self._called("RunQuery", context)
        answer = RunQueryResponse.pb()()
        answer.read_time.seconds = 1_000
        yield answer


def _committed(request: Any) -> Any:
    answer = CommitResponse.pb()()
    answer.commit_time.seconds = 1_000
    for _ in request.writes:
        answer.write_results.add().update_time.seconds = 1_000
    return answer


def _bytes(message: Any) -> bytes:
    return bytes(message.SerializeToString())
