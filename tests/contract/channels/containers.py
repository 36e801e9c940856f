"""Containers for tests: the hardened ones of production, in which a Python program runs.

The image has no Python, so that of this machine is mounted, for these tests only.
"""

from __future__ import annotations

import asyncio
import os
import sys
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.executor.channel import Launch
from services.executor.channels.docker import container
from services.executor.channels.docker.engine import DEFAULT_HOST, Engine, EngineError
from services.executor.claude_code.frames import CLI_VERSION

ROOT = Path(__file__).parents[3]
HOST = os.environ.get("DOCKER_HOST") or DEFAULT_HOST
IMAGE = f"moorline-agent:{CLI_VERSION}"
LIMITS = container.Limits(memory=1024, cpus=2, pids=256, shell_processes=200)
INSTANCE = f"test-{os.getpid()}"
"""The label of the containers that these tests start."""

_PYTHON = Path("/opt/python")
_PACKAGES = Path("/opt/packages")
_REPOSITORY = Path("/opt/moorline")


@asynccontextmanager
async def engine() -> AsyncIterator[Engine]:
    """The engine of this machine, with the agents' image; skips the test without."""
    async with Engine(host=HOST) as found:
        try:
            if not await found.has_image(IMAGE):
                pytest.skip(f"there is no image {IMAGE}: make agent-image")
        except EngineError as error:
            pytest.skip(f"no Docker engine answers: {error}")
        yield found


def configuration(launch: Launch, **changed: Any) -> dict[str, Any]:
    """Return the configuration of production, and give the agent its folders."""
    owner = container.owner_of(launch.place)
    container.give(launch.place, owner)
    values: dict[str, Any] = {
        "image": IMAGE,
        "labels": {container.INSTANCE: INSTANCE},
        "owner": owner,
        "limits": LIMITS,
    }
    return container.configuration(launch, **(values | changed))


def python(launch: Launch, module: str) -> dict[str, Any]:
    """Return the configuration of a container that runs a module with the launch's words."""
    home = Path(sys.base_prefix)
    program = _PYTHON / Path(sys.executable).resolve().relative_to(home.resolve())
    environment = {
        "PYTHONHOME": str(_PYTHON),
        "PYTHONPATH": f"{_REPOSITORY}:{_PACKAGES}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "LD_LIBRARY_PATH": str(_PYTHON / "lib"),
    }
    words = (str(program), "-m", module, *launch.argv)
    configured = configuration(replace(launch, argv=words, environment=environment))
    packages = sysconfig.get_paths()["purelib"]
    for source, target in ((home, _PYTHON), (packages, _PACKAGES), (ROOT, _REPOSITORY)):
        configured["HostConfig"]["Mounts"].append(
            {"Type": "bind", "Source": str(source), "Target": str(target), "ReadOnly": True}
        )
    return configured


async def leftovers(found: Engine) -> list[str]:
    """Return the states of the containers that these tests have left, waiting for none."""
    await asyncio.sleep(0)
    return [str(one["State"]) for one in await found.list(container.INSTANCE, INSTANCE)]
