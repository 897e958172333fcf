"""The latest records that the API refused: to look at, to fix, to send again."""

from __future__ import annotations

import json
import re

import pytest

from ingestion import intake, queues, validation
from ingestion.decoding import Framing, Payload, Row
from ingestion.models import Activity
from ingestion.sources import Source
from tests.record_types import SESSIONS, TUTORS
from tests.staff import member, signed_in
from tests.test_enter_record import queued, typed
from tests.test_overview import words

PAGE = "/admin/rejections/"
BAD = {**TUTORS.serializer_class.example, "email": "nope", "age": 7}


@pytest.fixture
def browser(db):
    """A browser of an uploader, who may fix records."""
    return signed_in(member("Uploader"))


def refuse(record_type, record):
    """Let the API refuse this record; gives the name under which it is kept."""
    intake.queue(intake.receive(record_type, [Row(value=record)]), source=Source(client="crm"))
    return queues.rejections([record_type.queue])[0].id


def shown(answer):
    """The rejections on the page, in its order."""
    return re.findall(rf'href="{PAGE}(\w+/[\w-]+)/"', answer.text)


def test_it_works(browser, store):
    assert "No rejections" in words(browser.get(PAGE))
    first, second = refuse(TUTORS, BAD), refuse(SESSIONS, "no object")
    answer = browser.get(PAGE)
    assert shown(answer) == [f"sessions/{second}", f"tutors/{first}"]
    said = words(answer)
    assert "Tutor profile crm email and 1 more invalid_email" in said
    assert "Session crm the whole record not_an_object" in said
    assert "nope" not in answer.text


def test_they_are_filtered_by_type_and_code(browser, store):
    first, second, third = refuse(TUTORS, BAD), refuse(TUTORS, {}), refuse(SESSIONS, {})
    assert shown(browser.get(PAGE, {"type": "tutors"})) == [f"tutors/{second}", f"tutors/{first}"]
    assert shown(browser.get(PAGE, {"code": "min_value"})) == [f"tutors/{first}"]
    both = browser.get(PAGE, {"type": "sessions", "code": "required"})
    assert shown(both) == [f"sessions/{third}"]
    none = browser.get(PAGE, {"type": "sessions", "code": "<b>"})
    assert "No results" in words(none)
    assert "<b>" not in none.text


_KEPT = {"at": "2026-01-02T03:04:05Z", "source": "api:x", "record_id": None, "errors": []}


@pytest.mark.parametrize(
    "foreign",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"a":' * 5000,
        *(
            json.dumps({"id": "x", "record": {}} | _KEPT | odd).encode()
            for odd in (
                {"id": ""},
                {"id": "a/b"},
                {"id": "x\n"},
                {"at": "2026-01-02T03:04:05"},
                {"at": "9999-12-31T23:59:59-23:59"},
            )
        ),
    ],
    ids=lambda one: repr(one[:20]),
)
def test_what_another_program_put_among_them_is_passed_over(browser, store, foreign):
    name = refuse(TUTORS, BAD)
    store.lpush(f"{{{TUTORS.queue}}}:rejections", foreign)
    store.hset(f"{{{TUTORS.queue}}}:fixed", name, b"\xff")
    assert shown(browser.get(PAGE)) == [f"tutors/{name}"]
    assert browser.get(f"{PAGE}tutors/{name}/").status_code == 200


@pytest.mark.parametrize("number", ["1e999", "-1e999"])
def test_a_number_beyond_all_others_is_never_shown_as_if_nothing_was_sent(browser, store, number):
    bad = json.dumps(BAD).replace('"age": 7', f'"age": {number}')
    rows = validation.read(TUTORS, Payload(content=bad.encode(), framing=Framing.RECORD))
    intake.queue(intake.receive(TUTORS, rows), source=Source(client="crm"))
    (rejection,) = queues.rejections([TUTORS.queue])
    assert rejection.record is None
    assert "a record that could be kept" in words(browser.get(f"{PAGE}tutors/{rejection.id}/"))


def test_they_come_in_pages(browser, store):
    intake_of = [Row(value={}) for _ in range(20)]
    for _ in range(3):
        intake.queue(intake.receive(TUTORS, intake_of), source=Source(client="crm"))
    assert len(shown(browser.get(PAGE))) == 50
    assert len(shown(browser.get(PAGE, {"page": "2"}))) == 10
    assert browser.get(PAGE, {"page": "x"}).status_code == 200


