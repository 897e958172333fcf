"""GET / : what this is and where things are."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from ingestion.records import RECORD_TYPES

SENT_TO = {path for path in RECORD_TYPES} | {f"{path}_batch" for path in RECORD_TYPES}


class Page(HTMLParser):
    """What matters of the page here: its links, and what it loads or runs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loaded: list[str] = []
        self.inline: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "a":
            self.links.add(given["href"])
        elif "src" in given or tag == "link":
            self.loaded.append(given.get("src") or given["href"])
        elif tag in ("script", "style"):
            self.inline.append(tag)
        self.inline += [name for name in given if name == "style" or name.startswith("on")]


def test_it_works(client, settings):
    answer = client.get("/")
    assert answer.status_code == 200
    body = answer.json()
    assert list(body) == ["name", "version", "status", "endpoints"]
    assert body["version"] == settings.VERSION
    assert body["status"] == "running"


def test_every_address_that_it_names_is_there(client, store):
    named = client.get("/").json()["endpoints"]
    assert named.keys() > SENT_TO
    assert re.fullmatch(r"/api/feedback/batch", named["feedback_batch"])
    for word, address in named.items():
        answer = client.get(address)
        if word in SENT_TO:
            assert (answer.status_code, answer["Allow"]) == (405, "POST")
        else:
            assert answer.status_code in (200, 302), address


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        (BROWSER, True),
        ("text/html", True),
        ("text/html;q=0.9, application/json;q=0.1", True),
        ("*/*", False),
        ("application/json", False),
        ("application/json, text/html;q=0.9", False),
        ("image/png", False),
        ("text/html;q=0", False),
        (",;=", False),
        ("text/html;charset*=no-such''x" * 3, False),
        ("", False),
    ],
)
def test_only_who_prefers_a_page_gets_one(client, accept, page):
    answer = client.get("/", headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/html" if page else "application/json")
    assert "accept" in answer["Vary"].lower()


def test_the_page_links_to_all_that_a_browser_can_open(client):
    named = client.get("/").json()["endpoints"]
    page = Page(client.get("/", headers={"Accept": BROWSER}).text)
    assert page.links == {address for word, address in named.items() if word not in SENT_TO}


def test_the_page_shows_where_records_are_sent(client):
    named = client.get("/").json()["endpoints"]
    text = client.get("/", headers={"Accept": BROWSER}).text
    for word in SENT_TO:
        assert f"POST {named[word]}<" in text


def test_the_page_holds_nothing_inline_and_loads_nothing_from_elsewhere(client):
    page = Page(client.get("/", headers={"Accept": BROWSER}).text)
    assert page.inline == []
    assert page.loaded
    assert all(address.startswith("/static/") for address in page.loaded)
