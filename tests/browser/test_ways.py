"""The main ways of staff through the portal: by keyboard alone, and with scripts off."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect
from redis import Redis

from ingestion import embedded
from ingestion.queues.keys import Keys
from tests.browser.school import PASSWORD, table
from tests.record_types import SESSIONS, TUTORS

MOST_TABS = 60
DEAD = Keys(SESSIONS.queue).dead


@pytest.fixture
def store(portal) -> Iterator[Redis]:
    """The running portal's own store."""
    with Redis.from_url(embedded.url(portal.data_dir)) as client:
        yield client


@pytest.fixture(params=[True, False], ids=["scripts on", "scripts off"])
def scripts(request) -> bool:
    """Whether the browser runs scripts."""
    on: bool = request.param
    return on


def queued(store: Redis, record_type: Any) -> list[str]:
    """The ids of the records on a queue, the newest first."""
    messages = (json.loads(raw) for raw in store.lrange(record_type.queue, 0, -1))
    return [message["data"][record_type.id_field] for message in messages]


def sessions(prefix: str) -> list[dict[str, Any]]:
    """Five sessions; the second and the third are not valid."""
    example = dict(SESSIONS.serializer_class.example)
    found = [{**example, "session_id": f"{prefix}-{number}"} for number in range(5)]
    found[1]["engagement_score"] = "87%"
    found[2]["duration_minutes"] = "an hour"
    return found


def file(name: str, records: list[dict[str, Any]]) -> dict[str, Any]:
    """A CSV file for an input of a page."""
    return {"name": name, "mimeType": "text/csv", "buffer": table(records).encode()}


def until_still(page: Page, *, scripts: bool) -> None:
    """Wait for the worker. A page without scripts must be reloaded; others do it themselves."""
    progress = page.get_by_role("progressbar", name="Progress")
    if scripts:
        expect(progress).to_have_count(0, timeout=120_000)
        return
    for _ in range(100):
        if not progress.count():
            return
        page.wait_for_timeout(100)
        page.reload()
    pytest.fail("the upload is still at work")


def press_with_keys(page: Page, wanted: Locator, key: str = "Enter") -> None:
    """Press the Tab key until `wanted` has the focus and a visible ring; then press `key`."""
    expect(wanted).to_be_visible()
    for _ in range(MOST_TABS):
        if wanted.evaluate("element => element === document.activeElement"):
            assert wanted.evaluate("element => element.matches(':focus-visible')")
            page.keyboard.press(key)
            return
        page.keyboard.press("Tab")
    pytest.fail(f"the Tab key never comes to {wanted}")


def test_a_file_is_queued_by_keyboard_alone(tab, store):
    page = tab(None)
    page.goto("/admin/")
    # The page gives its first field the focus, so a person can type at once.
    page.keyboard.type("uma")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    press_with_keys(page, page.get_by_role("link", name="New upload").first)
    expect(page.get_by_role("heading", name="New upload")).to_be_visible()
    with page.expect_file_chooser() as chooser:
        press_with_keys(page, page.get_by_label("Choose a file"))
    chooser.value.set_files(file("keys.csv", sessions("keys")))
    press_with_keys(page, page.get_by_role("button", name="Upload and check"))
    press_with_keys(page, page.get_by_role("button", name="Queue 3 ready rows"))
    expect(page.locator(".badge", has_text="Done")).to_be_visible()
    assert queued(store, SESSIONS)[:3] == ["keys-4", "keys-3", "keys-0"]


def test_the_first_stop_of_the_tab_key_leads_past_the_navigation(tab):
    page = tab("uma")
    page.goto("/admin/guide/tutors/")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    inside = "document.querySelector('#content-start').contains(document.activeElement)"
    assert page.evaluate(inside)


def test_signing_in_and_out_needs_no_script(tab, scripts):
    page = tab(None, java_script_enabled=scripts)
    page.goto("/admin/uploads/")
    page.get_by_label("Username").fill("otto")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Uploads", level=1)).to_be_visible()
    page.get_by_role("button", name="otto").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    page.goto("/admin/uploads/")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_file_is_uploaded_reviewed_fixed_and_queued(tab, store, scripts):
    page = tab("uma", java_script_enabled=scripts)
    prefix = f"way-{scripts}"
    page.goto("/admin/upload/")
    page.get_by_label("Choose a file").set_input_files(file(f"{prefix}.csv", sessions(prefix)))
    page.get_by_role("button", name="Upload and check").click()
    expect(page.get_by_role("heading", name=re.compile("^Upload [0-9]"))).to_be_visible()
    until_still(page, scripts=scripts)
    expect(page.get_by_role("button", name="Queue 3 ready rows")).to_be_visible()

    page.get_by_role("link", name="Fix rows here").click()
    page.get_by_label("Engagement score").fill("0.87")
    page.get_by_label("Duration minutes").fill("60")
    page.get_by_role("button", name="Save and read again").click()
    until_still(page, scripts=scripts)
    page.get_by_role("button", name="Queue 5 ready rows").click()
    expect(page.get_by_role("heading", name="Where the rows are")).to_be_visible()
    until_still(page, scripts=scripts)
    expect(page.locator(".badge", has_text="Done")).to_be_visible()
    assert queued(store, SESSIONS)[:5] == [f"{prefix}-{number}" for number in (4, 3, 2, 1, 0)]


