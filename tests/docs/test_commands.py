"""What the READMEs tell a reader to type works, on the real services."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import websockets

from tests.docs.readme import READMES, ROOT, Block, blocks
from tests.system.stack import Stack, running

pytestmark = [pytest.mark.system, pytest.mark.timeout(90)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's home folder."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def stack(home: Path) -> Iterator[Stack]:
    """The platform as `make run` starts it, known to `moorline` in the reader's home."""
    with running(home / "data", {"HOME": str(home), "XDG_CONFIG_HOME": str(home / "config")}) as it:
        yield it


@pytest.fixture
def environment(stack: Stack, home: Path) -> dict[str, str]:
    """What a reader's shell has after `. .venv/bin/activate`."""
    path = os.environ["PATH"]  # noqa: TID251 - the reader's own
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{path}",
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "LANG": "C.UTF-8",
        # `moorline` is installed where `make setup` was run; elsewhere the module is found so.
        "PYTHONPATH": str(ROOT),
    }


def runnable(language: str) -> list[object]:
    """The blocks of both READMEs that are run, by name."""
    return [
        pytest.param(block, id=f"{name}-{number}")
        for name in READMES
        for number, block in enumerate(blocks(name, language))
        if block.runs
    ]


def test_what_is_not_run_says_why() -> None:
    """A block is left out by a stated reason, and not by being forgotten."""
    for name in READMES:
        kept = [block for block in blocks(name, "sh") if block.runs]
        left = [block for block in blocks(name, "sh") if not block.runs]

        assert kept
        assert all(len(block.note) > len("not run: ") for block in left)


@pytest.mark.parametrize("block", runnable("sh"))
def test_the_commands_work(block: Block, environment: dict[str, str], tmp_path: Path) -> None:
    """Each command of a block succeeds, typed one after the other."""
    done = subprocess.run(
        ["sh", "-eux", "-c", block.code],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert 0 == done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("block", runnable("python"))
def test_the_programs_work(block: Block, environment: dict[str, str], tmp_path: Path) -> None:
    """Each program runs, and prints an answer."""
    done = subprocess.run(
        [sys.executable, "-c", block.code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert 0 == done.returncode, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name
)
def test_the_examples_work(path: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """Each example runs as its first lines say, and prints an answer."""
    done = subprocess.run(
        [sys.executable, str(path), "Hello"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert 0 == done.returncode, done.stderr
    assert "Hello" in done.stdout


async def test_the_frames_work(stack: Stack) -> None:
    """The frames, sent as they stand, make a turn whose answer comes back."""
    (block,) = blocks("README.md", "json")
    socket = websockets.connect(
        stack.url.replace("http", "ws") + "/v1/ws",
        subprotocols=[websockets.Subprotocol("moorline.v1")],
        additional_headers={"Authorization": f"Bearer {stack.token}"},
    )
    seen = ""
    async with asyncio.timeout(20), socket as connection:
        for line in block.code.strip().splitlines():
            await connection.send(line)
            # One after the other, as they are typed.
            seen += await until(connection, f'"id":{json.loads(line)["id"]},')
        while "turnOutcome" not in seen:
            seen += await until(connection, '"id":2,')

    assert "Hello" in seen


async def until(connection: websockets.ClientConnection, mark: str) -> str:
    """Read messages up to one that has a mark; none may be an error."""
    seen = ""
    while mark not in seen:
        message = await connection.recv()
        assert isinstance(message, str)
        assert "error" not in json.loads(message), message
        seen += message
    return seen
