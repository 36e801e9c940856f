"""What real agents ask, change and cost, as a person sees it; acted by the simulation."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.visit import Visit


def test_a_question_is_answered_by_choosing(visit: Visit) -> None:
    """Nothing is sent before each question has its answer; the answer stays to be read."""
    visit.send("/sim question Which colour? red|blue\n/sim say Thanks.")
    expect(visit.permission).to_contain_text("Which colour?")
    visit.permission.get_by_role("button", name="Answer", exact=True).click()
    expect(visit.permission.locator(".problem")).to_be_visible()
    visit.permission.get_by_text("blue").first.click()
    visit.permission.get_by_role("button", name="Answer", exact=True).click()
    visit.await_ending()
    expect(visit.page.locator(".decision")).to_contain_text("Answered by you")
    expect(visit.page.locator(".answers dd")).to_have_text("blue")


def test_a_question_is_answered_in_own_words(visit: Visit) -> None:
    """Typing takes a choice back; keys that decide elsewhere are letters here."""
    visit.send("/sim question Which colour? red|blue\n/sim say Thanks.")
    visit.permission.get_by_text("red").first.click()
    field = visit.permission.get_by_placeholder("Or in your own words")
    field.press_sequentially("dark red")
    expect(visit.permission.get_by_role("radio", checked=True)).to_have_count(0)
    field.press("Enter")
    visit.await_ending()
    expect(visit.page.locator(".answers dd")).to_have_text("dark red")


def test_a_plan_is_shown_as_text_and_carried_out(visit: Visit) -> None:
    """Once allowed, the agent is no longer one that only plans."""
    visit.send("/sim plan # The plan\\n- first\n/sim say Begun.")
    expect(visit.permission.locator("li")).to_have_text("first")
    visit.permission.get_by_role("button", name="Carry it out").first.click()
    visit.await_ending()
    expect(visit.page.locator(".decision")).to_contain_text("Allowed by you")


def test_allowing_always_becomes_a_setting(visit: Visit) -> None:
    """The rule is in the agent's settings, and the same command is not asked about again."""
    visit.send("/sim bash touch a.txt\n/sim say one")
    suggestion = visit.permission.locator(".suggestion", has_text="Allow always").first
    expect(suggestion.locator("code")).to_contain_text("Bash(")
    suggestion.click()
    visit.await_ending()
    visit.send("/sim bash touch a.txt\n/sim say two")
    visit.await_ending(2)
    expect(visit.page.locator(".decision")).to_have_count(1)
    visit.page.locator(".bar").get_by_role("button", name="Settings").click()
    expect(visit.page.locator("[name=allowedRules]")).to_have_value(re.compile(r"Bash\("))


def test_limits_are_kept(visit: Visit) -> None:
    """Amounts are typed in dollars and come back as they were."""
    visit.send("/sim say hi")
    visit.await_ending()
    settings = visit.page.locator(".bar").get_by_role("button", name="Settings")
    settings.click()
    dialog = visit.page.locator("agent-dialog dialog")
    dialog.locator("summary").click()
    dialog.locator("[name=budget]").fill("2.5")
    dialog.locator("[name=turnBudget]").fill("0.1")
    dialog.locator("[name=maxSteps]").fill("9")
    dialog.get_by_label("Plan first").check()
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).not_to_be_visible()
    settings.click()
    expect(dialog.locator("[name=budget]")).to_have_value("2.5")
    expect(dialog.locator("[name=turnBudget]")).to_have_value("0.1")
    expect(dialog.locator("[name=maxSteps]")).to_have_value("9")
    expect(dialog.get_by_label("Plan first")).to_be_checked()


def test_a_turn_tells_what_it_changed(visit: Visit) -> None:
    """Each file with its lines; the diff on demand."""
    visit.send("/sim write notes.txt one line\n/sim say done")
    visit.await_ending()
    changes = visit.page.locator(".changes")
    expect(changes.locator("code.path")).to_have_text("notes.txt")
    expect(changes.locator(".sum").first).to_have_text("+1 −0")
    changes.locator("summary").click()
    expect(changes.locator(".diff .add")).to_have_text("+one line\n")


def test_files_are_looked_at_uploaded_and_deleted(visit: Visit, tmp_path: Path) -> None:
    """A tree, a file as text, what changed, an upload, and the archive."""
    visit.send("/sim write src/app.py print(1)\n/sim say done")
    visit.await_ending()
    visit.page.locator(".bar").get_by_role("button", name="Files").click()
    dialog = visit.page.locator("dialog.files")
    dialog.locator(".entry", has_text="src").click()
    dialog.locator(".entry", has_text="app.py").click()
    expect(dialog.locator(".view pre")).to_have_text("print(1)")
    with visit.page.expect_download() as download:
        dialog.get_by_role("link", name="Download", exact=True).click()
    assert "print(1)" == Path(download.value.path()).read_text()

    upload = tmp_path / "한글 이름.txt"
    upload.write_text("from outside")
    visit.reach(dialog.locator("input[type=file]")).set_input_files(upload)
    dialog.locator(".entry", has_text="한글 이름.txt").click()
    expect(dialog.locator(".view pre")).to_have_text("from outside")
    dialog.get_by_role("tab", name="Changes").click()
    expect(dialog.locator(".changes code.path")).to_have_count(2)
    dialog.get_by_role("tab", name="Files").click()
    dialog.locator(".entry", has_text="한글 이름.txt").click()
    dialog.get_by_role("button", name="Delete").click()
    dialog.get_by_role("button", name="Really delete").click()
    expect(dialog.locator(".entry")).to_have_count(1)
    with visit.page.expect_download() as archive:
        dialog.get_by_role("link", name="ZIP").click()
    assert b"PK" == Path(archive.value.path()).read_bytes()[:2]
