"""Tests of how Firestore is connected to; nothing is sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from services.chassis.failures import Failure
from services.session.stores.firestore_channel import connect

ACCOUNT = "moorline@theirs.example"


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without Google credentials, which asks no other for some."""
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    return tmp_path


@pytest.fixture
def account(nobody: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What a service account's key file holds; the file is where Google looks."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    fields = {
        "type": "service_account",
        "project_id": "theirs",
        "client_email": ACCOUNT,
        "private_key": text.decode(),
        "token_uri": "http://127.0.0.1:1/token",
    }
    (nobody / "key.json").write_text(json.dumps(fields))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(nobody / "key.json"))
    return fields


async def test_without_credentials_it_says_how_to_get_some(nobody: Path) -> None:
    """In one sentence, at once."""
    with pytest.raises(Failure) as raised:
        await connect(project="mine", database="(default)", emulator="")

    assert "STORE_UNAVAILABLE" == raised.value.reason_name
    assert "gcloud auth application-default login" in raised.value.message


@pytest.mark.parametrize(("asked", "used"), [("", "theirs"), ("mine", "mine")])
async def test_credentials_bring_an_account_and_a_project(
    account: dict[str, str], asked: str, used: str
) -> None:
    """The project may be another one."""
    connection = await connect(project=asked, database="d", emulator="")
    await connection.close()

    assert ACCOUNT == connection.target.account
    assert f"projects/{used}/databases/d" == connection.target.name
    assert not connection.target.emulated
    assert [("google-cloud-resource-prefix", connection.target.name)] == list(connection.metadata)


async def test_credentials_without_a_project_need_one(
    account: dict[str, str], nobody: Path
) -> None:
    """It says which variable to set."""
    user = {
        "type": "authorized_user",
        "client_id": "c",
        "client_secret": "s",
        "refresh_token": "r",
    }
    (nobody / "key.json").write_text(json.dumps(user))

    with pytest.raises(Failure) as raised:
        await connect(project="", database="(default)", emulator="")

    assert "GOOGLE_CLOUD_PROJECT" in raised.value.message


async def test_an_emulator_needs_neither(nobody: Path) -> None:
    """No credentials, and any project will do."""
    connection = await connect(project="", database="(default)", emulator="127.0.0.1:1")
    await connection.close()

    assert connection.target.emulated
    assert "projects/moorline/databases/(default)" == connection.target.name
