"""What an executor depends on, as a diagnosis tells it. Does not know gRPC.

What is wrong with something that nobody has chosen is a warning, not a failure.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from moorline.diagnosis.v1 import diagnosis_pb2
from services.executor.backend import Backend, Link

Check = diagnosis_pb2.Check

_SECONDS = 4.0
"""How long one look may take; whoever asks waits a little longer."""

_LITTLE, _TOO_LITTLE = 2 << 30, 256 << 20
"""Bytes of free room that are worth a warning, and that agents cannot work with."""

_OF_BACKEND = {
    Check.SUBJECT_ENGINE: "docker",
    Check.SUBJECT_IMAGE: "docker",
    Check.SUBJECT_PROGRAM: "process",
}
_OF_MODEL = (Check.SUBJECT_KEY, Check.SUBJECT_UPSTREAM)


@dataclass(frozen=True, slots=True)
class Look:
    """One way of finding out.

    Attributes:
        subject: What it is about.
        run: Finds out; may tell of something else besides.
    """

    subject: diagnosis_pb2.Check.Subject.ValueType
    run: Callable[[], Awaitable[Sequence[diagnosis_pb2.Check]]]


class Surroundings:
    """All that an executor depends on.

    Args:
        backends: The backends by name.
        default_backend: Name of the one that agents run in unless they choose.
        workspaces: Directory of the agents' files.
        looks: Ways of finding out about the rest.
    """

    def __init__(
        self,
        *,
        backends: Mapping[str, Backend],
        default_backend: str,
        workspaces: Path,
        looks: Sequence[Look],
    ) -> None:
        self._backends = backends
        self._default = default_backend
        self._workspaces = workspaces
        self._looks = looks

    async def look(self) -> list[diagnosis_pb2.Check]:
        """Look at everything, all at once; what does not answer in time is a failure."""
        disk = Look(Check.SUBJECT_DISK, self._disk)
        found = await asyncio.gather(*(_found(look) for look in (*self._looks, disk)))
        checks = [self._executor(), *(check for checks in found for check in checks)]
        for check in checks:
            self._weigh(check)
        return checks

    def _executor(self) -> diagnosis_pb2.Check:
        names = [name for name, backend in self._backends.items() if not backend.unavailable]
        check = Check(
            subject=Check.SUBJECT_EXECUTOR,
            state=Check.STATE_GOOD,
            detail=f"Agents can run by: {', '.join(names) or 'nothing'}.",
        )
        problem = self._backends[self._default].unavailable
        if problem:
            check.state = Check.STATE_FAILED
            check.detail = f"Agents run by {self._default} unless they choose: {problem}"
            check.remedy = (
                "Mend what is told below, or set MOORLINE_DEFAULT_BACKEND to another backend."
            )
        return check

    async def _disk(self) -> Sequence[diagnosis_pb2.Check]:
        return [await asyncio.to_thread(disk_check, self._workspaces)]

    def _weigh(self, check: diagnosis_pb2.Check) -> None:
        """Make less of what nobody has chosen."""
        if check.state != Check.STATE_FAILED:
            return
        if _OF_BACKEND.get(check.subject, self._default) != self._default:
            check.state = Check.STATE_WARNING
        elif check.subject in _OF_MODEL and not self._models_needed:
            check.state = Check.STATE_UNUSED

    @property
    def _models_needed(self) -> bool:
        default = self._backends[self._default]
        return default.link is not Link.NONE or any(
            backend.link is not Link.NONE and not backend.unavailable
            for backend in self._backends.values()
        )


def disk_check(directory: Path) -> diagnosis_pb2.Check:
    """Tell whether agents have room for their files, and may write them.

    Args:
        directory: Where the files are; may be missing, as it is made when it is needed.
    """
    there = next(
        path for path in (directory.absolute(), *directory.absolute().parents) if path.exists()
    )
    check = Check(subject=Check.SUBJECT_DISK, state=Check.STATE_GOOD)
    if not os.access(there, os.W_OK | os.X_OK):
        check.state = Check.STATE_FAILED
        check.detail = f"The executor may not write to {there}."
        check.remedy = "Give its user the right to, or set MOORLINE_WORKSPACES."
        return check
    free = shutil.disk_usage(there).free
    check.detail = f"{there} has {free / (1 << 30):.1f} GiB of free room."
    if free < _LITTLE:
        check.state = Check.STATE_FAILED if free < _TOO_LITTLE else Check.STATE_WARNING
        check.remedy = "Make room there, or set MOORLINE_WORKSPACES to a larger disk."
    return check


async def _found(look: Look) -> Sequence[diagnosis_pb2.Check]:
    try:
        async with asyncio.timeout(_SECONDS):
            return await look.run()
    except TimeoutError:
        return [
            Check(
                subject=look.subject,
                state=Check.STATE_FAILED,
                detail=f"It did not answer within {_SECONDS:.0f} s.",
                remedy="See the executor's log, and ask again.",
            )
        ]
