"""A form value that nobody touched stays the same or is refused; it never becomes another."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingestion import intake, queues, validation
from ingestion.cells import converter
from ingestion.decoding import Row
from ingestion.portal.records.entry_form import EntryForm
from ingestion.records import RECORD_TYPES
from ingestion.sources import Source
from tests.record_types import SESSIONS, TUTORS
from tests.staff import member, signed_in
from tests.test_enter_record import queued

KINDS = list(RECORD_TYPES.values())

_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,3})?)?")


class Browser(HTMLParser):
    """What a browser sends of a form that nobody touched (HTML standard, value sanitization)."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.sent: dict[str, str] = {}
        self._area = self._select = ""
        self._text = ""
        # A page is text in UTF-8, its line ends are LF, and NUL is replaced.
        html = html.encode(errors="replace").decode()
        self.feed(html.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "\ufffd"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        name, value = given.get("name", ""), given.get("value", "")
        if tag == "textarea":
            self._area, self._text = name, ""
        elif tag == "select":
            self._select = name
        elif tag == "option" and (self._select not in self.sent or "selected" in given):
            self.sent[self._select] = value
        elif tag == "input" and name:
            self.sent[name] = self._sanitized(given.get("type", "text"), value)

    def handle_data(self, data: str) -> None:
        self._text += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            text = self._text.removeprefix("\n").replace("\r\n", "\n").replace("\r", "\n")
            self.sent[self._area] = text.replace("\n", "\r\n")

    @staticmethod
    def _sanitized(kind: str, value: str) -> str:
        if kind == "hidden":
            return re.sub(r"\r\n|\r|\n", "\r\n", value)
        value = re.sub(r"[\r\n]", "", value)
        if kind == "email":
            return value.strip(" \t\f")
        if kind == "number":
            return value if _NUMBER.fullmatch(value) else ""
        if kind == "datetime-local":
            if not _MOMENT.fullmatch(value):
                return ""
            return re.sub(r"(:00)?(\.0+)?$", "", value) if value.count(":") == 2 else value
        return value


def sent_back(record_type: Any, record: dict[str, Any]) -> dict[str, Any]:
    """The record that results when the form for `record` is opened and sent untouched."""
    form = EntryForm(record_type, record=record)
    return EntryForm(record_type, Browser("".join(map(str, form))).sent).record()


def verdict(record_type: Any, record: dict[str, Any]) -> Any:
    (found,) = validation.validate(record_type, [Row(value=record)])
    return found


def content(found: validation.Valid) -> dict[str, Any]:
    """The record in the form that goes on the queue."""
    record: dict[str, Any] = json.loads(found.content)
    return record


def meaning(record_type: Any, record: dict[str, Any]) -> dict[str, Any] | None:
    """What may be queued for the record: itself, or the reading of a file with the same values."""
    plain = verdict(record_type, record)
    if isinstance(plain, validation.Valid):
        return content(plain)
    fields = record_type.serializer_class().fields
    read: dict[str, Any] = {}
    for name, field in fields.items():
        if name not in record:
            continue
        value = record[name]
        number = isinstance(value, int) and not isinstance(value, bool)
        if converter(field) is str:
            value = str(value) if number else value
        elif isinstance(value, str):
            if not value.strip():
                continue
            value = converter(field)(value.strip())
        elif number:
            found = converter(field)(str(value))
            value = found if isinstance(found, bool) else value
        if value is None and not field.required and not field.allow_null:
            continue
        read[name] = value
    found = verdict(record_type, read)
    return content(found) if isinstance(found, validation.Valid) else None


VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, 2, -1, 0.0, 1.0, 62.0, 0.5, 1e22, -0.0, 2**31, "0", "1"),
    *("", " ", "\n", "no", "No ", "nein", "yes", "true", "FALSE", "maybe", "on", "off"),
    *("28", " 28 ", "28.0", "1e3", ".5", "5.", "+5", "1,5", "thirty", "NaN", "0x10", "1_0"),
    *("2024-05-14T15:00", "2024-05-14T15:00:00", "2024-05-14T15:00:00.123456"),
    *("2024-05-14T15:00:00.100", "2024-05-14T15:00:00Z", "2024-05-14T15:00:00+02:00"),
    *("2024-05-14 15:00:00", "2024-05-14", "14.05.2024", "2024-02-30T15:00:00"),
    *("0001-01-01T00:00:00", "a;b", "a|b", "a, b", "a\nb", "a\r\nb", "a\rb", "\na", "a\n"),
    *(" a ", "a\x00b", "a\u2028b", "a\x0bb", "\x85", "<b>&amp;\"'", "[1]", "["),
    *("{}", "x" * 6000),
    *("active", "Active", "STEM", "stem", "a@b.example", " a@b.example ", "a@b.example\n"),
    *([], [""], ["a"], ["a; b", "c|d"], [" a "], ["a\nb"], ["a\x00"], [1], [None], [["a"]]),
    *(["[1]"], ["a", "a"], ["\u2028"], ["x" * 101], ["a"] * 11),
    *({}, {"a": [1, {"b": None}]}),
)
HOSTILE = st.one_of(
    st.sampled_from(VALUES),
    st.text(max_size=8).filter(lambda text: not re.search("[\ud800-\udfff]", text)),
    st.integers(-5, 400),
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(st.text('ab;|,\r\n ["\u2028', max_size=5), max_size=4),
)