def test_a_queue_is_paused_and_resumed(tab, portal, scripts):
    page = tab("otto", java_script_enabled=scripts)
    record = {**TUTORS.serializer_class.example, "tutor_id": f"paused-{scripts}"}
    page.goto("/admin/queues/tutors/")
    page.get_by_role("link", name="Pause").click()
    page.get_by_label("Reason").fill("Moving house")
    page.get_by_role("button", name="Pause the queue").click()
    expect(page.locator(".verdict")).to_have_text("Paused")
    assert portal.post("/api/tutors", record).status == 503

    page.get_by_role("link", name="Resume").click()
    page.get_by_label("Reason").fill("Moved")
    page.get_by_role("button", name="Resume the queue").click()
    expect(page.locator(".verdict")).not_to_have_text("Paused")
    assert portal.post("/api/tutors", record).status == 201


def test_messages_are_discarded_and_put_back(tab, store, scripts):
    page = tab("otto", java_script_enabled=scripts)
    before = queued(store, SESSIONS)
    page.goto("/admin/queues/sessions/")
    page.get_by_role("checkbox", name=f"Select {before[-1]}").check()
    page.get_by_role("button", name="Discard selected").click()
    page.get_by_label("Reason").fill("Sent twice")
    page.get_by_label("Type 1 to confirm").fill("1")
    page.get_by_role("button", name="Discard 1 message").click()
    expect(page.get_by_text("1 discarded.")).to_be_visible()
    assert queued(store, SESSIONS) == before[:-1]
    page.get_by_role("button", name="Put 1 back").click()
    expect(page.get_by_text("1 put back:")).to_be_visible()
    assert queued(store, SESSIONS) == before


def test_dead_letters_are_looked_at_put_back_and_discarded(tab, store, scripts):
    page = tab("otto", java_script_enabled=scripts)
    before = queued(store, SESSIONS)
    letters = [json.loads(raw)["data"]["session_id"] for raw in store.lrange(DEAD, 0, -1)]
    page.goto("/admin/")
    page.get_by_role("link", name=f"{len(letters)} dead letters").click()
    page.get_by_role("button", name=f"Show why {letters[-1]} failed").click()
    expect(page.get_by_role("heading", name="Why it failed")).to_be_visible()
    expect(page.locator(".reason")).to_contain_text("Error: ")
    page.get_by_role("link", name="Back to the dead letters").click()

    page.get_by_role("checkbox", name=f"Select {letters[-1]}").check()
    page.get_by_role("button", name="Put selected back").click()
    page.get_by_role("button", name="Put 1 back").click()
    expect(page.get_by_text("1 put back.")).to_be_visible()
    assert queued(store, SESSIONS) == [*before, letters[-1]]

    page.get_by_role("checkbox", name=f"Select {letters[-2]}").check()
    page.get_by_role("button", name="Discard selected").click()
    page.get_by_label("Reason").fill("It never was a session")
    page.get_by_label("Type 1 to confirm").fill("1")
    page.get_by_role("button", name="Discard 1 permanently").click()
    expect(page.get_by_text("1 discarded.")).to_be_visible()
    assert store.llen(DEAD) == len(letters) - 2


def test_a_dead_letter_is_put_back_by_keyboard_alone(tab, store):
    page = tab("otto")
    page.goto("/admin/queues/sessions/dead/")
    before = store.llen(DEAD)
    boxes = page.get_by_role("checkbox", name=re.compile("^Select (?!all)"))
    press_with_keys(page, boxes.first, " ")
    press_with_keys(page, page.get_by_role("button", name="Put selected back"))
    expect(page.get_by_label("Reason")).to_be_visible()
    press_with_keys(page, page.get_by_role("button", name="Put 1 back"))
    expect(page.get_by_text("1 put back.")).to_be_visible()
    assert store.llen(DEAD) == before - 1


def test_a_refused_record_is_fixed_and_sent(tab, store, portal, scripts):
    record_id = f"refused-{scripts}"
    example = {**SESSIONS.serializer_class.example, "session_id": record_id}
    assert portal.post("/api/sessions", {**example, "duration_minutes": 900}).status == 422

    page = tab("uma", java_script_enabled=scripts)
    page.goto("/admin/rejections/")
    page.locator("tbody th a").first.click()
    page.get_by_role("link", name="Fix and send").click()
    expect(page.get_by_label("Session id")).to_have_value(record_id)
    page.get_by_label("Duration minutes").fill("90")
    page.get_by_role("button", name="Queue this session").click()
    expect(page.get_by_text("Fixed.")).to_be_visible()
    assert queued(store, SESSIONS)[0] == record_id


def test_a_record_is_entered_by_hand(tab, store, scripts):
    record_id = f"entered-{scripts}"
    page = tab("uma", java_script_enabled=scripts)
    page.goto("/admin/enter/tutors/")
    page.get_by_role("button", name="Queue this tutor").click()
    expect(page.get_by_text("Nothing was queued")).to_be_visible()
    for name, value in {
        "tutor_id": record_id,
        "name": "Łucja Żółć",
        "email": "lucja@example.com",
        "age": "30",
        "location": "Gdańsk",
        "education_level": "PhD",
        "subjects": "Maths\nPhysics",
        "onboarding_date": "2024-05-14T15:00:00",
        "tenure_days": "3",
        "baseline_sessions_per_week": "4",
    }.items():
        page.locator(f"[name={name}]").fill(value)
    page.locator("[name=subject_type]").select_option("STEM")
    page.locator("[name=behavioral_archetype]").select_option("steady")
    page.get_by_role("button", name="Queue this tutor").click()
    expect(page.locator(".messagelist")).to_contain_text(record_id)
    assert queued(store, TUTORS)[0] == record_id
