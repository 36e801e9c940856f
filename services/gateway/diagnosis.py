"""Asks every process behind the gateway what it depends on, and tells all of it together.

Does not know what there is to look at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from moorline.diagnosis.v1 import diagnosis_pb2
from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.chassis.identity import Identity
from services.gateway.calls import Service
from services.gateway.pods import Caller

Check = diagnosis_pb2.Check

_METHOD = "/moorline.diagnosis.v1.DiagnosisService/Diagnose"
_TIMEOUT = timedelta(seconds=6)
"""How long one process may take; all are asked at once."""

_SUBJECTS = {
    Service.SESSION: Check.SUBJECT_SESSION,
    Service.EXECUTOR: Check.SUBJECT_EXECUTOR,
}
_WORDS = {Service.SESSION: "session service", Service.EXECUTOR: "executor"}


class Process(Caller, Protocol):
    """A process of any service."""

    @property
    def address(self) -> str:
        """Where it is dialled."""
        ...


class Processes(Protocol):
    """The processes of a service that are known; `Pool` is one."""

    def discovered(self) -> Sequence[Process]:
        """Return them."""
        ...


class Diagnosis:
    """All that can be found out about the platform.

    Args:
        sessions: The pods of the session service.
        executors: The executors.
    """

    def __init__(self, *, sessions: Processes, executors: Processes) -> None:
        self._processes = {Service.SESSION: sessions, Service.EXECUTOR: executors}

    async def call(self, identity: Identity) -> diagnosis_pb2.DiagnoseResponse:
        """Look at everything now.

        Args:
            identity: Whom it is for.

        Raises:
            Failure: FORBIDDEN for everybody but administrators.
        """
        if not identity.admin:
            rule = "Only an administrator may look at the platform's surroundings."
            raise Failure(errors_pb2.ERROR_REASON_FORBIDDEN, rule, rule=rule)
        looks = []
        for service, processes in self._processes.items():
            known = sorted(processes.discovered(), key=lambda process: process.address)
            looks += [_ask(service, process, identity) for process in known] or [_nobody(service)]
        found = await asyncio.gather(*looks)
        return diagnosis_pb2.DiagnoseResponse(
            checks=[check for checks in found for check in checks]
        )


async def _ask(
    service: Service, process: Process, identity: Identity
) -> Sequence[diagnosis_pb2.Check]:
    """Return what a process has found; that it cannot be asked is a finding, too."""
    try:
        response = await process.call(
            _METHOD,
            diagnosis_pb2.DiagnoseRequest(),
            diagnosis_pb2.DiagnoseResponse,
            identity=identity,
            timeout=_TIMEOUT,
        )
    except Failure as failure:
        words = _WORDS[service]
        check = Check(
            subject=_SUBJECTS[service],
            state=Check.STATE_FAILED,
            detail=f"The {words} at {process.address} does not answer: {failure.message}",
            remedy=f"See that it runs and what its log says; else check {_setting(service)}.",
            address=process.address,
        )
        if failure.reason == errors_pb2.ERROR_REASON_METHOD_UNKNOWN:
            check.state = Check.STATE_WARNING
            check.detail = f"The {words} at {process.address} is of an older release."
            check.remedy = "Bring all services to the same release."
        return [check]
    for check in response.checks:
        check.address = check.address or process.address
    return response.checks


async def _nobody(service: Service) -> Sequence[diagnosis_pb2.Check]:
    return [
        Check(
            subject=_SUBJECTS[service],
            state=Check.STATE_FAILED,
            detail=f"No {_WORDS[service]} is known to the gateway.",
            remedy=f"Start one, or check {_setting(service)} of the gateway.",
        )
    ]


def _setting(service: Service) -> str:
    return f"MOORLINE_{service.name}"
