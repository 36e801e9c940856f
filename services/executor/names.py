"""Names of the executor's resources, taken apart in one place. Does not know whether they exist."""

from __future__ import annotations

import re

from services.chassis.failures import field_invalid

_EXECUTION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_WORKSPACE = re.compile(r"[a-z0-9]{8,64}")


def execution_id(value: str, *, field: str) -> str:
    """Check the last part of an execution's name, as a client chooses it.

    Args:
        value: What the client sent.
        field: Path of the field, for the error.

    Returns:
        The value.

    Raises:
        Failure: FIELD_INVALID.
    """
    if _EXECUTION.fullmatch(value) is None:
        raise field_invalid(field, "must match [a-z0-9][a-z0-9-]{0,62}")
    return value


def execution_of(name: str, *, field: str) -> str:
    """Take the id out of `executions/{execution}`.

    Args:
        name: What the client sent.
        field: Path of the field, for the error.

    Returns:
        The execution's id.

    Raises:
        Failure: FIELD_INVALID.
    """
    prefix, _, last = name.partition("/")
    if prefix != "executions" or _EXECUTION.fullmatch(last) is None:
        raise field_invalid(field, "must be executions/{execution}")
    return last


def workspace_of(name: str, *, field: str) -> str:
    """Take the id out of `workspaces/{workspace}`.

    Args:
        name: What the client sent.
        field: Path of the field, for the error.

    Returns:
        The workspace's id, safe as the name of a directory.

    Raises:
        Failure: FIELD_INVALID.
    """
    prefix, _, last = name.partition("/")
    if prefix != "workspaces" or _WORKSPACE.fullmatch(last) is None:
        raise field_invalid(field, "must be workspaces/ and 8 to 64 of a-z and 0-9")
    return last
