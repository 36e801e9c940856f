"""The door of `BackendService`. Does not know how a backend runs anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import grpc

from moorline.executor.v1 import backends_pb2, backends_pb2_grpc
from services.executor.backend import Backend
from services.executor.metering import ModelProxy, obstacle

Context = grpc.aio.ServicerContext[Any, Any]


class BackendApi(backends_pb2_grpc.BackendServiceServicer):
    """Serves `BackendService`.

    Args:
        backends: The backends by name, in the order to list them.
        default_backend: Name of the one used when an agent names none.
        proxy: How those reach the model that need one.
        models: Models to choose from, by backend, the default first.
    """

    def __init__(
        self,
        *,
        backends: Mapping[str, Backend],
        default_backend: str,
        proxy: ModelProxy,
        models: Mapping[str, Sequence[str]],
    ) -> None:
        self._backends = backends
        self._default_backend = default_backend
        self._proxy = proxy
        self._models = models

    async def ListBackends(
        self, request: backends_pb2.ListBackendsRequest, context: Context
    ) -> backends_pb2.ListBackendsResponse:
        """List every backend there is."""
        return backends_pb2.ListBackendsResponse(
            backends=[self._resource(backend) for backend in self._backends.values()]
        )

    def _resource(self, backend: Backend) -> backends_pb2.Backend:
        can = backend.capabilities
        detail = obstacle(backend, self._proxy)
        return backends_pb2.Backend(
            name=f"backends/{backend.name}",
            available=not detail,
            detail=detail,
            default=backend.name == self._default_backend,
            capabilities=backends_pb2.BackendCapabilities(
                deltas=can.deltas,
                permissions=can.permissions,
                resume=can.resume,
                durable_workspace=can.durable_workspace,
            ),
            models=self._models.get(backend.name, ()),
        )
