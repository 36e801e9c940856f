"""What `make run BACKEND=...` gives a person: a real agent, with a stand-in for its model."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import moorline
from tests.contract.agents.kinds import KINDS
from tests.system.stack import ROOT, Stack, running

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

KEY = f"sk-{uuid.uuid4().hex}"


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    """Address of the stand-in, which takes our key only."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.standin", "--port=0", f"--key={KEY}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    yield process.stdout.readline().split()[-1].rstrip(".")
    process.kill()
    process.communicate()


@pytest.fixture(scope="module", params=["process", "docker"])
def stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, upstream: str
) -> Iterator[Stack]:
    """The platform, as `make run BACKEND=... UPSTREAM=...` starts it."""
    kind = KINDS[request.param]
    if missing := kind.missing():
        pytest.skip(f"{kind.name}: {missing}")
    environment = {
        "ANTHROPIC_API_KEY": KEY,
        "DISABLE_DOCKER": "false" if kind.name == "docker" else "true",
    }
    data = tmp_path_factory.mktemp(kind.name) / "data"
    with running(data, environment, f"--backend={kind.name}", f"--upstream={upstream}") as stack:
        yield stack


@pytest.fixture
def client(stack: Stack) -> Iterator[moorline.Client]:
    """The client of the person who started it."""
    with moorline.Client(url=stack.url, token=stack.token) as client:
        yield client


def test_a_prompt_edits_a_file(client: moorline.Client) -> None:
    """By the real program; the file is there, what changed is told, and what it cost."""
    agent = client.agents.create(permission_mode=moorline.PermissionMode.ACCEPT_EDITS)
    first = agent.send("/sim write hello.txt one\n/sim say written").wait()
    second = agent.send("/sim read hello.txt\n/sim edit hello.txt one=>two\n/sim say edited").wait()

    assert first.finished, first.outcome
    assert second.finished, second.outcome
    assert "written" in first.text
    assert "edited" in second.text
    assert b"two" == agent.files.read("hello.txt")
    assert "+two" in agent.files.diff().changes[0].diff
    assert first.usage.cost_usd_micros > 0


def content(file: Path) -> bytes:
    """What is in a file; nothing when it is gone again, or no plain file."""
    try:
        return file.read_bytes() if file.is_file() else b""
    except FileNotFoundError:
        return b""


def test_the_key_is_in_one_file_only(stack: Stack, client: moorline.Client) -> None:
    """No service has it in its environment, no agent either, and no log tells it."""
    agent = client.agents.create(permission_mode=moorline.PermissionMode.ACCEPT_ALL)
    told = agent.send("/sim bash env | sort").wait()
    pids = [pid for name, pid in stack.run["pids"].items() if name != "supervisor"]
    environments = [Path(f"/proc/{pid}/environ").read_bytes() for pid in pids]
    holders = {
        (Path(folder) / name).relative_to(stack.data)
        for folder, _, names in os.walk(stack.data)
        for name in names
        if KEY.encode() in content(Path(folder) / name)
    }

    assert told
    assert 3 == len(environments)
    assert not any(KEY.encode() in one for one in environments)
    assert {Path("model.key")} == holders
    assert 0o600 == stat.S_IMODE((stack.data / "model.key").stat().st_mode)
    assert os.getuid() == (stack.data / "model.key").stat().st_uid
