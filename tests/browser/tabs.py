"""A tab that notes all errors in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response


@contextmanager
def opened(browser: Browser, address: str, session: str | None, **how: Any) -> Iterator[Page]:
    """A tab with its own context, made with `how`; `session` is the cookie of a signed-in person.

    It fails at the end of the block if a console complained (also about something that the content
    policy forbids), if any request except the page's own was answered with an error, or if another
    site was asked for anything.
    """
    # Colours would be checked while they fade from one to the other.
    context = browser.new_context(base_url=address, reduced_motion="reduce", **how)
    if session:
        context.add_cookies([{"name": "sessionid", "value": session, "url": address}])
    complaints: list[str] = []

    def console(message: ConsoleMessage) -> None:
        # A page may itself be a refusal that a test looks at. `response` checks all others.
        refusal = message.text.startswith("Failed to load resource: the server responded")
        if message.type in ("error", "warning") and not refusal:
            complaints.append(message.text)

    def request(asked: Request) -> None:
        if not asked.url.startswith((address, f"blob:{address}", "data:")):
            complaints.append(f"asked of another site: {asked.url}")

    def response(answer: Response) -> None:
        if answer.status >= 400 and not answer.request.is_navigation_request():
            complaints.append(f"{answer.status} {answer.url}")

    def failed(asked: Request) -> None:
        # When a page is left, its open requests are cancelled.
        if asked.failure != "net::ERR_ABORTED":
            complaints.append(f"{asked.failure} {asked.url}")

    page = context.new_page()
    page.set_default_timeout(20_000)
    page.on("console", console)
    page.on("pageerror", lambda fault: complaints.append(str(fault)))
    page.on("request", request)
    page.on("response", response)
    page.on("requestfailed", failed)
    yield page
    context.close()
    assert not complaints, complaints
