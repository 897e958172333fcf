"""Rows fixed in place: an untouched value stays as in the file, and no message is false."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from django.http import QueryDict
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from ingestion import validation
from ingestion.cells import ISO_NOTATION
from ingestion.decoding import Row
from ingestion.models import Activity, Upload
from ingestion.outcomes import Rejection
from ingestion.portal.uploads.fix import _Inputs
from ingestion.records import RECORD_TYPES, RecordType
from ingestion.uploads.findings import BadRow, Findings
from ingestion.uploads.fixes import packed
from tests.staff import member, signed_in
from tests.test_upload_pages import as_csv, at, session, upload, words, work

pytestmark = pytest.mark.processes


@pytest.fixture
def uploader(db: None) -> Client:
    return signed_in(member("Uploader"))


class _Form(HTMLParser):
    """The fields of a page's form, as a browser sends them if nobody touches anything."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.sent: dict[str, str] = {}
        self._select = self._area = ""
        self.feed(re.sub(r"\r\n?", "\n", page))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "select":
            self._select = found["name"]
        elif tag == "option" and (self._select not in self.sent or "selected" in found):
            self._choose(found)
        elif tag == "textarea":
            self._area = found["name"]
            self.sent[self._area] = ""
        elif tag == "input" and found.get("type") != "checkbox" and "name" in found:
            one_line = found.get("type") == "text"
            value = found.get("value", "")
            self.sent[found["name"]] = value.replace("\n", "") if one_line else value

    def _choose(self, found: dict[str, str]) -> None:
        self.sent[self._select] = found.get("value", "")

    def handle_data(self, text: str) -> None:
        if self._area:
            self.sent[self._area] += text

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            text = self.sent[self._area]
            self.sent[self._area] = text.removeprefix("\n").replace("\n", "\r\n")
            self._area = ""
        elif tag == "select":
            self._select = ""


def form_of(browser: Client, one: Upload) -> dict[str, str]:
    return _Form(browser.get(at("upload-fix", one)).content.decode()).sent


def fix(browser: Client, one: Upload, **fixes: str) -> Any:
    sent = form_of(browser, one)
    return browser.post(at("upload-fix", one), {**sent, **fixes})


def test_rows_are_fixed_in_place(uploader: Client, store: Redis) -> None:
    content = as_csv(session(1, duration_minutes="ninety"), session(2, tutor_id=""))
    one = upload(uploader, content)
    assert form_of(uploader, one)["fix-2-duration_minutes"] == "ninety"
    fixes = {"fix-2-duration_minutes": "90", "fix-3-tutor_id": "has space"}
    answer = fix(uploader, one, **fixes)
    assert answer.status_code == 422
    assert "Must have no spaces" in words(answer)
    assert "Nothing is saved yet: 1 row is still wrong." in words(answer)
    again = _Form(answer.content.decode()).sent
    assert (again["fix-2-duration_minutes"], again["fix-3-tutor_id"]) == ("90", "has space")
    assert (
        uploader.post(at("upload-fix", one), {**again, "fix-3-tutor_id": "t_1"}).status_code == 302
    )
    work(one)
    assert (one.rows_ready, one.rows_invalid) == (2, 0)
    (entry,) = Activity.objects.filter(action="fixed")
    assert entry.facts == {"rows": 2}


def test_what_is_said_to_be_fixed_is_ready(uploader: Client, store: Redis) -> None:
    """In JSON, a number in quotes is not the same value as the number."""
    record = session(1, session_number="3", duration_minutes=999, no_show="false")
    one = upload(uploader, json.dumps([record]).encode(), record_type="sessions")
    answer = fix(uploader, one, **{"fix-1-duration_minutes": "60"})
    assert answer.status_code == 422
    assert "Use 3" in words(answer)
    assert (one.fixes, one.state) == ({}, "review")
    fixes = {
        "fix-1-duration_minutes": "60",
        "take-1-session_number": "on",
        "fix-1-no_show": "false",
    }
    assert fix(uploader, one, **fixes).status_code == 302
    work(one)
    assert (one.rows_ready, one.rows_invalid) == (1, 0)
    assert one.fixes == {"1": {"duration_minutes": 60, "session_number": 3, "no_show": False}}


def test_a_page_that_was_overtaken_changes_nothing(uploader: Client, store: Redis) -> None:
    bad = session(1, duration_minutes="ninety"), session(2, duration_minutes="ninety")
    one = upload(uploader, as_csv(*bad))
    stale = form_of(uploader, one)
    assert fix(uploader, one, **{"fix-2-duration_minutes": "90"}).status_code == 302
    work(one)
    answer = uploader.post(
        at("upload-fix", one), {**stale, "fix-3-duration_minutes": "45"}, follow=True
    )
    assert "the upload has changed" in words(answer)
    one.refresh_from_db()
    assert one.fixes == {"2": {"duration_minutes": 90}}


