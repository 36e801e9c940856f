"""What an agent's container is made of. Does not know the engine, nor what the agent does.

An agent is not trusted: its container has no network, no rights, no file system but its own
folders, and a share of the machine that it cannot leave.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.executor.backend import View
from services.executor.channel import Launch
from services.executor.place import Place

INSTANCE = "moorline.instance"
WORKSPACE = "moorline.workspace"
TENANT = "moorline.tenant"
VERSION = "moorline.version"
"""Labels: whose container it is."""

VIEW = View(files="/workspace", state="/state", run="/run/moorline")
"""Where a container finds what its agent has."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FIRST_USER = 10001
_USERS = 50_000
"""Ids of users that agents get, where the executor may choose."""
LOG_LIMIT = 128 << 20
"""Bytes of what a container prints that are kept for a restarted executor, and as many again: tens
of busy turns of an agent."""
_OOM_SCORE = 300
"""The kernel ends an agent before the services of this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one agent may take of the machine.

    Attributes:
        memory: MiB, of everything in the container and its temporary files.
        cpus: Processors.
        pids: Processes and threads.
        shell_processes: Processes that the agent's shell commands may have; fewer than `pids`
            by at least thirty, so that a command that takes all of them leaves the agent alive.
    """

    memory: int
    cpus: float
    pids: int
    shell_processes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What all containers of one executor have in common.

    Attributes:
        image: Name of the image; its entry point runs the command line.
        cli_version: Version of the agent's program that should be in it.
        instance: Which executor's containers they are; the same after its restart.
        version: Version of this software.
        limits: What one agent may take.
    """

    image: str
    cli_version: str
    instance: str
    version: str
    limits: Limits


def instance_of(root: Path) -> str:
    """Return the label that tells the containers of an executor from those of others.

    Args:
        root: Directory of its workspaces.
    """
    return hashlib.sha256(str(root.absolute()).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The user an agent is, on the host and in its container.

    Attributes:
        uid: Of the user.
        gid: Of the group.
        shared: Whether others are the same user, so that the kernel counts them together.
    """

    uid: int
    gid: int
    shared: bool


def owner_of(place: Place) -> Owner:
    """Return the user an agent is: one of its own where the executor is root, else the executor's.

    The kernel limits processes by user, over all containers. Two agents that share a user by
    chance share that limit, and nothing else.
    """
    if os.geteuid() != 0:
        return Owner(uid=os.geteuid(), gid=os.getegid(), shared=True)
    digest = hashlib.sha256(place.workspace.encode()).digest()
    uid = _FIRST_USER + int.from_bytes(digest[:4], "big") % _USERS
    return Owner(uid=uid, gid=uid, shared=False)


def give(place: Place, owner: Owner) -> None:
    """Make an agent the owner of all that it has; needed only, and possible, as root.

    Links are given, not followed.
    """
    if owner.shared:
        return
    for folder in (place.files, place.state, place.run):
        os.chown(folder, owner.uid, owner.gid, follow_symlinks=False)
        _give_below(folder, owner)


def _give_below(folder: Path, owner: Owner) -> None:
    """Give all that is in a folder, however deep: one descriptor is enough."""
    here = os.open(folder, _FOLDER)
    # Of each folder on the way: which one it is, and which of those in it are still to come.
    way = [(_identity(here), _give_entries(here, owner))]
    try:
        while way:
            _, waiting = way[-1]
            if waiting:
                here = _go(here, waiting.pop())
                way.append((_identity(here), _give_entries(here, owner)))
                continue
            way.pop()
            if way:
                here = _go(here, "..")
                if _identity(here) != way[-1][0]:
                    raise OSError(errno.ESTALE, "somebody moves the folders of an agent")
    finally:
        os.close(here)


def _give_entries(here: int, owner: Owner) -> list[str]:
    """Give what is in a folder; return the names of the folders."""
    folders = []
    with os.scandir(here) as entries:
        for entry in entries:
            found = entry.stat(follow_symlinks=False)
            if (found.st_uid, found.st_gid) != (owner.uid, owner.gid):
                os.chown(entry.name, owner.uid, owner.gid, dir_fd=here, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                folders.append(entry.name)
    return folders


def _go(here: int, name: str) -> int:
    there = os.open(name, _FOLDER, dir_fd=here)
    os.close(here)
    return there


def _identity(folder: int) -> tuple[int, int]:
    found = os.fstat(folder)
    return found.st_dev, found.st_ino


def configuration(launch: Launch, *, setting: Setting, owner: Owner) -> dict[str, Any]:
    """Return what the engine is to create.

    Args:
        launch: What runs in it.
        setting: What all have in common.
        owner: Which user it is.
    """
    place, limits = launch.place, setting.limits
    processes = f"+{limits.shell_processes}" if owner.shared else str(limits.shell_processes)
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp",  # noqa: S108 - the container's own
        "USER": "agent",
        "TMPDIR": "/tmp",  # noqa: S108
        "LANG": "C.UTF-8",
        "SHELL": "/bin/bash",
        "CLAUDE_CODE_TMPDIR": "/tmp",  # noqa: S108
        "CLAUDE_CODE_SHELL_PREFIX": "/usr/local/bin/moorline-shell",
        "MOORLINE_SHELL_PROCESSES": processes,
        **launch.environment,
    }
    return {
        "Image": setting.image,
        "Cmd": list(launch.argv),
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "User": f"{owner.uid}:{owner.gid}",
        "WorkingDir": VIEW.files,
        "Hostname": "agent",
        "Labels": {
            INSTANCE: setting.instance,
            WORKSPACE: place.workspace,
            TENANT: launch.tenant,
            VERSION: setting.version,
        },
        # The input outlives who is attached to it, so that a restarted executor can go on.
        "OpenStdin": True,
        "StdinOnce": False,
        "Tty": False,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": _host(place, limits),
    }


def _host(place: Place, limits: Limits) -> dict[str, Any]:
    memory = limits.memory << 20
    temporary = f"rw,exec,nosuid,nodev,mode=1777,size={memory // 2}"
    mounts = {place.files: VIEW.files, place.state: VIEW.state, place.run: VIEW.run}
    return {
        "NetworkMode": "none",
        "ReadonlyRootfs": True,
        "Privileged": False,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "IpcMode": "private",
        "Memory": memory,
        # With swap in addition it could take twice of it, and slow everybody down.
        "MemorySwap": memory,
        "NanoCpus": int(limits.cpus * 1e9),
        "PidsLimit": limits.pids,
        "OomScoreAdj": _OOM_SCORE,
        "Ulimits": [
            {"Name": "core", "Soft": 0, "Hard": 0},
        ],
        "Tmpfs": {
            "/tmp": temporary,  # noqa: S108
        },
        "Mounts": [
            {"Type": "bind", "Source": str(source.absolute()), "Target": target}
            for source, target in mounts.items()
        ],
        "LogConfig": {
            "Type": "json-file",
            "Config": {"max-size": str(LOG_LIMIT), "max-file": "2"},
        },
        "RestartPolicy": {"Name": "no"},
    }
