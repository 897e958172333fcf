"""One portal in the middle of its working day, and tabs of its staff in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browser import tabs
from tests.browser.chromium import CHROMIUM, chromium
from tests.browser.school import School, fill
from tests.portal_process import Portal, running_portal


def pytest_itemcollected(item: pytest.Item) -> None:
    """Each test here starts processes, and shares some with its neighbours."""
    item.add_marker("processes")
    item.add_marker(pytest.mark.xdist_group("browser"))


@pytest.fixture(scope="session")
def portal(tmp_path_factory) -> Iterator[Portal]:
    """The whole portal, as people start it."""
    if not CHROMIUM.exists():
        pytest.skip(
            f"No page was opened in a browser: {CHROMIUM} is not there. "
            "`apt-get install chromium` brings it."
        )
    with running_portal(tmp_path_factory.mktemp("browser") / "var") as running:
        yield running


@pytest.fixture(scope="session")
def school(portal: Portal) -> School:
    """The content of that portal."""
    return fill(portal)


# Not for the whole session: while it is open, Django thinks that every test is asynchronous.
@pytest.fixture(scope="module")
def browser(portal: Portal) -> Iterator[Browser]:
    """Chromium."""
    with chromium() as found:
        yield found


@pytest.fixture
def tab(browser: Browser, portal: Portal, school: School) -> Iterator[Callable[..., Page]]:
    """`tab("uma", …)` opens a tab in which Uma is signed in; any error in it fails the test.

    With None nobody is signed in; the other arguments go to the browser's context.
    """
    with ExitStack() as opened:

        def open_tab(person: str | None, **how: Any) -> Page:
            session = school.sessions[person] if person else None
            return opened.enter_context(tabs.opened(browser, portal.address, session, **how))

        yield open_tab
