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


SECONDS = 240


@pytest.fixture(scope="module")
def docker_stack(tmp_path_factory: pytest.TempPathFactory, modules: Path) -> Iterator[Stack]:
    """The platform, as `make run BACKEND=docker UPSTREAM=...` starts it."""
    if missing := KINDS["docker"].missing():
        pytest.skip(f"docker: {missing}")
    key = f"sk-{uuid.uuid4().hex}"
    environment = {"ANTHROPIC_API_KEY": key, "DISABLE_DOCKER": "false"}
    data = tmp_path_factory.mktemp("docker") / "data"
    with (
        standing_in(key) as url,
        running(data, environment, "--backend=docker", f"--upstream={url}") as stack,
    ):
        yield stack


@pytest.mark.timeout(SECONDS)
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


@pytest.mark.timeout(SECONDS)
def test_a_budget_stops_a_turn_that_goes_on_when_it_is_raised(
    visits: Callable[..., Visit], docker_stack: Stack
) -> None:
    """Set, met in the middle of the work, and raised on the page; nothing said is forgotten."""
    visit = visits(docker_stack)
    dialog = visit.page.locator("agent-dialog dialog")
    progress, failed = visit.page.locator(".progress"), visit.page.locator(".outcome.failed")
    visit.send("Count\n/sim usage 9000 9 0\n/sim bash echo one\n/sim sleep 1500\n/sim say Two.")
    expect(progress.locator(".cost")).to_contain_text("$0.0", timeout=PATIENCE_MS)
    expect(visit.messages.last).to_have_text("Two.", timeout=PATIENCE_MS)
    visit.page.locator(".bar").get_by_role("button", name="Settings").click()
    dialog.locator("summary").click()
    dialog.locator("[name=turnBudget]").fill("0.1")
    dialog.get_by_label("Never ask").check()
    dialog.get_by_role("button", name="Save").click()
    visit.send("/sim fail budget_exhausted")
    expect(failed).to_contain_text("What one turn may cost is spent.", timeout=PATIENCE_MS)
    failed.get_by_role("button", name="Change the budget").click()
    dialog.locator("[name=turnBudget]").fill("5")
    dialog.get_by_role("button", name="Save").click()
    visit.send("/sim recall")
    expect(visit.messages.last).to_have_text("I remember: Count", timeout=PATIENCE_MS)
    expect(visit.page.locator(".month")).to_contain_text("This month: $0.")
