"""Takes over transcripts that another machine has written."""

from __future__ import annotations

from collections.abc import Sequence

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure


class Restoring:
    """See `workspaces_api.Restorer`."""

    async def restore(
        self, workspace: str, conversation: str, file: str, position: int, entries: Sequence[str]
    ) -> None:
        """Refuse."""
        raise Failure(errors_pb2.ERROR_REASON_METHOD_UNKNOWN, "This executor does not serve that.")
