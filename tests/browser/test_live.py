"""Figures that refresh themselves while a person looks at them, and leave the rest alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect
from redis import Redis

from ingestion import embedded
from ingestion.queues.keys import Keys
from ingestion.records import RECORD_TYPES
from tests.record_types import SESSIONS

KEYS = Keys(SESSIONS.queue)
HIDDEN = """hidden => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.fixture
def store(portal) -> Iterator[Redis]:
    """The running portal's own store."""
    with Redis.from_url(embedded.url(portal.data_dir)) as client:
        yield client


@pytest.fixture
def page(tab) -> Page:
    """The overview, refreshed every 5 seconds of a clock that waits until a test moves it."""
    page = tab("otto", viewport={"width": 1280, "height": 500})
    page.clock.install()
    page.goto("/admin/")
    page.get_by_label("Refresh the figures").select_option("5")
    return page


def depth(store: Redis) -> str:
    return f"{store.llen(SESSIONS.queue):,}"


def add_message(store: Redis) -> str:
    """Add one message to the queue; returns the depth as pages show it."""
    store.lpush(SESSIONS.queue, store.lindex(SESSIONS.queue, 0))
    return depth(store)


def shown(page: Page):
    return page.get_by_role("row", name="Sessions").get_by_role("cell").nth(1)


def test_a_refresh_keeps_focus_selection_scroll_and_open_parts(page, store):
    details = page.locator("details", has_text="Sessions, minute by minute")
    details.locator("summary").click()
    details.locator("summary").focus()
    page.evaluate("window.scrollTo(0, 180)")
    page.evaluate("getSelection().selectAllChildren(document.querySelector('h1'))")
    state = """() => [scrollY, String(getSelection()), document.activeElement.textContent,
        document.querySelectorAll("details[open]").length]"""
    before = page.evaluate(state)
    assert before[:2] == [180, "Overview"]

    wanted = add_message(store)
    expect(shown(page)).not_to_have_text(wanted)
    page.clock.run_for(5_000)
    expect(shown(page)).to_have_text(wanted)
    assert page.evaluate(state) == before


def test_a_link_in_the_refreshed_part_keeps_the_focus(page, store):
    link = page.locator("[data-live]").get_by_role("link", name="Feedback")
    link.focus()
    wanted = add_message(store)
    page.clock.run_for(5_000)
    expect(shown(page)).to_have_text(wanted)
    expect(link).to_be_focused()


def test_consumers_and_dead_letters_are_refreshed_and_their_link_keeps_the_focus(page, store):
    link = page.get_by_role("link", name="dead letters")
    link.focus()
    page.evaluate("window.scrollTo(0, 120)")
    letter = store.lindex(KEYS.dead, 0)
    dead = store.lpush(KEYS.dead, letter)
    store.zadd(KEYS.leases, {"newcomer": 2**45})
    store.lpush(KEYS.claimed("newcomer"), letter)
    consumers = page.locator(".readers").first
    expect(consumers).to_contain_text("2 consumers, 17 in flight")
    page.clock.run_for(5_000)
    expect(link).to_have_text(f"{dead} dead letters")
    expect(consumers).to_contain_text("3 consumers, 18 in flight")
    expect(link).to_be_focused()
    assert page.evaluate("scrollY") == 120
    # As long as it has the focus it stays, even if the rest of its row goes.
    store.zrem(KEYS.leases, "newcomer")
    store.delete(KEYS.claimed("newcomer"))
    store.lrem(KEYS.dead, 1, letter)
    page.clock.run_for(5_000)
    expect(link).to_have_text(f"{dead - 1} dead letters")
    expect(link).to_be_focused()


def test_the_first_dead_letter_shows_up_by_itself(page, store):
    key = Keys(RECORD_TYPES["tutors"].queue).dead
    row = page.locator(".meaning").first
    expect(row).not_to_contain_text("dead letter")
    store.lpush(key, b"{}")
    page.clock.run_for(5_000)
    expect(row).to_contain_text("1 dead letter")
    store.delete(key)
    page.clock.run_for(5_000)
    expect(row).not_to_contain_text("dead letter")


def test_a_hidden_tab_asks_for_nothing_and_is_up_to_date_once_it_is_seen(page, store):
    page.evaluate(HIDDEN, True)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    wanted = add_message(store)
    page.clock.run_for(120_000)
    assert asked == []
    page.evaluate(HIDDEN, False)
    expect(shown(page)).to_have_text(wanted)


def test_refresh_can_be_switched_off_and_stays_so(page, store):
    page.get_by_label("Refresh the figures").select_option("0")
    page.reload()
    expect(page.get_by_label("Refresh the figures")).to_have_value("0")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.run_for(120_000)
    assert asked == []
    wanted = add_message(store)
    page.get_by_role("link", name="Refresh").click()
    expect(shown(page)).to_have_text(wanted)


def test_a_person_who_was_signed_out_meanwhile_is_told(page):
    page.context.clear_cookies()
    page.clock.run_for(5_000)
    expect(page.get_by_text("You are signed out.")).to_be_visible()
