"""Containers for tests: the hardened ones of production, in which a Python program runs.

The image has no Python, so that of this machine is mounted, for these tests only.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.executor.backends.docker import DEFAULT_HOST
from services.executor.channel import Launch
from services.executor.channels.docker import container
from services.executor.channels.docker.engine import Engine, EngineError
from services.executor.claude_code.frames import CLI_VERSION

ROOT = Path(__file__).parents[3]
HOST = os.environ.get("DOCKER_HOST") or DEFAULT_HOST  # noqa: TID251 - a test's, not a service's
IMAGE = f"moorline-agent:{CLI_VERSION}"
INSTANCE = f"test-{os.getpid()}"
"""The label of the containers that these tests start."""
SETTING = container.Setting(
    image=IMAGE,
    cli_version=CLI_VERSION,
    instance=INSTANCE,
    version="test",
    limits=container.Limits(memory=1024, cpus=2, pids=256, shell_processes=200),
)

_PYTHON = Path("/opt/python")
_PACKAGES = Path("/opt/packages")
_REPOSITORY = Path("/opt/moorline")


@asynccontextmanager
async def engine() -> AsyncIterator[Engine]:
    """The engine of this machine, with the agents' image; skips the test without."""
    found = Engine(host=HOST)
    try:
        try:
            labels = await found.image_labels(IMAGE)
        except EngineError as error:
            pytest.skip(f"no Docker engine answers: {error}")
        if labels is None:
            pytest.skip(f"there is no image {IMAGE}: make agent-image")
        yield found
    finally:
        await found.close()


def configuration(launch: Launch, setting: container.Setting = SETTING) -> dict[str, Any]:
    """Return the configuration of production, and give the agent its folders."""
    owner = container.owner_of(launch.place)
    container.give(launch.place, owner)
    return container.configuration(launch, setting=setting, owner=owner)


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
