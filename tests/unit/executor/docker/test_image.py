"""Tests of the agents' image, and of what builds it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from services.executor.channels.docker.engine import Engine
from services.executor.channels.docker.probe import VERSION_LABEL
from services.executor.claude_code.frames import CLI_VERSION
from tests.contract.agents.kinds import program
from tests.contract.channels import containers
from tests.unit.executor.docker.conftest import Contain
from tests.unit.executor.docker.test_channel import Hearer

BUILD = containers.ROOT / "services/executor/agent/image.sh"


async def printed(contain: Contain, command: str) -> list[str]:
    """Return the lines that a command prints in a container."""
    hearer = Hearer()
    await contain("sh", "-c", command).open(hearer)
    await hearer.end()
    return [line.decode() for line in hearer.lines]


@pytest.mark.docker
async def test_image_has_what_agents_need(contain: Contain, engine: Engine) -> None:
    """The pinned program, git with somebody to commit as, and a search."""
    told = await printed(
        contain,
        "claude --version; cd /tmp && git init -q x && cd x && git commit -q --allow-empty -m x"
        " && git log --format=%an; rg --version | head -n 1 | cut -d' ' -f1",
    )
    labels = await engine.image_labels(containers.IMAGE)

    assert [f"{CLI_VERSION} (Claude Code)", "Agent", "ripgrep"] == told
    assert labels is not None
    assert CLI_VERSION == labels[VERSION_LABEL]


@pytest.mark.docker
async def test_nobody_is_root_by_default(engine: Engine) -> None:
    """Whoever runs the image without saying who is a user with a number, as clusters want it."""
    image = await engine._docker.images.inspect(containers.IMAGE)

    assert "10001:10001" == image["Config"]["User"]


@pytest.mark.docker
async def test_what_commands_leave_behind_is_reaped(contain: Contain) -> None:
    """It would count against the agent's processes for ever."""
    # One that was not waited for keeps its name.
    ended = "while ps -eo comm= | grep -q sleep; do sleep 0.05; done"
    told = await printed(contain, f"(sleep 0.1 &); (sleep 0.1 &); {ended}; ps -eo stat=")

    assert 3 <= len(told)
    assert [] == [state for state in told if state.startswith("Z")]


@pytest.mark.docker
async def test_shell_limits_processes(contain: Contain) -> None:
    """To so many, or so many more than this user has on the whole machine; and gives way first.

    A command cannot raise it again.
    """
    ask = "moorline-shell 'ulimit -S -u unlimited; ulimit -S -u; cat /proc/self/oom_score_adj'"
    told = await printed(
        contain,
        f"MOORLINE_SHELL_PROCESSES=150 {ask}; for i in $(seq 100); do sleep 5 & done;"
        f" MOORLINE_SHELL_PROCESSES=+150 {ask}; MOORLINE_SHELL_PROCESSES=50 {ask} 2>&1",
    )
    own, score, beyond, _, refused, *_ = told

    assert ("150", "800") == (own, score)
    # To the nearest 64, and there are a few besides the hundred.
    assert 150 + 64 <= int(beyond) <= 150 + 200
    assert "fork" in refused.lower() or "50" == refused


def build(path: str, *words: str, **environment: str) -> tuple[int, str]:
    """Try to build the image; return the exit code and what it said."""
    command = ["/bin/sh", str(BUILD), *words]
    environment["PATH"] = path
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.docker
async def test_image_of_another_release_is_known(engine: Engine, tmp_path: Path) -> None:
    """So that it is built again, although the agent's program is the same."""
    folder = shutil.copytree(BUILD.parents[1], tmp_path / "executor", ignore=_NOT_COPIED)
    current, _ = build(os.defpath, "--is-current", DOCKER_HOST=containers.HOST)
    with (folder / "agent/bin/moorline-shell").open("a") as changed:
        changed.write("# changed\n")
    command = ["/bin/sh", str(folder / "agent/image.sh"), "--is-current"]
    other = await asyncio.to_thread(subprocess.run, command, check=False)

    assert (0, 1) == (current, other.returncode)


_NOT_COPIED = shutil.ignore_patterns("node_modules", "*.py", "__pycache__")


@pytest.mark.parametrize(("before", "removed"), [("same", False), ("other", True)])
def test_only_an_image_that_was_replaced_is_removed(
    tmp_path: Path, before: str, removed: bool
) -> None:
    """To build the same again gives the same image, and not one more."""
    if not program().is_file():
        pytest.skip("the agent's program is missing: run `make agent-cli`")
    machine = program().parent.name.rpartition("-")[2].replace("x64", "amd64")
    (tmp_path / "docker").write_text(
        f"""#!/bin/sh
        echo "$*" >>{tmp_path}/calls
        case "$*" in
        *.Id*) if [ -e {tmp_path}/built ]; then echo same; else echo {before}; fi ;;
        "build "*) touch {tmp_path}/built ;;
        version*) echo {machine} ;;
        esac"""
    )
    (tmp_path / "docker").chmod(0o755)
    code, told = build(f"{tmp_path}:{os.defpath}", TMPDIR=str(tmp_path))

    assert (0, "") == (code, told)
    assert removed == ("image rm" in (tmp_path / "calls").read_text())


def test_building_without_docker_says_so(tmp_path: Path) -> None:
    """What to install is named."""
    for name in ("dirname", "sed"):
        (tmp_path / name).symlink_to(shutil.which(name) or name)
    code, told = build(str(tmp_path))

    assert (2, True) == (code, "There is no docker command: install Docker" in told)


def test_building_without_an_engine_says_so(tmp_path: Path) -> None:
    """With what the engine's own program says about it."""
    if shutil.which("docker") is None:
        pytest.skip("there is no docker command")
    code, told = build(os.defpath, DOCKER_HOST=f"unix://{tmp_path}/none", HOME=str(tmp_path))

    assert (2, True) == (code, "The Docker engine does not answer" in told)
