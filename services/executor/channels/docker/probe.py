"""Finds out whether an engine can run agents. Does not know what for."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

from services.executor.backends import docker_findings as findings
from services.executor.backends.docker_findings import Findings
from services.executor.channels.docker.container import Setting
from services.executor.channels.docker.engine import UNIX, Engine, EngineError

VERSION_LABEL = "moorline.cli.version"
"""What an image says about the agent's program in it."""


async def look(engine: Engine, *, setting: Setting, patience: timedelta) -> Findings:
    """Return what there is to know about an engine; never fails.

    Args:
        engine: Whom to ask.
        setting: Which image it should have.
        patience: How long it may take.
    """
    host, image, version = engine.host, setting.image, setting.cli_version
    try:
        async with asyncio.timeout(patience.total_seconds()):
            if host.startswith(UNIX):
                problem = await _knock(host.removeprefix(UNIX))
                if problem is not None:
                    return problem
            found = await engine.version()
            labels = await engine.image_labels(image)
    except TimeoutError:
        return findings.no_engine(
            f"the engine at {host} does not answer within {patience.total_seconds():g} seconds",
            "Look at the engine's log and restart it; nothing else is needed.",
        )
    except EngineError as error:
        if not error.status:
            return findings.no_engine(
                f"what answers at {host} is no Docker engine, or nothing answers",
                "Start Docker, or set DOCKER_HOST to where it is.",
            )
        return findings.no_engine(
            f"the engine at {host} refuses, with status {error.status}",
            "Look at the engine's log and restart it; nothing else is needed.",
        )
    if labels is None:
        return findings.no_image(found, image)
    return findings.good(found, image, version=labels.get(VERSION_LABEL, ""), expected=version)


async def _knock(path: str) -> Findings | None:
    """Tell what is wrong with a socket; the engine's library does not keep these apart."""
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except FileNotFoundError:
        return findings.no_engine(
            f"there is no engine at its address, {path}",
            "Install and start Docker, or set DOCKER_HOST to where it is.",
        )
    except PermissionError:
        return findings.no_engine(
            f"this user may not use the engine's socket {path}",
            "Let the executor's user use it, usually by making it a member of the group `docker`.",
        )
    except OSError:
        return findings.no_engine(
            f"the socket {path} is broken: nobody answers there",
            "Start Docker again; the socket is left over from an engine that is gone.",
        )
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return None
