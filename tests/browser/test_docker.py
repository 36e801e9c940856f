"""A real agent in a container, as a person sees it; the model is a stand-in's."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.visit import Visit
from tests.contract.agents.kinds import KINDS
from tests.standin.process import standing_in
from tests.system.stack import Stack, running

PATIENCE_MS = 60_000
"""A container starts, and a cold program in it, on a machine that is busy with a browser."""


@pytest.fixture
def docker_stack(tmp_path: Path, modules: Path) -> Iterator[Stack]:
    """The platform, as `make run BACKEND=docker UPSTREAM=...` starts it."""
    if missing := KINDS["docker"].missing():
        pytest.skip(f"docker: {missing}")
    key = f"sk-{uuid.uuid4().hex}"
    environment = {"ANTHROPIC_API_KEY": key, "DISABLE_DOCKER": "false"}
    with (
        standing_in(key) as url,
        running(tmp_path / "data", environment, "--backend=docker", f"--upstream={url}") as stack,
    ):
        yield stack


@pytest.mark.timeout(240)
def test_a_prompt_edits_a_file(visits: Callable[..., Visit], docker_stack: Stack) -> None:
    """The request shows the change before it is made; the turn shows what was changed."""
    visit = visits(docker_stack)
    visit.send("/sim write hello.txt one\n/sim read hello.txt\n/sim edit hello.txt one=>two")
    expect(visit.permission.locator(".diff .add")).to_have_text("+one\n", timeout=PATIENCE_MS)
    visit.permission.get_by_role("button", name="Allow", exact=True).click()
    expect(visit.permission.locator(".diff .del")).to_have_text("-one\n", timeout=PATIENCE_MS)
    expect(visit.permission.locator(".diff .add")).to_have_text("+two\n")
    visit.permission.get_by_role("button", name="Allow", exact=True).click()
    expect(visit.endings).to_have_count(1, timeout=PATIENCE_MS)
    changes = visit.page.locator(".changes")
    expect(changes.locator("code.path")).to_have_text("hello.txt")
    changes.locator("summary").click()
    expect(changes.locator(".diff .add")).to_have_text("+two\n")