def test_one_tells_why_it_was_refused_and_not_what_was_sent(browser, store):
    name = refuse(TUTORS, BAD)
    answer = browser.get(f"{PAGE}tutors/{name}/")
    assert answer.status_code == 200
    assert "email Enter a valid" in words(answer) or "invalid_email" in words(answer)
    assert "min_value" in words(answer)
    assert "nope" not in answer.text
    assert browser.get(f"{PAGE}sessions/{name}/").status_code == 404
    assert browser.get(f"{PAGE}tutors/nothing/").status_code == 404


@pytest.mark.parametrize("group", ["Uploader", "Operator", "Admin"])
def test_staff_who_fix_records_may_see_what_was_sent_and_that_is_noted(db, store, group):
    name = refuse(TUTORS, BAD)
    answer = signed_in(member(group)).post(f"{PAGE}tutors/{name}/show/")
    assert answer.status_code == 200
    assert "&quot;email&quot;: &quot;nope&quot;" in answer.text
    entry = Activity.objects.get()
    assert (entry.action, entry.facts) == ("payload_shown", {"refused": name})


def test_a_viewer_does_not_see_what_was_sent(db, store):
    name = refuse(TUTORS, BAD)
    browser = signed_in(member("Viewer"))
    answer = browser.post(f"{PAGE}tutors/{name}/show/")
    assert answer.status_code == 403
    assert "nope" not in answer.text
    assert "/show/" not in browser.get(f"{PAGE}tutors/{name}/").text
    assert "Fix" not in words(browser.get(PAGE))
    assert not Activity.objects.exists()


def test_a_refused_record_is_fixed_in_the_form_sent_and_linked(browser, store):
    name = refuse(TUTORS, BAD)
    assert f'href="/admin/enter/tutors/?rejection={name}"' in browser.get(PAGE).text
    form = browser.get(f"/admin/enter/tutors/?rejection={name}")
    assert 'value="nope"' in form.text
    assert "This record was refused." in words(form)
    wrong = browser.post(f"/admin/enter/tutors/?rejection={name}", typed(BAD))
    assert wrong.status_code == 422
    assert queues.rejections([TUTORS.queue])[0].fixed_by is None
    good = typed({**BAD, "email": "john@example.com", "age": 27})
    answer = browser.post(f"/admin/enter/tutors/?rejection={name}", good, follow=True)
    assert answer.redirect_chain == [(f"{PAGE}tutors/{name}/", 302)]
    (message,) = queued(store, TUTORS)
    assert message["data"]["email"] == "john@example.com"
    assert queues.rejections([TUTORS.queue])[0].fixed_by == "tutor_00001"
    assert '<a href="/admin/queues/tutors/?id=tutor_00001">' in answer.text
    entry = Activity.objects.get()
    assert (entry.action, entry.facts["id"], entry.facts["refused"]) == (
        "fixed",
        "tutor_00001",
        name,
    )
    page = browser.get(PAGE)
    assert "fixed" in words(page)
    assert "?rejection=" not in page.text


def test_the_second_person_who_fixes_a_record_is_told(browser, store):
    name = refuse(TUTORS, BAD)
    address = f"/admin/enter/tutors/?rejection={name}"
    good = typed({**BAD, "email": "john@example.com", "age": 27})
    assert browser.post(address, good).status_code == 302
    second = signed_in(member("Admin"))
    for answer in (second.get(address, follow=True), second.post(address, good, follow=True)):
        assert answer.redirect_chain == [(f"{PAGE}tutors/{name}/", 302)]
        assert "This record was already fixed" in words(answer)
    assert len(queued(store, TUTORS)) == 1


def test_a_record_whose_rejection_is_gone_is_queued_all_the_same(browser, store):
    form = browser.get("/admin/enter/tutors/?rejection=gone")
    assert form.status_code == 200
    example = typed(TUTORS.serializer_class.example)
    answer = browser.post("/admin/enter/tutors/?rejection=gone", example, follow=True)
    assert answer.redirect_chain == [("/admin/enter/tutors/", 302)]
    assert len(queued(store, TUTORS)) == 1
    assert not store.exists(f"{{{TUTORS.queue}}}:fixed")


def test_while_the_store_is_away_the_pages_say_so(browser, no_store):
    for path in (PAGE, f"{PAGE}tutors/some/"):
        answer = browser.get(path)
        assert answer.status_code == 200
        assert "The store does not answer." in words(answer)
    assert "No rejections" not in words(browser.get(PAGE))
    assert browser.get("/admin/enter/tutors/?rejection=some").status_code == 200