@st.composite
def records(draw: Any) -> tuple[Any, dict[str, Any]]:
    """A record type, and its example with some fields made hostile or left out."""
    record_type = draw(st.sampled_from(KINDS))
    record = dict(record_type.serializer_class.example)
    names = list(record)
    for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True)):
        if draw(st.booleans()) or draw(st.booleans()):
            record[name] = draw(HOSTILE)
        else:
            del record[name]
    if draw(st.booleans()):
        record["unknown"] = draw(HOSTILE)
    return record_type, record


BAD_SESSION = {**SESSIONS.serializer_class.example, "no_show": 0, "technical_issues": "no"}


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(records())
@example((SESSIONS, BAD_SESSION))
@example((SESSIONS, {**BAD_SESSION, "no_show": None, "is_first_session": "maybe"}))
def test_a_form_that_is_sent_untouched_alters_nothing(one: tuple[Any, dict[str, Any]]) -> None:
    record_type, record = one
    sent = sent_back(record_type, record)
    found = verdict(record_type, sent)
    if isinstance(found, validation.Valid):
        assert json.dumps(content(found)) == json.dumps(meaning(record_type, record))
    elif isinstance(verdict(record_type, record), validation.Valid):
        raise AssertionError(f"valid as it was, refused as it came back: {found}")


def every_field() -> list[Any]:
    return [
        (record_type, name)
        for record_type in KINDS
        for name in record_type.serializer_class.example
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("record_type", "name"),
    every_field(),
    ids=lambda one: one if isinstance(one, str) else one.path,
)
def test_no_value_of_any_field_is_altered(record_type: Any, name: str) -> None:
    around = Browser(
        "".join(map(str, EntryForm(record_type, record=record_type.serializer_class.example)))
    ).sent
    for value in VALUES:
        record = {**record_type.serializer_class.example, name: value}
        form = EntryForm(record_type, record=record)
        own = [form[one] for one in form.fields if one in (name, f"as-sent-{name}")]
        sent = {**around, f"as-sent-{name}": "", **Browser("".join(map(str, own))).sent}
        found = verdict(record_type, EntryForm(record_type, sent).record())
        if isinstance(found, validation.Valid):
            assert content(found) == meaning(record_type, record), value


def test_a_no_in_a_form_does_not_become_a_yes(db: None, store: Any) -> None:
    """A session whose "no" would have become yes."""
    intake.queue(intake.receive(SESSIONS, [Row(value=BAD_SESSION)]), source=Source(client="crm"))
    name = queues.rejections([SESSIONS.queue])[0].id
    browser = signed_in(member("Uploader"))
    address = f"/admin/enter/sessions/?rejection={name}"
    page = browser.get(address).text
    form = page[page.index('<form method="post" class="card"') :]
    sent = Browser(form[: form.index("</form>")]).sent
    sent.pop("check", None)
    assert (sent["no_show"], sent["technical_issues"]) == ("false", "false")
    assert browser.post(address, sent).status_code == 302
    (message,) = queued(store, SESSIONS)
    assert (message["data"]["no_show"], message["data"]["technical_issues"]) == (False, False)


def test_a_value_that_is_neither_yes_nor_no_must_be_decided() -> None:
    record = {**SESSIONS.serializer_class.example, "no_show": "maybe", "technical_issues": None}
    form = EntryForm(SESSIONS, record=record)
    assert "maybe (as sent)" in str(form["no_show"])
    sent = Browser("".join(map(str, form))).sent
    refused = verdict(SESSIONS, EntryForm(SESSIONS, sent).record())
    assert {error.field for error in refused.errors} == {"no_show", "technical_issues"}
    decided = EntryForm(SESSIONS, {**sent, "no_show": "true", "technical_issues": "false"}).record()
    assert (decided["no_show"], decided["technical_issues"]) == (True, False)


@pytest.mark.parametrize(("sent", "meant"), [("", None), (5, None), ("soon", None)])
def test_an_odd_value_of_an_optional_field_is_cleared_by_hand(sent: Any, meant: None) -> None:
    record = {**TUTORS.serializer_class.example, "created_at": sent}
    shown = Browser("".join(map(str, EntryForm(TUTORS, record=record)))).sent
    cleared = EntryForm(TUTORS, {**shown, "created_at": ""}).record()
    assert cleared.get("created_at") is meant


def test_a_number_that_json_cannot_say_is_never_kept_as_null(store: Any) -> None:
    record = {**SESSIONS.serializer_class.example, "engagement_score": float("inf")}
    intake.queue(intake.receive(SESSIONS, [Row(value=record)]), source=Source(client="crm"))
    assert queues.rejections([SESSIONS.queue])[0].record is None
