"""The store does not answer: every page says so, and shows the last known state."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import expect
from redis import Redis

from ingestion import embedded

AWAY = re.compile("does not answer|did not answer")
NEEDS_STORE = (
    "/admin/",
    "/admin/queues/tutors/",
    "/admin/queues/feedback/",
    "/admin/queues/sessions/dead/",
    "/admin/rejections/",
    "/admin/uploads/1/",
)
NEEDS_NONE = (
    "/admin/upload/",
    "/admin/uploads/",
    "/admin/uploads/2/",
    "/admin/uploads/2/fix/",
    "/admin/enter/tutors/",
    "/admin/guide/tutors/",
    "/admin/ingestion/activity/",
    "/admin/queues/tutors/pause/",
)


@contextmanager
def held_still(portal) -> Iterator[None]:
    """The store answers nothing inside the block."""
    with Redis.from_url(embedded.url(portal.data_dir)) as client:
        store = client.info("server")["process_id"]
    os.kill(store, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(store, signal.SIGCONT)
        # After a time-out the portal does not call the store for a second. Wait for the next test.
        portal.wait_for(lambda: portal.get("/api/queue/stats").status == 200)


@pytest.fixture
def stopped_store(portal, tab) -> Iterator[None]:
    """The store, stopped after the overview was opened once."""
    seen = tab("otto")
    seen.goto("/admin/")
    with held_still(portal):
        yield


@pytest.mark.usefixtures("stopped_store")
def test_every_page_answers_and_says_so(tab):
    operator, uploader = tab("otto"), tab("uma")
    for path in NEEDS_STORE:
        assert operator.goto(path).status == 200, path
        expect(operator.get_by_text(AWAY).first).to_be_visible()
        expect(operator.get_by_role("heading", level=1)).to_be_visible()
    for path in NEEDS_NONE:
        page = operator if "pause" in path else uploader
        assert page.goto(path).status == 200, path
        expect(page.get_by_role("heading", level=1)).to_be_visible()


@pytest.mark.usefixtures("stopped_store")
def test_the_last_known_numbers_are_shown_as_such_and_never_as_zeros(tab):
    page = tab("otto")
    page.goto("/admin/")
    expect(page.get_by_text(re.compile(r"as of \d\d:\d\d:\d\d"))).to_be_visible()
    row = page.locator(".stale").get_by_role("row", name="Sessions")
    expect(row.get_by_text("Unreachable")).to_be_visible()
    assert int(row.get_by_role("cell").nth(1).inner_text().replace(",", "")) > 0


def test_a_change_that_the_store_never_answered_is_told_as_unknown(portal, tab):
    page = tab("otto")
    # Not a pause: the store may make it later, and other tests need the queue.
    page.goto("/admin/queues/tutors/resume/")
    page.get_by_label("Reason").fill("Nobody hears this")
    # Only now: a page that finds the store away delays the next command by a second.
    with held_still(portal):
        page.get_by_role("button", name="Resume the queue").click()
        expect(page.get_by_text("It is unknown whether this was done")).to_be_visible()
