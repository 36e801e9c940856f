"""Tests of `services.session.surroundings` and its door: what is told of store and session."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import pytest

from moorline.diagnosis.v1 import diagnosis_pb2
from services.chassis.identity import Identity
from services.session import surroundings as surroundings_module
from services.session.surroundings import Surroundings
from tests.unit.session.fakes import store_unavailable
from tests.unit.session.service import Service
from tests.unit.session.shared import Pod

Check = diagnosis_pb2.Check

ADMIN = Identity(user="users/root", admin=True)


class AwayStore:
    """A store that cannot be reached."""

    async def now(self) -> datetime:
        """See `Store`."""
        raise store_unavailable()


class SilentStore:
    """A store that does not answer."""

    async def now(self) -> datetime:
        """See `Store`."""
        await asyncio.Event().wait()
        raise AssertionError


def surroundings(service: Service, store: Any = None) -> Surroundings:
    """Return those of a service, if need be with another store."""
    return Surroundings(
        store=store or service.environment.store,
        store_words="The file x.db",
        sessions=service.sessions,
        ownership=service.ownership,
    )


async def test_all_is_well(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is really asked, and how long it took is told."""
    monkeypatch.setattr(surroundings_module, "_SLOW_SECONDS", 4.0)
    await service.live()

    session, store = await surroundings(service).look()

    assert (Check.SUBJECT_SESSION, Check.STATE_GOOD) == (session.subject, session.state)
    assert "It serves 1 user, and nobody else uses its store." == session.detail
    assert (Check.SUBJECT_STORE, Check.STATE_GOOD) == (store.subject, store.state)
    assert store.detail.startswith("The file x.db answered in ")
    assert "" == store.remedy == session.remedy


async def test_a_slow_store_is_a_warning(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """It works."""
    monkeypatch.setattr(surroundings_module, "_SLOW_SECONDS", 0.0)

    _, store = await surroundings(service).look()

    assert Check.STATE_WARNING == store.state
    assert store.remedy


async def test_a_store_that_cannot_be_read_says_why(service: Service) -> None:
    """And what to do."""
    _, found = await surroundings(service, AwayStore()).look()

    assert Check.STATE_FAILED == found.state
    assert "The file x.db cannot be read: away" == found.detail
    assert found.remedy


async def test_a_store_that_says_nothing_is_given_up(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks does not wait for ever."""
    monkeypatch.setattr(surroundings_module, "_SECONDS", 0.01)

    _, found = await surroundings(service, SilentStore()).look()

    assert Check.STATE_FAILED == found.state
    assert "did not answer" in found.detail


async def test_a_service_that_shuts_down_says_so(service: Service) -> None:
    """Its users are going elsewhere."""
    await service.sessions.drain()

    session, _ = await surroundings(service).look()

    assert (Check.STATE_WARNING, "It is shutting down.") == (session.state, session.detail)


async def test_leases_in_doubt_are_a_warning(first: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be written for those users until the database answers."""
    session = await first.sessions.session("ada")
    monkeypatch.setattr(session, "lease", Doubtful())

    found, _ = await surroundings(first).look()

    assert Check.STATE_WARNING == found.state
    assert "for 1 of them it waits for the database" in found.detail


class Doubtful:
    """A lease that the database has not renewed."""

    held = False
