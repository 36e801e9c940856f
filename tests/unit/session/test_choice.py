"""Tests of `services.session.stores.choice`."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from services.chassis.metrics import Metrics
from services.session.settings import Settings
from services.session.store import Create
from services.session.stores.choice import open_store
from tests.contract.store.scripted_firestore import ScriptedFirestore

KEY = "k" * 32


async def test_a_file_is_a_store(tmp_path: Path) -> None:
    """The one that the settings name."""
    settings = Settings(
        identity_key=KEY,
        executor="127.0.0.1:1",
        listen="127.0.0.1:1",
        store=f"sqlite:{tmp_path}/x.db",
    )
    async with open_store(settings, Metrics(service="session")) as store:
        await store.commit([Create("work/a", {})])

    assert (tmp_path / "x.db").is_file()


async def test_a_database_is_a_store() -> None:
    """In the project and at the emulator that the settings name."""
    async with ScriptedFirestore() as server:
        settings = Settings(
            identity_key=KEY,
            executor="127.0.0.1:1",
            listen="127.0.0.1:1",
            store="firestore:other",
            project="mine",
            firestore_emulator=server.host,
        )
        async with open_store(settings, Metrics(service="session")) as store:
            assert datetime.fromtimestamp(1_000, UTC) == await store.now()

        assert "projects/mine/databases/other" == server.metadata["google-cloud-resource-prefix"]


def test_a_database_that_may_not_be_used_is_one_sentence(tmp_path: Path) -> None:
    """The program ends with it and no traceback."""
    environment = {
        "MOORLINE_IDENTITY_KEY": KEY,
        "MOORLINE_EXECUTOR": "127.0.0.1:1",
        "MOORLINE_LISTEN": "127.0.0.1:1",
        "MOORLINE_STORE": "firestore",
        "CLOUDSDK_CONFIG": str(tmp_path),
        "NO_GCE_CHECK": "true",
    }

    ended = subprocess.run(
        [sys.executable, "-m", "services.session"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=15,
    )

    assert 1 == ended.returncode
    (line,) = ended.stderr.splitlines()
    assert "gcloud auth application-default login" in line
