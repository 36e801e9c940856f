"""Tests of `services.chassis.diagnosis_api`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from moorline.diagnosis.v1 import diagnosis_pb2
from services.chassis.diagnosis_api import DiagnosisApi
from services.chassis.failures import Failure
from services.chassis.identity import Identity, act_as

Check = diagnosis_pb2.Check


async def test_only_an_administrator_is_told() -> None:
    """What a platform is made of is nobody else's business, and not looked at for others."""
    looks: list[Check] = []

    async def look() -> Sequence[Check]:
        looks.append(Check(subject=Check.SUBJECT_DISK))
        return looks

    door = DiagnosisApi(look=look)
    context: Any = None
    act_as(Identity(user="users/ada"))
    with pytest.raises(Failure) as caught:
        await door.Diagnose(diagnosis_pb2.DiagnoseRequest(), context)
    assert [] == looks
    act_as(Identity(user="users/root", admin=True))

    response = await door.Diagnose(diagnosis_pb2.DiagnoseRequest(), context)

    assert "FORBIDDEN" == caught.value.reason_name
    assert looks == list(response.checks)
