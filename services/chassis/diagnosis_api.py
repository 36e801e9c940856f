"""The door of `DiagnosisService`. Does not know what is looked at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import grpc

from moorline.diagnosis.v1 import diagnosis_pb2, diagnosis_pb2_grpc
from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.chassis.identity import caller

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class DiagnosisApi(diagnosis_pb2_grpc.DiagnosisServiceServicer):
    """Serves `DiagnosisService`.

    Args:
        look: Looks at everything that the service depends on; takes seconds at most.
    """

    def __init__(self, *, look: Callable[[], Awaitable[Sequence[diagnosis_pb2.Check]]]) -> None:
        self._look = look

    async def Diagnose(
        self, request: diagnosis_pb2.DiagnoseRequest, context: Context
    ) -> diagnosis_pb2.DiagnoseResponse:
        """Look at everything now."""
        if not caller().admin:
            rule = "Only an administrator may look at the platform's surroundings."
            raise Failure(errors_pb2.ERROR_REASON_FORBIDDEN, rule, rule=rule)
        return diagnosis_pb2.DiagnoseResponse(checks=await self._look())
