"""Every address of the portal gets an answer, and never a server error (5xx), whatever it holds.

There are about a hundred addresses with the other tests, and 5,000 with `make faults`; the seed
makes them reproducible.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from django.contrib.admin import ModelAdmin
from django.contrib.auth.models import User
from django.test import Client
from django.urls import URLPattern, URLResolver

from ingestion import intake
from ingestion.decoding import Row
from ingestion.file_rows import Layout
from ingestion.files.shape import Shape
from ingestion.models import Activity, ApiClient, Upload
from ingestion.portal.lists import PortalAdmin
from ingestion.portal.urls import urlpatterns
from ingestion.records import RECORD_TYPES
from ingestion.sources import Source
from ingestion.uploads import layouts
from tests.faults.figures import Figures, Outcome, count
from tests.staff import GROUPS, member, signed_in

TRIALS = count(short=240, long=5000)

NAMES = (
    *("q", "o", "p", "all", "e", "_popup", "_to_field", "_facets", "_changelist_filters", "next"),
    *("id", "order", "page", "type", "code", "rejection", "fixes", "message", "username", "groups"),
    *("uploaded_at__year", "uploaded_at__month", "uploaded_at__day", "uploaded_at__gte"),
    *("at__year", "at__month", "at__day", "state__exact", "state__isnull", "action__exact"),
    *("uploaded_by__id__exact", "user__id__exact", "uploaded_by__isnull", "groups__id__exact"),
    *("is_active__exact", "is_superuser__exact", "record_type__exact", "findings__icontains"),
    *("verdicts", "sha256__regex", "parent__parent__file_name", "password", "pk", "id__in"),
    *("places__0", "layout__a__b__c", "uploaded_at__year__year", "__", "a__", "\x00", "é"),
)
VALUES = (
    *("", "0", "1", "-1", "2", "x", "None", "True", "false", "1.5", "1e999", "nan", "٣", "²"),
    *("99999999", "9999", "10000", "9" * 19, "9" * 40, "9" * 5000, "-" + "9" * 30, "0x1", "1_0"),
    *("a " * 1500, "x" * 1999, "x" * 2001, "'\"" * 90, "%" * 150, "\\" * 150, "_" * 150),
    *("\x00", "a\x00b", "\r\nX: y", "\x1b[31m", "\ud800", "\u202e", "💥", "<script>", "{{7*7}}"),
    *("a,b", ",", "[]", "{}", '{"a":1}', "../..", "//evil.example", "javascript:1", "1' OR 1=1--"),
    *("^(([0-9a-f])+)+x$", "tutors", "newest", "oldest", "done", "1.2.-3", "-", "--1", "1.1.1.1"),
)
FIELDS = (
    *("action", "_selected_action", "select_across", "index", "_save", "_popup", "_to_field"),
    *("post", "reason", "count", "message", "order", "copies", "minutes", "name", "scopes", "days"),
    *("overlap", "newest", "username", "password", "password1", "password2", "groups", "is_staff"),
    *("usable_password", "set-password", "rows", "file", "record_type", "fixes", "json", "fill"),
    *("check", "form", "tutor_id", "age", "subjects", "as-sent-age", "as-sent-subjects", "no_show"),
    *("onboarding_date", "date_order", "header_line", "column-0", "seen", "next", "old_password"),
)
PARTS = (
    *("1", "2", "0", "-1", "9" * 19, "9" * 40, "9" * 5000, "x", "%00", "a%0ab", "%ff", "..", "%2e"),
    *(
        "tutors",
        "sessions",
        "csv",
        "xlsx",
        "nothing",
        "a-b",
        "é",
        "x" * 300,
        "1_2F",
        "_5B",
        "password",
    ),
)


def routes(patterns: list[Any], before: str = "") -> Iterator[str]:
    """Every route of the portal, with `<…>` for its parameters."""
    for one in patterns:
        route = before + str(one.pattern)
        if isinstance(one, URLResolver):
            yield from routes(one.url_patterns, route)
        elif isinstance(one, URLPattern) and not route.startswith("^"):
            yield route


ROUTES = sorted(set(routes(urlpatterns)))


def hostile(chance: random.Random) -> str:
    """An address that no page makes."""
    parts = chance.choice(ROUTES).split("/")
    filled = [
        (chance.choice(PARTS) if "<" in part else part)
        if chance.random() < 0.97
        else quote(chance.choice(VALUES), errors="surrogatepass")
        for part in parts
    ]
    query = [
        (chance.choice(NAMES), chance.choice(VALUES)) for _ in range(chance.choice((0, 1, 1, 2, 4)))
    ]
    encoded = urlencode(query, errors="surrogatepass")
    return f"/admin/{'/'.join(filled)}?{encoded}"


@pytest.fixture
def people(db: None, store: Any) -> list[Client]:
    """A browser for each role and for a stranger, and some content."""
    browsers = [signed_in(member(group)) for group in GROUPS]
    root = User.objects.create_superuser("root")
    layout = layouts.to_json(Layout(shape=Shape(file_format="ndjson")))
    for number, state in enumerate([*Upload.State] * 9):
        upload = Upload.objects.create(
            file_name=f"{number}.csv",
            size_bytes=1,
            uploaded_by=root,
            layout=layout,
            state=Upload.State.DONE if state == Upload.State.CHECK else state,
        )
    Activity.objects.create(user=root, user_name="root", action="paused", upload=upload)
    ApiClient.objects.create(name="crm")
    for record_type in RECORD_TYPES.values():
        rows = [Row(value=record_type.serializer_class.example), Row(value={})]
        intake.queue(intake.receive(record_type, rows), source=Source(client="crm"))
    browsers += [signed_in(root), Client()]
    for browser in browsers:
        browser.raise_request_exception = False
    return browsers


def form(chance: random.Random) -> dict[str, list[str]]:
    """Values that no form of the portal sends."""
    return {
        chance.choice(FIELDS): [chance.choice(VALUES).replace("\ud800", "?")]
        * chance.choice((1, 1, 2, 60))
        for _ in range(chance.choice((0, 1, 3, 6)))
    }


def test_no_form_is_a_fault(people: list[Client]) -> None:
    chance = random.Random(20260402)
    found = {}
    for _ in range(count(short=120, long=2000)):
        address, sent = hostile(chance).partition("?")[0], form(chance)
        answer = chance.choice(people).post(address, sent)
        if answer.status_code >= 500:
            found[address] = sent
    assert found == {}


def faults(people: list[Client], *, trials: int, lists_alone: bool = False) -> dict[str, int]:
    """The hostile addresses that were answered with a server error."""
    chance = random.Random(20260401)
    found: dict[str, int] = {}
    for _ in range(trials):
        address = hostile(chance)
        if lists_alone:
            address = f"/admin/uploads/?{address.partition('?')[2]}"
        answer = chance.choice(people).get(address)
        if answer.status_code >= 500:
            found[address] = answer.status_code
        if answer.streaming:
            b"".join(answer)
    return found


def test_no_address_is_a_fault(people: list[Client], figures: Figures) -> None:
    assert len(ROUTES) > 40
    assert faults(people, trials=TRIALS) == {}
    outcome = Outcome(trials=TRIALS)
    figures.add("A5", "hostile addresses of the portal, by every role", outcome, remark="0 5xx")


def test_without_closed_lists_some_are(
    people: list[Client], figures: Figures, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("get_changelist", "get_changelist_instance"):
        monkeypatch.setattr(PortalAdmin, name, getattr(ModelAdmin, name))
    found = faults(people, trials=100, lists_alone=True)
    assert found
    figures.add_control("A5", f"lists that take any lookup: {len(found)} 5xx of 100")
