"""Says how each service is started here: its command and its whole environment.

Knows services by name and by their variables; imports none of them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.local.folder import DataFolder
from services.local.ports import LOOPBACK
from services.local.replicas import Replica

ROOT = Path(__file__).resolve().parents[2]

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


CHOSEN = {
    "session": ("MOORLINE_USER_MONTH_BUDGET_USD",),
    "executor": (
        "MOORLINE_LIMIT_SIMULATION",
        "MOORLINE_MAX_RUNNING_TURNS",
        "MOORLINE_MAX_RUNNING_TURNS_PER_TENANT",
        "MOORLINE_MODEL_AUTHENTICATION",
        "MOORLINE_MODELS",
        "MOORLINE_FALLBACK_MODEL",
        "MOORLINE_MODEL_PRICES",
        "MOORLINE_AGENT_MEMORY",
        "MOORLINE_AGENT_CPUS",
    ),
}
"""Settings of one service that whoever starts a run may choose, by its environment."""


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


def programs(
    *,
    folder: DataFolder,
    replicas: Sequence[Replica],
    store: Mapping[str, str],
    agents: Mapping[str, str],
    inherited: Mapping[str, str],
    chosen: Mapping[str, str],
) -> list[Program]:
    """Describe the services of a run.

    Args:
        folder: Where data, keys and logs are.
        replicas: What is started, and where each listens.
        store: Variables that tell the session service where everything that lasts is kept.
        agents: Variables that tell the executor about agents.
        inherited: The part of this process's environment they may see.
        chosen: Where settings may be chosen; a service gets those of its own.
    """
    session, executor = (
        ",".join(each.address for each in replicas if each.service == service)
        for service in ("session", "executor")
    )
    shared = {
        **inherited,
        "MOORLINE_IDENTITY_KEY": folder.secret("identity.key"),
        "MOORLINE_LOG_FORMAT": "text",
        # Everything has to be down within 3 s of Ctrl-C.
        "MOORLINE_DRAIN_SECONDS": "1.5",
    }
    own = {
        "executor": agents,
        "session": {"MOORLINE_EXECUTOR": executor, **store},
        "gateway": {
            "MOORLINE_SESSION": session,
            "MOORLINE_EXECUTOR": executor,
            "MOORLINE_AUTH": "development",
            "MOORLINE_DEVELOPMENT_TOKEN": folder.secret("token"),
        },
    }

    def environment(replica: Replica) -> dict[str, str]:
        variables = {
            **{name: chosen[name] for name in CHOSEN.get(replica.service, ()) if name in chosen},
            **shared,
            **own[replica.service],
            "MOORLINE_LISTEN": replica.address,
            "MOORLINE_METRICS_LISTEN": f"{LOOPBACK}:{replica.metrics_port}",
        }
        if replica.service == "executor":
            # The first one's is that of a run with one, so that a second executor
            # takes no agent's files away.
            name = "workspaces" if replica.number == 1 else f"workspaces-{replica.number}"
            variables["MOORLINE_WORKSPACES"] = str(folder.path / name)
        return variables

    return [
        Program(
            name=replica.name,
            command=(sys.executable, "-m", f"services.{replica.service}"),
            environment=environment(replica),
            log=folder.log(replica.name),
        )
        for replica in replicas
    ]
