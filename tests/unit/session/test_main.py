"""Tests of `services.session.__main__`: it starts, drains and says what is wrong."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from moorline.session.v1 import agents_pb2, events_pb2
from services.chassis.client import Peer
from services.chassis.failures import Failure
from services.chassis.identity import Signer
from services.chassis.metrics import Metrics
from services.session import __main__ as program
from services.session.ownership.lease import LeaseMeasures
from services.session.settings import Settings
from tests.unit.session.fakes import FaultyStore, store_unavailable
from tests.unit.session.service import ADA, Service

KEY = "k" * 32
SOON = timedelta(seconds=5)


def settings(folder: Path) -> Settings:
    """Return settings for a test, with an executor that is not there."""
    return Settings(
        listen="127.0.0.1:0",
        identity_key=KEY,
        executor="127.0.0.1:1",
        store=f"sqlite:{folder}/store.db",
    )


async def test_it_serves_and_drains(tmp_path: Path) -> None:
    """Calls are answered; at SIGTERM streams end with DRAINING and it returns."""
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(
        program.main(settings(tmp_path), on_listening=listening.set_result)
    )
    async with Peer(
        service="session",
        target=f"127.0.0.1:{await listening}",
        signer=Signer(key=KEY),
        metrics=Metrics(service="test"),
    ) as peer:
        created = await peer.call(
            "/moorline.session.v1.AgentService/CreateAgent",
            agents_pb2.CreateAgentRequest(parent="users/ada", agent_id="a1"),
            agents_pb2.CreateAgentResponse,
            identity=ADA,
            timeout=SOON,
        )
        stream = peer.stream(
            "/moorline.session.v1.EventService/WatchEvents",
            events_pb2.WatchEventsRequest(parent=created.agent.name),
            events_pb2.WatchEventsResponse,
            identity=ADA,
        )
        await anext(stream)

        os.kill(os.getpid(), signal.SIGTERM)

        with pytest.raises(Failure) as raised:
            await anext(stream)
        assert "DRAINING" == raised.value.reason_name
    await asyncio.wait_for(task, 5)


async def test_it_waits_for_the_store(
    store: FaultyStore,
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A store that is away at the start is tried again, and the log says so."""
    monkeypatch.setattr(program, "_RETRY_SECONDS", 0.001)
    store.unreadable = [store_unavailable(), store_unavailable()]

    await program._repeat(service.sessions.start)
    await program._repeat(service.sweeper.start)

    assert [] == store.unreadable
    assert ["the store is away"] * 2 == [record.message for record in caplog.records]


@pytest.mark.parametrize("place", ["file/store.db", "file", "folder"])
def test_a_store_that_cannot_be_opened_is_one_sentence(tmp_path: Path, place: str) -> None:
    """The program ends with it and no traceback."""
    (tmp_path / "file").write_text("no database " * 1000)
    (tmp_path / "folder").mkdir()
    environment = {
        "MOORLINE_IDENTITY_KEY": KEY,
        "MOORLINE_EXECUTOR": "127.0.0.1:1",
        "MOORLINE_STORE": f"sqlite:{tmp_path}/{place}",
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
    assert f"{tmp_path}/{place} cannot be opened: " in ended.stderr
    assert 1 == ended.stderr.count("\n")


def test_users_are_shared_when_the_store_is(service: Service, tmp_path: Path) -> None:
    """A file is nobody else's."""
    measures = LeaseMeasures(metrics=Metrics(service="test"))
    file = settings(tmp_path)
    database = replace(file, store="firestore", listen="127.0.0.1:7001")

    alone = program._ownership(file, service.environment, measures)
    shared = program._ownership(database, service.environment, measures)

    assert (False, True) == (alone.shared, shared.shared)
    assert not alone.foreign("ada")
