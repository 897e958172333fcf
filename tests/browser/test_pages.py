"""Every page, light and dark, wide and narrow: accessible to everybody, and without errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.urls import URLPattern, URLResolver
from playwright.sync_api import Page, expect

from ingestion.portal.urls import urlpatterns
from tests.browser.places import PLACES

WCAG = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
WIDE, NARROW = 1280, 390

# Elements that overflow the window at the right and cannot be reached by scrolling.
CUT_OFF = """() => [...document.querySelectorAll("main :is(a, button, input, label, p, li)")]
    .filter((one) => one.checkVisibility() && one.getBoundingClientRect().right > innerWidth + 1)
    .filter((one) => {
        while ((one = one.parentElement)) {
            if (/auto|scroll/.test(getComputedStyle(one).overflowX)) return false;
        }
        return true;
    })
    .map((one) => one.outerHTML)"""

# Messages of a list in which one cell covers another: on a phone a grid places them.
PRINTED_OVER = """() => [...document.querySelectorAll(".messages tr")].filter((row) => {
    const boxes = [...row.cells].filter((one) => one.checkVisibility()).map((one) => {
        const range = document.createRange();
        range.selectNodeContents(one);
        return range.getBoundingClientRect();
    });
    const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1
        && a.top < b.bottom - 1 && b.top < a.bottom - 1;
    return boxes.some((one, at) => boxes.slice(at + 1).some((other) => meet(one, other)));
}).map((row) => row.innerText)"""

# The longest time beside a short one: the texts must fit at every minute of an hour.
LONGEST_TIMES = """() => document.querySelectorAll(".messages time").forEach((one) => {
    one.textContent = one.textContent.includes(" ago") ? "59 min 59 s ago" : "1 h";
})"""

# Answers that are not pages: files, numbers for scripts, changes that end in a redirect, and
# addresses that refuse everybody.
NOT_PAGES = {
    "queue-put-back",
    "upload-progress",
    "upload-original",
    "upload-to-fix",
    "upload-queue",
    "upload-cancel",
    "upload-retry",
    "upload-recall",
    "template",
    "autocomplete",
    "jsi18n",
    "view_on_site",
    "app_list",
    "auth_group_add",
    "auth_group_delete",
}


def _names(patterns: Sequence[URLPattern | URLResolver]) -> Iterator[str]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from _names(pattern.url_patterns)
        elif pattern.name:
            yield pattern.name


def test_no_page_is_forgotten():
    assert {place.page for place in PLACES if place.page} == set(_names(urlpatterns)) - NOT_PAGES


def violations(tab: Page) -> list[str]:
    """The violations that axe-core finds on the page."""
    options = {
        "runOnly": {"type": "tag", "values": WCAG},
        "resultTypes": ["violations"],
        # It would load stylesheets again, from wrong addresses, for rules that are not checked.
        "preload": False,
    }
    found = Axe().run(tab, options=options).response["violations"]
    return [
        f"{one['id']}: {node['html'][:200]} {node['failureSummary']}"
        for one in found
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_a_page_is_fit_for_everybody(tab, school, place):
    page = tab(place.person, viewport={"width": WIDE, "height": 800})
    place.open(page, school)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert page.title() != ""
    faults = violations(page)
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": NARROW, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW
    assert page.evaluate(CUT_OFF) == []
    page.evaluate(LONGEST_TIMES)
    assert page.evaluate(PRINTED_OVER) == []
    # These combinations test both schemes and both widths: a scheme changes no layout, and a width
    # changes no colour.
    assert faults + violations(page) == []


@pytest.mark.parametrize(
    "path", ["/admin/ingestion/activity/", "/admin/uploads/", "/admin/auth/user/"]
)
def test_a_list_fits_beside_its_filters(tab, path):
    page = tab("ada", viewport={"width": WIDE, "height": 800})
    page.goto(path)
    right = "element => element.getBoundingClientRect().right"
    card = page.locator(".changelist-form-container").evaluate(right)
    assert page.locator("#result_list").evaluate(right) <= card


@pytest.mark.parametrize("button", ["Menu", "Your account"])
def test_a_menu_on_a_phone_is_fit_for_everybody_and_closed_by_escape(tab, button):
    page = tab("uma", viewport={"width": NARROW, "height": 800}, color_scheme="dark")
    page.goto("/admin/guide/tutors/")
    page.get_by_role("button", name=button).click()
    opened = page.locator("[popover]:popover-open")
    expect(opened).to_be_visible()
    assert violations(page) == []
    page.keyboard.press("Escape")
    expect(opened).not_to_be_visible()
    expect(page.get_by_role("button", name=button)).to_be_focused()
