"""A tab that notes whatever goes wrong in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response


@contextmanager
def opened(browser: Browser, address: str, session: str | None, **how: Any) -> Iterator[Page]:
    """A tab in a context of its own, made with `how`; `session` is the cookie of a signed-in one.

    At the end of the block it fails where a console complained (which tells of what the content
    policy forbids too), where anything but a page itself was answered with an error, and where
    anything was asked of another site.
    """
    # Colours that fade from one to the other would be judged on their way.
    context = browser.new_context(base_url=address, reduced_motion="reduce", **how)
    if session:
        context.add_cookies([{"name": "sessionid", "value": session, "url": address}])
    complaints: list[str] = []

    def console(message: ConsoleMessage) -> None:
        # A page that is itself a refusal is one to look at; `response` sees to all others.
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
        # What a page still asks for when it is left is called off.
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
