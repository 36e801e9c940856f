"""Tests of `services.gateway.diagnosis`: every process is asked, and all of it told together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from moorline.diagnosis.v1 import diagnosis_pb2
from services.chassis.failures import Failure
from services.chassis.identity import Identity
from services.gateway.diagnosis import Diagnosis
from tests.unit.gateway.fake_pods import FakePod, failure

Check = diagnosis_pb2.Check

ADMIN = Identity(user="users/root", admin=True)


class FindingPod(FakePod):
    """A process that has found something."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.found: list[diagnosis_pb2.Check] = []

    async def call(self, *arguments: Any, **named: Any) -> Any:
        """See `Caller`."""
        response = await super().call(*arguments, **named)
        response.checks.extend(self.found)
        return response


class FindingPods:
    """Processes that find what a test says, in the order it names them."""

    def __init__(self, *addresses: str) -> None:
        self.pods = {address: FindingPod(address) for address in addresses}

    def __getitem__(self, address: str) -> FindingPod:
        return self.pods[address]

    def discovered(self) -> Sequence[FindingPod]:
        """See `Processes`."""
        return list(self.pods.values())


async def test_every_process_is_asked_for_the_administrator() -> None:
    """Sessions first, by address; each finding tells whose it is."""
    sessions, executors = FindingPods("b:1", "a:1"), FindingPods("x:1")
    for pod in (sessions["a:1"], executors["x:1"]):
        pod.found = [Check(subject=Check.SUBJECT_STORE, state=Check.STATE_GOOD)]
    sessions["b:1"].found = [Check(detail="d", address="db:1")]

    response = await Diagnosis(sessions=sessions, executors=executors).call(ADMIN)

    assert ["a:1", "db:1", "x:1"] == [check.address for check in response.checks]
    assert [("Diagnose", ADMIN)] == [
        (method, identity) for method, _, identity in executors["x:1"].calls
    ]


async def test_nobody_else_is_told() -> None:
    """And nothing is asked for them."""
    sessions = FindingPods("a:1")
    with pytest.raises(Failure) as caught:
        await Diagnosis(sessions=sessions, executors=FindingPods()).call(Identity(user="users/ada"))

    assert "FORBIDDEN" == caught.value.reason_name
    assert [] == sessions["a:1"].calls


async def test_one_that_does_not_answer_is_a_finding() -> None:
    """With what to do about it; the others are told all the same."""
    sessions, executors = FindingPods("a:1", "b:1"), FindingPods("x:1")
    sessions["a:1"].answers = [failure("CALL_TIMEOUT")]
    executors["x:1"].answers = [failure("METHOD_UNKNOWN")]

    response = await Diagnosis(sessions=sessions, executors=executors).call(ADMIN)

    silent, old = response.checks
    assert (Check.SUBJECT_SESSION, Check.STATE_FAILED) == (silent.subject, silent.state)
    assert "a:1" == silent.address
    assert "MOORLINE_SESSION" in silent.remedy
    assert (Check.SUBJECT_EXECUTOR, Check.STATE_WARNING) == (old.subject, old.state)


async def test_none_at_all_is_a_finding() -> None:
    """A gateway that knows no executor cannot work."""
    response = await Diagnosis(sessions=FindingPods("a:1"), executors=FindingPods()).call(ADMIN)

    [nobody] = response.checks
    assert (Check.SUBJECT_EXECUTOR, Check.STATE_FAILED) == (nobody.subject, nobody.state)
    assert "MOORLINE_EXECUTOR" in nobody.remedy
