"""Tests of `services.session.names`: parsing and ownership."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure, not_found
from services.chassis.identity import Identity
from services.session import names

PARSERS: list[tuple[Callable[[str, str], Any], str]] = [
    (names.parse_user, "users/ada"),
    (names.parse_agent, "users/ada/agents/a-1"),
    (names.parse_turn, "users/ada/agents/a1/turns/T_1-x"),
    (names.parse_key, "users/ada/keys/abcd2345"),
]


@pytest.mark.parametrize(("parse", "name"), PARSERS)
def test_a_name_is_its_own_text(parse: Callable[[str, str], Any], name: str) -> None:
    """What was parsed prints as it came: it is also a path."""
    assert name == str(parse("name", name))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "users/",
        "users/Ada",
        "users/ada/",
        "users/ada\n",
        "users/-ada",
        "/users/ada",
        "users/" + "a" * 64,
        "users/ada/agents/",
        "users/ada/agents/1a",
        "users/ada/agents/a_b",
        "users/ada/agents/../agents/b",
        "users/ada/agents/a1/turns/-t",
        "users/ada/agents/a1/turns/t~",
        "users/ada/agents/a1/turns/t/x",
        "users/ada/agents/a1/turns/" + "t" * 64,
        "users/ada/keys/short",
        "users/ada/keys/UPPERCASE",
    ],
)
@pytest.mark.parametrize("parse", [parse for parse, _ in PARSERS])
def test_malformed_names_are_refused(parse: Callable[[str, str], Any], text: str) -> None:
    """Each parser says which field and what it must be."""
    with pytest.raises(Failure) as raised:
        parse("parent", text)

    assert errors_pb2.ERROR_REASON_FIELD_INVALID == raised.value.reason
    assert "parent" == raised.value.metadata["field"]


@pytest.mark.parametrize(("check", "bad"), [(names.check_agent_id, "A"), (names.check_turn_id, "")])
def test_malformed_ids_are_refused(check: Callable[[str, str], None], bad: str) -> None:
    """The last part of a new name has the same rules."""
    check("id", "a1")
    with pytest.raises(Failure):
        check("id", bad)


def test_a_turn_knows_its_agent() -> None:
    """The parent of a turn is the agent, whose child it is."""
    turn = names.TurnName("ada", "a1", "t1")

    assert names.AgentName("ada", "a1") == turn.parent
    assert turn == turn.parent.turn("t1")


def test_only_the_owner_passes() -> None:
    """Anybody else is told what is told about a missing resource, byte for byte."""
    name = names.AgentName("ada", "a1")
    names.require_owner(name, Identity(user="users/ada"))

    with pytest.raises(Failure) as raised:
        names.require_owner(name, Identity(user="users/bob", admin=True))

    missing = not_found().to_status().SerializeToString(deterministic=True)
    assert missing == raised.value.to_status().SerializeToString(deterministic=True)


def test_an_administrator_passes_where_it_is_allowed() -> None:
    """And only an administrator."""
    name = names.UserName("ada")
    names.require_owner(name, Identity(user="users/root", admin=True), or_administrator=True)

    with pytest.raises(Failure):
        names.require_owner(name, Identity(user="users/bob"), or_administrator=True)
