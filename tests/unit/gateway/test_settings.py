"""Tests of `services.gateway.settings`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.chassis.settings import SettingsError, load, table
from services.gateway.limits import Limits
from services.gateway.settings import Authentication, Settings, is_loopback

ENVIRONMENT = {
    "MOORLINE_SESSION": "127.0.0.1:1",
    "MOORLINE_EXECUTOR": "127.0.0.1:2",
    "MOORLINE_IDENTITY_KEY": "k" * 32,
}
JWT = {
    "MOORLINE_AUTH": "jwt",
    "MOORLINE_JWT_ISSUER": "https://id.example",
    "MOORLINE_JWT_AUDIENCE": "moorline",
}
DEVELOPMENT = {"MOORLINE_AUTH": "development", "MOORLINE_DEVELOPMENT_TOKEN": "t" * 16}


def loaded(**changes: str) -> Settings:
    """Settings from an environment."""
    return load(Settings, ENVIRONMENT | changes)


def test_without_more_only_keys_are_accepted() -> None:
    """The safe choice is the one nobody has to make."""
    assert Authentication.KEYS is loaded().auth


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:80", "[::1]:0", "127.9.9.9:1"])
def test_development_is_for_this_machine(listen: str) -> None:
    """On every address that only it reaches."""
    settings = loaded(**DEVELOPMENT, MOORLINE_LISTEN=listen)

    assert Authentication.DEVELOPMENT is settings.auth
    assert "t" * 16 not in repr(settings)


@pytest.mark.parametrize("listen", ["0.0.0.0:80", ":80", "[::]:80", "10.0.0.1:80", "example.com:1"])
def test_development_refuses_to_serve_others(listen: str) -> None:
    """And says what to choose."""
    with pytest.raises(SettingsError, match="loopback"):
        loaded(**DEVELOPMENT, MOORLINE_LISTEN=listen)


def test_development_needs_a_token() -> None:
    """One that cannot be guessed."""
    with pytest.raises(SettingsError, match="MOORLINE_DEVELOPMENT_TOKEN"):
        loaded(MOORLINE_AUTH="development", MOORLINE_DEVELOPMENT_TOKEN="short")


@pytest.mark.parametrize("changes", [{}, DEVELOPMENT, JWT | {"MOORLINE_JWT_JWKS_FILE": "/k"}])
def test_an_administrator_token_goes_with_everything(changes: dict[str, str]) -> None:
    """It is not shown, and off unless it is set."""
    assert "" == loaded(**changes).admin_token
    settings = loaded(**changes, MOORLINE_ADMIN_TOKEN="a" * 32)

    assert "a" * 32 == settings.admin_token
    assert "a" * 32 not in repr(settings)


def test_an_administrator_token_cannot_be_guessed() -> None:
    """It is accepted from everywhere."""
    with pytest.raises(SettingsError, match="MOORLINE_ADMIN_TOKEN"):
        loaded(MOORLINE_ADMIN_TOKEN="a" * 31)


@pytest.mark.parametrize(
    "changes",
    [
        {"MOORLINE_JWT_JWKS_URL": "https://id.example/k"},
        {"MOORLINE_JWT_JWKS_URL": "http://127.0.0.1/k"},
        {"MOORLINE_JWT_JWKS_FILE": "/k"},
    ],
)
def test_signed_tokens_need_keys(changes: dict[str, str]) -> None:
    """From one place."""
    settings = loaded(**JWT, **changes)

    assert settings.jwt_jwks_file in (None, Path("/k"))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"MOORLINE_JWT_JWKS_URL": "u", "MOORLINE_JWT_JWKS_FILE": "f"},
        {"MOORLINE_JWT_JWKS_URL": "http://id.example/k"},
        {"MOORLINE_JWT_JWKS_URL": "u", "MOORLINE_JWT_ISSUER": ""},
        {"MOORLINE_JWT_JWKS_URL": "u", "MOORLINE_JWT_AUDIENCE": ""},
    ],
)
def test_signed_tokens_need_issuer_audience_and_one_place(changes: Any) -> None:
    """Each lack is named."""
    with pytest.raises(SettingsError, match="MOORLINE_JWT"):
        loaded(**(JWT | changes))


@pytest.mark.parametrize(
    ("characters", "frame", "refused"),
    [
        ("100000", "404096", False),
        ("100000", "404095", True),
        ("1000", "8192", False),
        ("1025", "8192", True),
    ],
)
def test_a_frame_must_hold_a_prompt(characters: str, frame: str, refused: bool) -> None:
    """Of any characters: else a prompt that is allowed could not be sent."""
    changes = {"MOORLINE_PROMPT_CHARACTERS": characters, "MOORLINE_FRAME_BYTES": frame}
    if refused:
        with pytest.raises(SettingsError, match="MOORLINE_FRAME_BYTES"):
            loaded(**changes)
    else:
        assert int(frame) == loaded(**changes).frame_bytes


def test_a_frame_holds_a_prompt_unless_told_otherwise() -> None:
    """The defaults fit each other, and the limits of a connection."""
    settings = loaded()

    assert (512 * 1024, 100_000) == (settings.frame_bytes, settings.prompt_characters)
    assert (512 * 1024, 100_000) == (Limits().frame_bytes, Limits().prompt_characters)


def test_the_table_names_every_variable() -> None:
    """For the README."""
    assert "`MOORLINE_ALLOWED_ORIGINS`" in table(Settings)


def test_loopback_is_told_from_names() -> None:
    """A name that only looks like it is not."""
    assert [True, True, False, False] == [
        is_loopback(host) for host in ("localhost", "[::1]", "localhost.example", "")
    ]


@pytest.mark.parametrize("variable", ["MOORLINE_SESSION", "MOORLINE_EXECUTOR"])
def test_services_are_found_by_address_or_name(variable: str) -> None:
    """One or several; what is neither is refused, and named."""
    for target in ("a:1,b:2", "dns:///pods:1", "[::1]:1"):
        loaded(**{variable: target})
    with pytest.raises(SettingsError, match=f"{variable}: .* is not a target"):
        loaded(**{variable: "http://a"})
