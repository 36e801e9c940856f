"""One person's visit to the page in a real Chromium, and what went wrong during it.

Does not know what a test wants to see.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, Request, expect

from services.gateway.vendor import ROOT

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT_MS = 15_000
"""How long anything may take to appear on a machine that many tests share."""
ENDLESS = "/sim stream 10000 20"
"""Still being written when whoever looks at it has seen all, however late."""
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
AXE_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
AXE_RUN = """rules => axe.run(document, {runOnly: rules}).then(({violations}) => violations.map(
    ({id, nodes}) => `${id}: ${nodes.slice(0, 3).map(({target}) => target.join(' '))}`))"""


@dataclass
class Visit:
    """A page that is open, in the name of the development user.

    Attributes:
        page: The page.
        url: Where the gateway listens.
        problems: Console errors, requests to elsewhere and reports of a broken policy.
        expected: Patterns of problems that the test provokes.
    """

    page: Page
    url: str
    problems: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def listen(self) -> None:
        """Begin to collect problems."""
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.problems.append(f"page error: {error}"))
        self.page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"console {message.type}: {message.text}")

    def _request(self, request: Request) -> None:
        if request.url.endswith("/v1/csp-report"):
            self.problems.append(f"policy broken: {request.post_data}")
        elif not request.url.startswith((self.url, "data:", "blob:")):
            self.problems.append(f"request to elsewhere: {request.url}")

    @property
    def unexpected(self) -> list[str]:
        """The problems that the test did not provoke."""
        return [p for p in self.problems if not any(re.search(e, p) for e in self.expected)]

    def enter(self, token: str) -> None:
        """Log in as the banner's link does, and wait for the connection."""
        self.page.goto(f"{self.url}/?token={token}#/")
        expect(self.link).to_have_class(re.compile("connected"))

    @property
    def link(self) -> Locator:
        """The connection's state in words."""
        return self.page.locator("connection-status [role=status]")

    @property
    def field(self) -> Locator:
        """Where prompts are written."""
        return self.page.locator("composer-box textarea")

    @property
    def stop(self) -> Locator:
        """The button that stops a turn; there while one runs."""
        return self.page.locator("composer-box .stop")

    @property
    def prompts(self) -> Locator:
        """The prompts shown as turns."""
        return self.page.locator("transcript-view .prompt-text")

    @property
    def messages(self) -> Locator:
        """The agent's answers."""
        return self.page.locator("transcript-view markdown-view")

    @property
    def permission(self) -> Locator:
        """The request that waits for a decision."""
        return self.page.get_by_role("alertdialog")

    @property
    def endings(self) -> Locator:
        """The lines that say what a turn consumed: one for each turn that ended."""
        return self.page.locator("transcript-view .meta")

    def send(self, text: str) -> None:
        """Write a prompt and press Enter, once no dialog is open that would take it."""
        expect(self.page.locator("dialog[open]")).to_have_count(0)
        self.field.fill(text)
        self.field.press("Enter")

    def reach(self, target: Locator, key: str = "Tab", most: int = 60) -> Locator:
        """Go to something by keyboard, as who has no mouse must."""
        for _ in range(most):
            if target.evaluate("element => element === document.activeElement"):
                break
            self.page.keyboard.press(key)
        expect(target).to_be_focused()
        return target

    def barriers(self) -> list[str]:
        """What axe finds; the visit must be one with `bypass_csp=True`."""
        if not self.page.evaluate("'axe' in window"):
            self.page.add_script_tag(path=AXE)
        found: list[str] = self.page.evaluate(AXE_RUN, AXE_RULES)
        return found

    def choose_language(self, tag: str) -> None:
        """Let the page speak another language from now on."""
        self.page.locator(".foot select").first.select_option(tag)
        expect(self.page.locator("html")).to_have_attribute("lang", tag)

    def stop_now(self) -> None:
        """Stop the turn that runs, and wait until it has."""
        self.stop.click()
        expect(self.page.locator(".outcome.cancelled")).not_to_have_count(0)

    def new_agent(self) -> None:
        """Show no agent, so that the next prompt makes one."""
        self.page.evaluate("location.hash = '#/'")
        expect(self.page.locator("transcript-view .welcome")).to_be_visible()

    def await_ending(self, count: int = 1) -> None:
        """Wait until so many turns have ended."""
        expect(self.endings).to_have_count(count, timeout=2 * WAIT_MS)
        expect(self.page.locator("markdown-view[pending]")).to_have_count(0)

    def transcript(self) -> list[str]:
        """What the conversation says, one text for each entry, without times."""
        script = """turns => turns.flatMap(turn => [...turn.querySelectorAll(
            '.prompt-text, markdown-view, .thought > p, .tool, .decision, .outcome')]
            .map(entry => entry.textContent.replace(/\\s+/g, ' ').trim()))"""
        texts: list[str] = self.page.locator("turn-view").evaluate_all(script)
        return texts


def login_state(context: BrowserContext) -> bool:
    """Whether the browser holds a login cookie."""
    return any(cookie["httpOnly"] for cookie in context.cookies())
