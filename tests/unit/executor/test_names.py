"""Tests of `services.executor.names`."""

from __future__ import annotations

import pytest

from services.chassis.failures import Failure
from services.executor import names


def test_execution_name_gives_its_id() -> None:
    """The last part of a well-formed name is the id."""
    assert "a-1" == names.execution_of("executions/a-1", field="name")


@pytest.mark.parametrize("name", ["", "executions/", "executions/A", "agents/a", "executions/a/b"])
def test_malformed_execution_name_is_refused(name: str) -> None:
    """The error names the field."""
    with pytest.raises(Failure) as caught:
        names.execution_of(name, field="watch.name")

    assert "watch.name" == caught.value.metadata["field"]


def test_execution_id_is_returned() -> None:
    """A well-formed id comes back."""
    assert "0" == names.execution_id("0", field="execution_id")


@pytest.mark.parametrize("value", ["", "-a", "A", "a" * 64, "a/b", "a\n"])
def test_malformed_execution_id_is_refused(value: str) -> None:
    """An id that cannot be part of a name is refused."""
    with pytest.raises(Failure) as caught:
        names.execution_id(value, field="execution_id")

    assert "FIELD_INVALID" == caught.value.reason_name


def test_workspace_name_gives_its_id() -> None:
    """The last part of a well-formed name is the id."""
    assert "abcdefg1" == names.workspace_of("workspaces/abcdefg1", field="name")


@pytest.mark.parametrize(
    "name", ["workspaces/short", "workspaces/../etcetera", "x/abcdefgh", "workspaces/" + "a" * 65]
)
def test_workspace_that_is_no_directory_name_is_refused(name: str) -> None:
    """What could leave the workspaces' directory never gets through."""
    with pytest.raises(Failure) as caught:
        names.workspace_of(name, field="name")

    assert "FIELD_INVALID" == caught.value.reason_name
