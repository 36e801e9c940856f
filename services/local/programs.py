"""Says how each service is started here: its command and its whole environment.

Knows services by name and by their variables; imports none of them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from services.local.folder import DataFolder
from services.local.ports import LOOPBACK, free_port

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("executor", "session", "gateway")
"""In the order in which they are started: who is dialled comes first."""

INHERITED = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "XDG_CONFIG_HOME",
    "DISABLE_DOCKER",
    "DOCKER_HOST",
)
"""What a service may see of this machine's environment. Everything else, keys of the
cloud and of models above all, stays outside.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Something to keep running.

    Attributes:
        name: Short, for people and for `run.json`.
        command: Program and arguments.
        environment: The whole environment it gets.
        log: File its output is appended to.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where each service listens on the loopback interface, for the whole run."""

    gateway: int
    session: int
    executor: int
    gateway_metrics: int
    session_metrics: int
    executor_metrics: int


def choose_ports(gateway: int) -> Ports:
    """Choose free ports for everything but the gateway.

    Args:
        gateway: The gateway's port; 0 chooses it as well.
    """
    chosen = {gateway}
    for _ in range(6):
        chosen.add(free_port(taken=chosen))
    free = iter(chosen - {gateway})
    return Ports(
        gateway=gateway or next(free),
        session=next(free),
        executor=next(free),
        gateway_metrics=next(free),
        session_metrics=next(free),
        executor_metrics=next(free),
    )


def programs(*, folder: DataFolder, ports: Ports, inherited: Mapping[str, str]) -> list[Program]:
    """Describe the three services of a run.

    Args:
        folder: Where data, keys and logs are.
        ports: Where each listens.
        inherited: The part of this process's environment they may see.
    """
    shared = {
        **inherited,
        "MOORLINE_IDENTITY_KEY": folder.secret("identity.key"),
        "MOORLINE_LOG_FORMAT": "text",
        # Everything has to be down within 3 s of Ctrl-C.
        "MOORLINE_DRAIN_SECONDS": "1.5",
    }
    own = {
        "executor": {"MOORLINE_WORKSPACES": str(folder.path / "workspaces")},
        "session": {
            "MOORLINE_EXECUTOR": f"{LOOPBACK}:{ports.executor}",
            "MOORLINE_STORE": f"sqlite:{folder.path / 'moorline.db'}",
        },
        "gateway": {
            "MOORLINE_SESSION": f"{LOOPBACK}:{ports.session}",
            "MOORLINE_EXECUTOR": f"{LOOPBACK}:{ports.executor}",
            "MOORLINE_AUTH": "development",
            "MOORLINE_DEVELOPMENT_TOKEN": folder.secret("token"),
        },
    }
    return [
        Program(
            name=name,
            command=(sys.executable, "-m", f"services.{name}"),
            environment={
                **shared,
                **own[name],
                "MOORLINE_LISTEN": f"{LOOPBACK}:{getattr(ports, name)}",
                "MOORLINE_METRICS_LISTEN": f"{LOOPBACK}:{getattr(ports, f'{name}_metrics')}",
            },
            log=folder.log(name),
        )
        for name in SERVICES
    ]
