"""Tests of `services.session.settings`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from services.chassis.settings import SettingsError, load, table
from services.session.limits import Limits
from services.session.settings import Settings

REQUIRED = {"MOORLINE_IDENTITY_KEY": "k" * 32, "MOORLINE_EXECUTOR": "127.0.0.1:7002"}


def test_defaults_are_the_logics_own() -> None:
    """A limit has one default, wherever it is read."""
    settings = load(Settings, REQUIRED)

    assert Limits() == settings.limits()
    assert Path(".data/moorline.db") == settings.store_path()


def test_limits_come_from_the_environment() -> None:
    """In the units that the table tells."""
    settings = load(
        Settings,
        REQUIRED
        | {
            "MOORLINE_STORE": "sqlite:/data/x.db",
            "MOORLINE_MAX_QUEUED_TURNS": "3",
            "MOORLINE_PERMISSION_TIMEOUT": "1.5",
        },
    )

    assert Path("/data/x.db") == settings.store_path()
    assert 3 == settings.limits().queued_turns
    assert timedelta(seconds=1.5) == settings.limits().permission


@pytest.mark.parametrize(
    "store", ["", "sqlite:", "postgres://x", "/data/x.db", "firestore:", "firestores"]
)
def test_an_unknown_store_is_refused(store: str) -> None:
    """With what it must be."""
    with pytest.raises(SettingsError) as raised:
        load(Settings, REQUIRED | {"MOORLINE_STORE": store})

    assert "MOORLINE_STORE" in str(raised.value)


@pytest.mark.parametrize(
    ("store", "database"),
    [("sqlite:x.db", None), ("firestore", "(default)"), ("firestore:other", "other")],
)
def test_the_store_is_a_file_or_a_database(store: str, database: str | None) -> None:
    """A database without an id is the project's default one."""
    settings = load(Settings, REQUIRED | {"MOORLINE_STORE": store})

    assert database == settings.database


def test_googles_variables_keep_their_names() -> None:
    """So that what is set for other programs is set for this one."""
    settings = load(
        Settings,
        REQUIRED | {"GOOGLE_CLOUD_PROJECT": "mine", "FIRESTORE_EMULATOR_HOST": "127.0.0.1:8080"},
    )

    assert ("mine", "127.0.0.1:8080") == (settings.project, settings.firestore_emulator)


@pytest.mark.parametrize("executor", ["", "executor", "a:1,b", "dns:///executor"])
def test_an_executor_that_is_no_address_is_refused(executor: str) -> None:
    """With the variable and what it must be."""
    with pytest.raises(SettingsError) as raised:
        load(Settings, REQUIRED | {"MOORLINE_EXECUTOR": executor})

    assert "MOORLINE_EXECUTOR" in str(raised.value)
    assert "host:port" in str(raised.value)


@pytest.mark.parametrize("address", ["me", "a:1,b:1", "dns:///me:7001", "me:0"])
def test_an_address_of_its_own_is_one_address(address: str) -> None:
    """Gateways are told it as it is, and dial it."""
    with pytest.raises(SettingsError) as raised:
        load(Settings, REQUIRED | {"MOORLINE_ADDRESS": address})

    assert "MOORLINE_ADDRESS" in str(raised.value)
    assert "host:port" in str(raised.value)


def test_every_setting_is_explained() -> None:
    """The table of the README has a sentence for each."""
    rows = table(Settings).splitlines()[2:]

    assert all(row.rstrip(" |").endswith((".", "`")) for row in rows)


@pytest.mark.parametrize(
    ("listen", "address", "reached"),
    [
        ("10.0.0.7:7001", "", "10.0.0.7:7001"),
        ("0.0.0.0:7001", "10.0.0.7:7001", "10.0.0.7:7001"),
        ("0.0.0.0:7001", "", ""),
        ("[::]:7001", "", ""),
        ("127.0.0.1:0", "", ""),
    ],
)
def test_a_shared_store_needs_an_address_that_others_reach(
    listen: str, address: str, reached: str
) -> None:
    """The one it listens at will do when it is one."""
    environment = REQUIRED | {"MOORLINE_LISTEN": listen, "MOORLINE_ADDRESS": address}
    assert reached == load(Settings, environment).reached_at

    environment["MOORLINE_STORE"] = "firestore"
    if reached:
        assert timedelta(seconds=0.05) == load(Settings, environment).limits().gather
        return
    with pytest.raises(SettingsError) as raised:
        load(Settings, environment)

    assert "MOORLINE_ADDRESS" in str(raised.value)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"MOORLINE_STORE": "sqlite:data/x.db"}, "The file data/x.db"),
        ({"MOORLINE_STORE": "firestore:main"}, "The Firestore database main"),
        (
            {"MOORLINE_STORE": "firestore", "FIRESTORE_EMULATOR_HOST": "127.0.0.1:8080"},
            "The Firestore database (default) at 127.0.0.1:8080",
        ),
    ],
)
def test_a_store_has_words_for_a_sentence(environment: dict[str, str], words: str) -> None:
    """So that an operator knows which one is meant."""
    settings = load(Settings, REQUIRED | {"MOORLINE_LISTEN": "10.0.0.7:7001"} | environment)

    assert words == settings.store_words
