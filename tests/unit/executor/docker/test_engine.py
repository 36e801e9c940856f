"""Tests of `services.executor.channels.docker.engine`: what engines refuse, and what is missing."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path

import pytest

from services.executor.channels.docker.container import INSTANCE
from services.executor.channels.docker.engine import Engine, EngineError
from tests.contract.channels import containers
from tests.unit.executor.docker.engines import FakeEngine

OOPS = ("500 Oops", b'{"message": "no"}')


@pytest.mark.docker
async def test_what_is_missing_is_no_error(engine: Engine) -> None:
    """Where it was to be missing in the end."""
    await engine.remove("moorline-none-such")

    assert not await engine.is_running("moorline-none-such")
    assert await engine.image_labels("moorline-none-such:1") is None
    assert "." in await engine.version()


@pytest.mark.docker
async def test_what_does_not_run_has_no_memory(engine: Engine) -> None:
    """It is there all the same."""
    name = f"moorline-{containers.INSTANCE}-still"
    labels = {INSTANCE: containers.INSTANCE}
    await engine.create(name, {"Image": containers.IMAGE, "Labels": labels})

    assert await engine.memory(name) is None
    assert not await engine.is_running(name)


async def test_refusal_is_an_error_with_its_status(tmp_path: Path) -> None:
    """In every call."""
    fake = FakeEngine({"version": ("200 OK", b'{"ApiVersion": "1.41"}'), "": OOPS})
    async with fake.at(tmp_path / "s") as host:
        engine = Engine(host=host)
        calls = {
            "remove": engine.remove("x"),
            "is_running": engine.is_running("x"),
            "image_labels": engine.image_labels("x"),
            "memory": engine.memory("x"),
            "start": engine.start("x"),
            "list": engine.list("a", "b"),
            "attach": engine.attach("x", output=True),
            "create": engine.create("x", {}),
        }
        refused = {}
        for name, call in calls.items():
            with pytest.raises(EngineError) as caught:
                await call
            refused[name] = caught.value.status
        with pytest.raises(EngineError):
            await anext(engine.output("x", limit=1000))
        await engine.close()

    assert dict.fromkeys(calls, 500) == refused


async def test_nothing_is_left_of_a_connection_that_was_not_to_be_had(tmp_path: Path) -> None:
    """An engine may answer, and hang up."""
    with warnings.catch_warnings():
        # What others have left is theirs.
        warnings.simplefilter("ignore")
        gc.collect()
    container = ("200 OK", b'{"Config": {"Tty": false}}')
    fake = FakeEngine(
        {"version": ("200 OK", b'{"ApiVersion": "1.41"}'), "json": container, "": ("200 OK", b"")}
    )
    async with fake.at(tmp_path / "s") as host:
        engine = Engine(host=host)
        with pytest.raises(EngineError):
            await engine.attach("x", output=True)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            gc.collect()
        await engine.close()

    assert [] == [str(one.message) for one in told]


async def test_engine_by_tcp_is_asked_there() -> None:
    """And nobody answers."""
    engine = Engine(host="tcp://127.0.0.1:1")
    with pytest.raises(EngineError) as caught:
        await engine.version()
    await engine.close()

    assert 0 == caught.value.status
