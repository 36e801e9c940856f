"""What an operator can tell the executor. Does not know the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from services.chassis.settings import ServerSettings, setting
from services.executor.claude_code.frames import CLI_VERSION


class ModelAuthentication(StrEnum):
    """How the model provider is shown its key."""

    KEY = "key"
    BEARER = "bearer"


@dataclass(frozen=True, kw_only=True)
class Settings(ServerSettings):
    """Settings of the executor."""

    listen: str = setting("Address to serve on, `host:port`; port 0 takes any.", "127.0.0.1:7003")
    drain_seconds: timedelta = setting(
        "Seconds that running executions get to end by themselves at shutdown.",
        timedelta(minutes=10),
        minimum=0,
    )
    workspaces: Path = setting(
        "Directory of the agents' files; made when it is missing.", Path(".data/workspaces")
    )
    max_executions: int = setting(
        "Executions that may run at once; more are refused for the moment.", 1200, minimum=1
    )
    max_agent_processes: int = setting(
        "Agent processes that may live; beyond it the longest idle one is put to sleep.",
        1200,
        minimum=1,
    )
    default_backend: str = setting("Backend of agents that name none.", "simulation")
    max_running_turns: int = setting(
        "Turns of real agents that may run at once; more wait in a queue that is fair to users.",
        16,
        minimum=1,
    )
    max_running_turns_per_tenant: int = setting("Of those, for one user.", 8, minimum=1)
    max_real_agent_processes: int = setting(
        "Processes of real agents that may live; beyond it the longest idle one is put to sleep."
        " Each takes some 200 MiB.",
        32,
        minimum=1,
    )
    max_agent_processes_per_tenant: int = setting("Of those, for one user.", 16, minimum=1)
    limit_simulation: bool = setting(
        "`true`: simulated agents count for these limits, too, to try them out.", default=False
    )
    process_turns: int = setting(
        "Turns an agent process takes before a new one goes on in its place.", 50, minimum=1
    )
    process_memory: int = setting(
        "MiB an agent process may have after a turn before a new one goes on in its place.",
        300,
        minimum=1,
    )
    idle_limit: timedelta = setting(
        "Seconds until an idle agent process is put to sleep.", timedelta(minutes=5), minimum=0.1
    )
    turn_timeout: timedelta = setting(
        "Seconds a turn may take.", timedelta(hours=1), minimum=1, maximum=86_400
    )
    stall_limit: timedelta = setting(
        "Seconds an agent at work may say nothing.", timedelta(minutes=10), minimum=1
    )
    grace: timedelta = setting(
        "Seconds a cancelled agent gets to stop by itself before it is killed.",
        timedelta(seconds=0.5),
        minimum=0,
        maximum=60,
    )
    retention: timedelta = setting(
        "Seconds an ended execution is kept while nobody confirms to have stored it.",
        timedelta(minutes=10),
        minimum=1,
    )
    disable_docker: bool = setting(
        "`true` in any case: Docker is not used, and not even looked for.",
        default=False,
        variable="DISABLE_DOCKER",
    )
    docker_host: str = setting(
        "Address of the Docker engine; empty for the local socket.", "", variable="DOCKER_HOST"
    )
    allow_process: bool = setting(
        "`true`: agents may run as plain processes, with all rights of the executor's own user."
        " For who trusts both the agents and the machine.",
        default=False,
    )
    agent_program: str = setting(
        "The agent's program for backend `process`; empty for the one that `make agent-cli`"
        " installs, or else `claude` in the PATH.",
        "",
    )
    search_path: str = setting(
        "Where agents of backend `process` find programs.", os.defpath, variable="PATH"
    )
    agent_image: str = setting(
        "Image of the containers of backend `docker`; `make agent-image` builds the default.",
        f"moorline-agent:{CLI_VERSION}",
    )
    agent_memory: int = setting(
        "MiB of memory for an agent in a container, with all that it starts.", 1024, minimum=256
    )
    agent_cpus: float = setting("Processors for an agent in a container.", 1.0, minimum=0.1)
    agent_pids: int = setting(
        "Processes and threads of an agent in a container; at least 40 more than its shell"
        " commands may have.",
        256,
        minimum=64,
    )
    agent_shell_processes: int = setting(
        "Processes that an agent's shell commands may have.", 200, minimum=10
    )
    model_key_file: str = setting(
        "File with the model provider's key, read anew when it changes; agents never see it.", ""
    )
    model_upstream: str = setting(
        "Where the Messages API is: the provider, or a gateway that speaks like it. For Bedrock"
        " and Vertex, a gateway that translates.",
        "https://api.anthropic.com",
    )
    model_authentication: ModelAuthentication = setting(
        "How the key is shown: `key` as `x-api-key`, `bearer` as `Authorization: Bearer`.",
        ModelAuthentication.KEY,
    )
    models: tuple[str, ...] = setting(
        "Models to choose from, separated by commas, the default first; others are refused. Empty"
        " to take any, the program's own choice by default.",
        (),
    )
    fallback_model: str = setting(
        "Model that goes on when the provider has no room for the first; empty for none.", ""
    )
    model_prices: str = setting(
        "JSON file with prices that take the place of the built-in ones, in dollars for a million"
        " tokens.",
        "",
    )
    upstream_silence: timedelta = setting(
        "Seconds the model provider may say nothing before the agent asks again.",
        timedelta(seconds=60),
        minimum=0.1,
    )
    file_bytes: int = setting("Bytes of a file that a client writes.", 1 << 30, minimum=1)
    workspace_bytes: int = setting(
        "Bytes a workspace may hold for a client to write more; 0 for no limit. Agents are not"
        " held to it.",
        0,
        minimum=0,
    )
    archive_bytes: int = setting("Bytes of all files in one archive.", 4 << 30, minimum=1)
    spare_bytes: int = setting(
        "Bytes of the workspaces' disk that clients must leave free.", 256 << 20, minimum=0
    )
    provider_retries: int = setting(
        "Repetitions of a request that the model provider failed to answer, with growing pauses:"
        " six take half a minute.",
        6,
        minimum=0,
        maximum=20,
    )
    simulation_seed: int = setting("Number the simulated agents draw their ids from.", 0)
