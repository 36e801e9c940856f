"""What the page shows after a reload, a cut, a dead gateway: the same, character for character."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from playwright.sync_api import WebSocketRoute, expect

from tests.browser.visit import WAIT_MS, Visit
from tests.system.stack import Stack

WORDS = " ".join(f"w{number}" for number in range(1, 201))
LONG = "/sim think one moment\n/sim stream 200 15\n/sim write a.txt b\n/sim say The end."
NETWORK = r"WebSocket connection|Failed to load resource|net::ERR"
"""What Chromium writes to the console when a server is away."""


def plain(visit: Visit) -> list[str]:
    """What a visit to the same agent shows that was never cut."""
    visit.await_ending()
    return visit.transcript()


def test_a_reload_in_the_middle_resumes(visit: Visit) -> None:
    """Text being written is handed over whole, nothing is lost or doubled."""
    visit.send(LONG)
    for _ in range(3):
        expect(visit.messages.first).to_contain_text(re.compile(r"w\d0"))
        visit.page.reload()
    visit.await_ending()
    shown = visit.transcript()
    visit.page.reload()

    assert shown == plain(visit)
    assert WORDS in shown
    assert "The end." == shown[-1]


def test_cut_connections_lose_nothing(visits: Callable[..., Visit], stack: Stack) -> None:
    """Sockets that die in the middle of a stream are replaced, and the text is the same."""
    visit = visits(stack, enter=False)
    routes: list[WebSocketRoute] = []

    def connect(route: WebSocketRoute) -> None:
        route.connect_to_server()
        routes.append(route)

    visit.page.route_web_socket("**/v1/ws", connect)
    visit.enter(stack.token)
    visit.send(LONG)
    for word, code in (("w20", 1012), ("w60", 4002), ("w110", 1001)):
        expect(visit.messages.first).to_contain_text(word)
        routes[-1].close(code=code)
        expect(visit.link).to_have_text("Reconnecting…")
    expect(visit.link).to_have_text("Connected")
    visit.await_ending()
    shown = visit.transcript()
    visit.page.reload()

    assert shown == plain(visit)
    assert WORDS in shown
    assert 4 <= len(routes)


def test_a_killed_gateway_is_waited_for(visits: Callable[..., Visit], own_stack: Stack) -> None:
    """The page says so meanwhile, what is typed then is sent once, and the stream is whole."""
    visit = visits(own_stack)
    visit.expected.append(NETWORK)
    visit.send(f"{LONG}\n/sim ask Bash make")
    expect(visit.messages.first).to_contain_text("w20")
    with without_restarts(own_stack):
        os.kill(own_stack.pid("gateway"), signal.SIGKILL)
        expect(visit.link).not_to_have_text("Connected")
        visit.send("/sim say Sent while away.")
        expect(visit.page.locator(".queue")).to_contain_text("Sent while away.")
    expect(visit.link).to_have_text("Connected", timeout=2 * WAIT_MS)
    visit.permission.get_by_role("button", name="Allow", exact=True).click()
    visit.await_ending(2)

    assert WORDS in visit.transcript()
    assert 1 == visit.messages.get_by_text("Sent while away.").count()


@contextmanager
def without_restarts(stack: Stack) -> Iterator[None]:
    """Let whatever dies stay away while inside."""
    stack.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        stack.process.send_signal(signal.SIGCONT)


def test_an_unsent_prompt_survives_a_reload(visits: Callable[..., Visit], stack: Stack) -> None:
    """It is kept in the browser with its turn id and makes one turn, however often it is sent."""
    visit = visits(stack, enter=False)
    swallow = [True]

    def connect(route: WebSocketRoute) -> None:
        server = route.connect_to_server()
        route.on_message(
            lambda text: None if swallow[0] and "createTurn" in str(text) else server.send(text)
        )

    visit.page.route_web_socket("**/v1/ws", connect)
    visit.enter(stack.token)
    visit.send("/sim say Kept and sent.")
    expect(visit.page.locator("pending-turn .progress")).to_have_text("Sending…")
    visit.page.reload()
    expect(visit.page.locator("pending-turn .prompt-text")).to_have_text("/sim say Kept and sent.")
    swallow[0] = False
    visit.page.reload()
    visit.await_ending()
    visit.page.reload()
    visit.await_ending()

    assert ["Kept and sent."] == visit.messages.all_inner_texts()
    assert 1 == visit.prompts.count()


def test_a_permission_request_survives_a_reload(visit: Visit) -> None:
    """It is still there, and answering it continues the turn."""
    visit.send("/sim ask Bash make\n/sim say Made.")
    expect(visit.permission).to_be_visible()
    visit.page.reload()
    expect(visit.permission).to_contain_text("make")
    visit.permission.get_by_role("button", name="Allow", exact=True).click()
    expect(visit.messages).to_have_text("Made.")


def test_drafts_are_kept_for_each_agent(visit: Visit) -> None:
    """Neither a reload nor a look at another agent costs what was being written."""
    visit.send("/sim say One.")
    visit.await_ending()
    visit.field.fill("half a thought")
    visit.page.reload()
    expect(visit.field).to_have_value("half a thought")
    visit.new_agent()
    expect(visit.field).to_have_value("")
    visit.page.go_back()
    expect(visit.field).to_have_value("half a thought")


def test_a_page_without_a_network_says_offline(visit: Visit) -> None:
    """The machine's own word for it is shown, and the way back is found at once."""
    visit.expected.append(NETWORK)
    visit.page.context.set_offline(True)
    visit.page.evaluate("document.querySelector('moorline-app').client.connection.close()")
    visit.page.evaluate("document.querySelector('moorline-app').client.connection.open()")
    expect(visit.link).to_have_text("Offline")
    visit.page.context.set_offline(False)
    began = time.monotonic()
    expect(visit.link).to_have_text("Connected")
    assert time.monotonic() - began < 5


def test_a_refused_connection_stays_closed(visits: Callable[..., Visit], stack: Stack) -> None:
    """4501 shows the login, another refusal says its number and offers a reload."""
    for code in (4501, 4503):
        visit = visits(stack, enter=False)
        routes: list[WebSocketRoute] = []

        def connect(route: WebSocketRoute, routes: list[WebSocketRoute] = routes) -> None:
            route.connect_to_server()
            routes.append(route)

        visit.page.route_web_socket("**/v1/ws", connect)
        visit.enter(stack.token)
        routes[-1].close(code=code)
        if code == 4501:
            expect(visit.page.get_by_role("heading", name="Sign in")).to_be_visible()
        else:
            expect(visit.link).to_have_text("Connection refused (4503)")
            expect(visit.page.get_by_role("button", name="Reload")).to_be_visible()
        assert 1 == len(routes)