def test_long_texts_are_not_cut(uploader: Client, store: Redis) -> None:
    text = "x" * 4_999 + "\n"
    record_type = RECORD_TYPES["feedback"]
    record = {
        **record_type.serializer_class.example,
        "free_text_feedback": text,
        "overall_rating": 9,
    }
    one = upload(uploader, json.dumps([record]).encode())
    assert fix(uploader, one, **{"fix-1-overall_rating": "5"}).status_code == 302
    work(one)
    uploader.post(at("upload-queue", one))
    work(one)
    (raw,) = store.lrange(record_type.queue, 0, -1)
    assert json.loads(raw)["data"]["free_text_feedback"] == text


texts = st.one_of(
    st.sampled_from(
        [
            *(
                "",
                " ",
                "true",
                "False",
                "no",
                "60",
                "0.5",
                "1e999",
                "[]",
                "[1",
                '"x"',
                "a;b",
                "a\nb",
            ),
            *(
                "\na",
                "a\r\nb",
                "a\rb\n",
                "\x00",
                "a\ud800",
                "2024-05-14",
                "03/04/2026",
                "<b>&quot;",
            ),
            *("x" * 300, "é\u2028", "=1", " x ", '"x"', "<b>&quot;"),
        ]
    ),
    st.text(max_size=4),
)
values = st.one_of(
    texts,
    st.none(),
    st.booleans(),
    st.integers(-5, 400),
    st.floats(allow_nan=False),
    st.lists(st.one_of(texts, st.integers(0, 3)), max_size=4),
    st.dictionaries(texts, st.integers(0, 3), max_size=2),
)


@pytest.mark.django_db
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_a_form_that_nobody_touched_changes_nothing(
    record_type: RecordType, data: st.DataObject, uploader: Client
) -> None:
    example = record_type.serializer_class.example
    names = st.sampled_from(list(record_type.serializer_class().fields))
    record = {**example, **data.draw(st.dictionaries(names, values, min_size=1, max_size=5))}
    (verdict,) = validation.validate(record_type, [Row(value=record, line=1)])
    if not isinstance(verdict, Rejection):
        return
    findings = Findings()
    findings.add_bad(
        BadRow(
            line=1,
            fields=packed(record, record_type),
            found=record,
            errors=verdict.errors,
        )
    )
    one = Upload.objects.create(
        file_name="a",
        size_bytes=1,
        sha256="",
        state="review",
        record_type=record_type,
        rows_invalid=1,
        findings=findings.to_json(),
        layout={
            "format": "json",
            "encoding": None,
            "delimiter": None,
            "sheet": "",
            "header_line": 1,
            "columns": None,
            "date_order": None,
            "decimal_comma": False,
            "armed": False,
        },
        uploaded_by_id=uploader.session["_auth_user_id"],
    )
    sent = form_of(uploader, one)
    named = {(error.field or "").partition("[")[0] for error in verdict.errors}
    assert {f"fix-1-{name}" for name in named} <= sent.keys()
    assert uploader.post(at("upload-fix", one), sent).status_code == 302
    one.refresh_from_db()
    assert (one.state, one.fixes) == ("review", {})


@pytest.mark.parametrize(
    ("name", "value", "text", "corrected"),
    [
        ("age", "30", "31", 31),
        ("age", 7, "", None),
        ("age", 7, "thirty", "thirty"),
        ("subjects", [], "Maths; pure\r\n\r\n Art ", ["Maths; pure", "Art"]),
        ("subjects", [], '["a", "b"]', ["a", "b"]),
        ("tutor_id", 7, "t 7", "t 7"),
        ("created_at", "x", "2024-05-14 15:00", "2024-05-14T15:00"),
    ],
)
def test_what_is_typed_is_read_as_a_file_would_be(
    name: str, value: Any, text: str, corrected: Any
) -> None:
    record_type = RECORD_TYPES["tutors"]
    record = json.dumps({**record_type.serializer_class.example, name: value})
    bad = {"line": 4, "fields": record, "errors": [[name, "required", "!"]]}
    row = _Inputs(record_type, ISO_NOTATION).row(bad)
    posted = QueryDict(mutable=True)
    posted[f"fix-4-{name}"] = text
    assert row.typed(posted) == {name: corrected}
    assert html.escape(row.name)
