"""The backends the conformance suite runs over.

Another one joins by an entry in `KINDS`. It runs the real program, or what behaves like it, and
reaches the model through the executor's proxy; the suite sees it from outside only.
"""

from __future__ import annotations

import functools
import os
import platform
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.executor.claude_code.frames import CLI_VERSION
from tests.rooms.tracked import ROOT

_PROGRAM = ROOT / "services/executor/agent/node_modules/@anthropic-ai"
_RELAY = "moorline-agent"
"""What a container has beside the program: its relay."""
_ARCHITECTURES = {"x86_64": "x64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Kind:
    """One backend.

    Attributes:
        name: As the executor calls it.
        real: Whether the program is the real one, so that it asks the model.
        settings: What the executor needs to be told.
        missing: Returns why it cannot be used on this machine; empty when it can.
        processes: Returns the processes of the agent in a workspace, the program's own first, as
            pairs of number and command line; nothing that cannot be seen from outside.
    """

    name: str
    real: bool
    settings: Mapping[str, str]
    missing: Callable[[], str]
    processes: Callable[[str], list[tuple[int, str]]]

    def commands(self, workspace: str) -> list[str]:
        """Return the command lines of what an agent runs beside the program itself."""
        lines = [line.strip() for _, line in self.processes(workspace)]
        return [line for line in lines if "stream-json" not in line and line != _RELAY]

    def kill(self, workspace: str) -> None:
        """Kill the program of an agent, and nothing else of it."""
        for number, line in self.processes(workspace):
            if "stream-json" in line:
                # The first of a container takes all others with it.
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)


def program() -> Path:
    """Return where `make agent-cli` puts the real program."""
    return _PROGRAM / f"claude-code-linux-{_ARCHITECTURES.get(platform.machine(), '')}" / "claude"


def _no_program() -> str:
    return "" if program().is_file() else "the agent's program is missing: run `make agent-cli`"


@functools.cache
def _no_image() -> str:
    image = f"moorline-agent:{CLI_VERSION}"
    try:
        found = subprocess.run(
            ["docker", "image", "inspect", image], capture_output=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return "there is no Docker engine"
    if b"annot connect" in found.stderr:
        return "there is no Docker engine"
    return f"there is no image {image}: run `make agent-image`" if found.returncode else ""


def _processes(file: str, mark: str) -> list[tuple[int, str]]:
    """Return processes that have a mark in what the kernel tells about them."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if mark.encode() not in (folder / file).read_bytes():
                continue
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        # One that has ended, and that nobody has asked about yet, has no command line.
        if line:
            found.append((int(folder.name), line))
    return sorted(found)


def _children(workspace: str) -> list[tuple[int, str]]:
    """Return processes that inherited the name of a workspace."""
    return _processes("environ", f"/{workspace}\0")


def _contained(workspace: str) -> list[tuple[int, str]]:
    """Return processes that have the files of a workspace in their own file system."""
    return _processes("mountinfo", f"/{workspace}/files ")


KINDS = {
    kind.name: kind
    for kind in (
        Kind("simulation", real=False, settings={}, missing=lambda: "", processes=lambda _: []),
        Kind(
            "process",
            real=True,
            settings={"MOORLINE_ALLOW_PROCESS": "true", "MOORLINE_AGENT_PROGRAM": str(program())},
            missing=_no_program,
            processes=_children,
        ),
        Kind(
            "docker",
            real=True,
            settings={"DISABLE_DOCKER": "false"},
            missing=_no_image,
            processes=_contained,
        ),
    )
}

ONLY_REAL = pytest.mark.parametrize(
    "kind", [name for name, kind in KINDS.items() if kind.real], indirect=True
)
"""Marks a test of what the simulation cannot do: it runs no command and asks no model."""
