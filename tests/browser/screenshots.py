"""Take the README's pictures: `python -m tests.browser.screenshots`.

The conversation in them is the simulated agent's; its script is hidden behind the prompt that a
person would have written.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import (
    Browser,
    Page,
    ViewportSize,
    WebSocketRoute,
    expect,
    sync_playwright,
)

from tests.browser.visit import CHROMIUM_FLAGS, WAIT_MS, Visit
from tests.system.stack import ROOT, Stack, running

DOCS = ROOT / "docs"
SCREEN: ViewportSize = {"width": 1280, "height": 900}
LIMIT_BYTES = 200 * 1024

PROMPT = "The login accepts any password. Find out why, and fix it."
SCRIPT = r"""/sim think The check looks at the name only. First see what calls it.
/sim say The login in `src/login.py` compares **only the user name**: it never sees the password.
/sim write src/login.py matches = hmac.compare_digest(digest(password), stored(user))
/sim read src/login.py
/sim say It now compares in constant time. The tests have to pass before I call this done.
/sim ask Bash pytest -q tests/test_login.py
/sim usage 18400 1260 41300"""
BEFORE = {
    "Weekly dependency report": "/sim say Eleven packages have updates.\n/sim usage 5200 300 9800",
    "Speed up the CI build": "/sim say Working on it.\n/sim stream 4000 60",
    "Translate the manual": "/sim say 설명서 번역을 마쳤습니다.\n/sim usage 9100 2100 20100",
}


def disguise(page: Page) -> None:
    """Let the page show the prompt, and the agent get the script."""

    def connect(route: WebSocketRoute) -> None:
        server = route.connect_to_server()
        script, prompt = _inside(SCRIPT), _inside(PROMPT)
        route.on_message(lambda text: server.send(str(text).replace(prompt, script)))
        server.on_message(lambda text: route.send(str(text).replace(script, prompt)))

    page.route_web_socket("**/v1/ws", connect)


def _inside(text: str) -> str:
    """A text as it stands inside a JSON string of ASCII."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def prepare(visit: Visit) -> None:
    """Give the user agents with names, each with something to show."""
    page = visit.page
    for name, script in BEFORE.items():
        page.get_by_role("button", name="New agent", exact=True).click()
        page.get_by_label("Name").fill(name)
        page.get_by_role("button", name="Create").click()
        expect(page.locator("header h1")).to_have_text(name)
        visit.send(script)
        expect(visit.messages).not_to_have_count(0)
    page.get_by_role("button", name="New agent", exact=True).click()
    page.get_by_label("Name").fill("Fix the login")
    page.get_by_role("button", name="Create").click()
    expect(page.locator("header h1")).to_have_text("Fix the login")


def take(browser: Browser, stack: Stack, folder: Path) -> None:
    """Play the conversation once and photograph it in both schemes."""
    page = browser.new_page(viewport=SCREEN, locale="en-US", color_scheme="light")
    page.set_default_timeout(WAIT_MS)
    expect.set_options(timeout=WAIT_MS)
    disguise(page)
    visit = Visit(page, stack.url)
    visit.enter(stack.token)
    prepare(visit)
    visit.send(PROMPT)
    expect(visit.permission).to_be_visible()
    page.locator(".tool summary").first.click()
    # Its output says only that it was written, and the page should show the prompt as well.
    page.locator(".tool .text-block").first.evaluate("block => block.remove()")
    page.mouse.move(0, 0)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.wait_for_function("document.fonts.status === 'loaded'")
        page.screenshot(path=folder / f"screenshot-{scheme}.png")


def main() -> int:
    """Write both pictures to `docs/`; return the exit status."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print("There is no Chromium on PATH.", file=sys.stderr)  # noqa: T201
        return 1
    DOCS.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder) / "data") as stack,
        sync_playwright() as playwright,
    ):
        take(playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS), stack, DOCS)
    too_large = [p.name for p in DOCS.glob("screenshot-*.png") if p.stat().st_size > LIMIT_BYTES]
    if too_large:
        print(f"Larger than 200 KB: {', '.join(too_large)}", file=sys.stderr)  # noqa: T201
    return 1 if too_large else 0


if __name__ == "__main__":
    sys.exit(main())
