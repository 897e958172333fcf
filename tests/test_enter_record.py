"""One record entered by hand: the form converts, the validator validates, the intake queues."""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime
from html import unescape
from threading import Thread

import pytest

from ingestion import queues
from ingestion.models import Activity
from ingestion.outcomes import FieldCode, FieldError
from ingestion.portal.records.entry_form import EntryForm
from ingestion.queues import Pause
from ingestion.records import RECORD_TYPES
from tests import store_address
from tests.record_types import FEEDBACK, SESSIONS, TUTORS
from tests.staff import member, signed_in
from tests.store_faults import Proxy


@pytest.fixture
def browser(db):
    """A browser of an uploader."""
    return signed_in(member("Uploader"))


def typed(record):
    """What a browser sends for a filled-in record."""
    sent = {}
    for name, value in record.items():
        if isinstance(value, list):
            sent[name] = "\r\n".join(value)
        elif isinstance(value, bool):
            sent[name] = str(value).lower()
        elif value is not None:
            sent[name] = str(value)
    return sent


def enter(browser, record_type, record, **also):
    return browser.post(f"/admin/enter/{record_type.path}/", {**typed(record), **also})


def queued(store, record_type):
    return [json.loads(message) for message in store.lrange(record_type.queue, 0, -1)]


def test_it_works(browser, store, record_type):
    example = record_type.serializer_class.example
    answer = browser.post(f"/admin/enter/{record_type.path}/", typed(example), follow=True)
    (message,) = queued(store, record_type)
    assert message["data"] == {name: v for name, v in example.items() if v is not None}
    assert message["source"] == "api:portal"
    assert f"<strong>{example[record_type.id_field]}</strong>" in answer.text
    assert f'<a href="/admin/queues/{record_type.path}/">{record_type.queue}</a>' in answer.text


def test_it_is_noted_who_entered_it(browser, store):
    enter(browser, TUTORS, TUTORS.serializer_class.example)
    entry = Activity.objects.get()
    assert (entry.user_name, entry.action, entry.record_type) == (
        "uploader",
        "entered",
        RECORD_TYPES["tutors"],
    )
    assert entry.facts == {"id": "tutor_00001"}


def test_the_form_has_an_input_of_each_fields_own_kind():
    form = EntryForm(TUTORS)
    assert form["age"].field.widget.attrs["min"] == 18
    assert form["age"].field.widget.attrs["max"] == 100
    assert form["email"].widget_type == "email"
    assert form["onboarding_date"].field.widget.input_type == "datetime-local"
    assert form["subjects"].widget_type == "textarea"
    assert form["status"].value() == "active"
    assert form["subject_type"].field.widget.choices[0] == ("", "Choose one")
    assert EntryForm(SESSIONS)["no_show"].field.widget.choices[0] == ("", "Choose one")
    assert EntryForm(FEEDBACK)["would_recommend"].widget_type == "select"


def test_messages_stand_beside_their_fields_and_nothing_is_lost_or_queued(browser, store):
    record = {**TUTORS.serializer_class.example, "age": 7, "email": "nobody", "name": "<b>"}
    answer = enter(browser, TUTORS, record)
    form = answer.context["form"]
    assert answer.status_code == 422
    assert form.errors == {
        "age": ["Must be at least 18."],
        "email": ["Must be an e-mail address, like name@example.com."],
    }
    assert 'aria-describedby="id_age_helptext id_age_error"' in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert 'value="&lt;b&gt;"' in answer.text
    assert form["subjects"].value() == "Mathematics\r\nAlgebra"
    assert queued(store, TUTORS) == []
    assert not Activity.objects.exists()


def test_rules_between_fields_are_told_as_well(browser, store):
    record = {**SESSIONS.serializer_class.example, "is_first_session": True}
    answer = enter(browser, SESSIONS, record)
    assert list(answer.context["form"].errors) == ["is_first_session"]


def test_an_entry_of_a_list_is_named_by_its_number(browser, store):
    record = {**TUTORS.serializer_class.example, "subjects": ["Algebra", "x" * 101]}
    (message,) = enter(browser, TUTORS, record).context["form"].errors["subjects"]
    assert message == "Entry 2: Must have at most 100 characters."


def test_a_problem_of_the_whole_record_stands_above_the_form():
    form = EntryForm(TUTORS, {})
    form.record()
    form.refuse((FieldError(field=None, code=FieldCode.NOT_AN_OBJECT, message="Broken."),))
    assert form.non_field_errors() == ["Broken."]


def test_to_check_a_record_does_not_queue_it(browser, store):
    answer = enter(browser, TUTORS, TUTORS.serializer_class.example, check="yes")
    assert "This record is valid." in answer.text
    assert queued(store, TUTORS) == []
    assert not Activity.objects.exists()


def test_the_curl_line_sends_the_same_record(browser, store, post):
    record = {**TUTORS.serializer_class.example, "name": "Mary-Jane O'Brien"}
    answer = enter(browser, TUTORS, record, check="yes")
    command = shlex.split(answer.context["curl"])
    folded = answer.text[answer.text.index("<details") :]
    assert "csrf" not in folded.lower()
    assert unescape(answer.text).count(answer.context["curl"]) == 1
    assert command[:4] == ["curl", "-X", "POST", "http://testserver/api/tutors"]
    assert post("/api/tutors", command[-1].encode()).status_code == 201
    (message,) = queued(store, TUTORS)
    assert message["data"] == record


def test_before_anything_is_entered_the_example_is_shown(browser):
    context = browser.get("/admin/enter/feedback/").context
    assert json.loads(context["json"]) == FEEDBACK.serializer_class.example


def test_while_the_store_is_away_what_was_entered_stays(browser, no_store):
    answer = enter(browser, TUTORS, TUTORS.serializer_class.example)
    assert answer.status_code == 503
    assert "The record is not on the queue" in answer.text
    assert 'value="John Doe"' in answer.text
    assert not Activity.objects.exists()


def test_while_the_queue_is_full_what_was_entered_stays(browser, store, settings):
    enter(browser, TUTORS, TUTORS.serializer_class.example)
    settings.QUEUE_LIMIT = 1
    answer = enter(browser, TUTORS, TUTORS.serializer_class.example)
    assert answer.status_code == 503
    assert "The queue is full" in answer.text
    assert 'value="John Doe"' in answer.text
    assert Activity.objects.count() == 1
    assert len(queued(store, TUTORS)) == 1


def test_while_the_queue_is_paused_the_reason_is_told(browser, store):
    pause = Pause(reason="Deploying at noon", by="otto", since=datetime.now(UTC))
    queues.pause_queue(TUTORS.queue, pause)
    answer = enter(browser, TUTORS, TUTORS.serializer_class.example)
    assert answer.status_code == 503
    assert "The reason given: “Deploying at noon”." in answer.text
    assert queued(store, TUTORS) == []


def test_the_same_form_sent_twice_queues_once(browser, store):
    form = browser.get("/admin/enter/tutors/").context["form_id"]
    for _ in range(2):
        answer = enter(browser, TUTORS, TUTORS.serializer_class.example, form=form)
        assert answer.status_code == 302
    assert len(queued(store, TUTORS)) == 1
    assert [entry.facts.get("sent") for entry in Activity.objects.all()] == ["again", None]


def test_the_same_record_in_another_form_is_queued_again(browser, store):
    for _ in range(2):
        form = browser.get("/admin/enter/tutors/").context["form_id"]
        enter(browser, TUTORS, TUTORS.serializer_class.example, form=form)
    assert len(queued(store, TUTORS)) == 2


def test_an_answer_that_is_lost_is_settled_by_sending_the_form_again(
    browser, store, settings, tmp_path
):
    path = tmp_path / "proxy.sock"
    well = settings.CACHES
    example = TUTORS.serializer_class.example
    with Proxy(path, store.connection_pool.connection_kwargs["path"]) as proxy:
        thread = Thread(target=proxy.serve_forever, args=(0.01,))
        thread.start()
        proxy.cuts = 1
        store_address.use(settings, f"unix://{path}")
        answer = enter(browser, TUTORS, example, form="the one form")
        proxy.shutdown()
        thread.join()
    settings.CACHES = well
    assert answer.status_code == 503
    assert "The record may or may not be on the queue" in answer.text
    assert answer.context["form_id"] == "the one form"
    assert Activity.objects.get().facts == {"id": "tutor_00001", "outcome": "unknown"}
    assert enter(browser, TUTORS, example, form="the one form").status_code == 302
    assert len(queued(store, TUTORS)) == 1


# --- Text in, values out -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record_type", "name", "text", "value"),
    [
        (TUTORS, "tutor_id", " tutor_1 ", "tutor_1"),
        (TUTORS, "tutor_id", "007", "007"),
        (TUTORS, "age", "30", 30),
        (TUTORS, "age", "thirty", "thirty"),
        (
            TUTORS,
            "subjects",
            " Algebra \r\n\r\nReading, writing\n",
            ["Algebra", "Reading, writing"],
        ),
        (TUTORS, "onboarding_date", "2024-05-14T15:00", "2024-05-14T15:00:00"),
        (TUTORS, "onboarding_date", "2024-05-14T15:00+02:00", "2024-05-14T15:00+02:00"),
        (SESSIONS, "engagement_score", "0.92", 0.92),
        (FEEDBACK, "would_recommend", "false", False),
        (FEEDBACK, "free_text_feedback", " two\r\nlines ", " two\nlines "),
    ],
)
def test_what_is_typed_becomes_the_fields_kind_of_value(record_type, name, text, value):
    assert EntryForm(record_type, {name: text}).record()[name] == value


@pytest.mark.parametrize("text", ["", "   ", "\r\n"])
def test_an_input_that_is_left_empty_is_an_absent_field(text):
    names = FEEDBACK.serializer_class().fields
    assert EntryForm(FEEDBACK, dict.fromkeys(names, text)).record() == {}


def test_a_record_to_begin_with_comes_out_as_it_went_in(record_type):
    example = record_type.serializer_class.example
    record = {name: value for name, value in example.items() if value is not None}
    form = EntryForm(record_type, record=record)
    shown = {name: form[name].value() for name in form.fields}
    assert EntryForm(record_type, typed(shown)).record() == record


@pytest.mark.parametrize("moment", ["2024-05-14T15:00:00+02:00", "2024-05-14T15:00:00.123456"])
def test_a_moment_that_the_browsers_own_input_would_cut_gets_a_plain_one(moment):
    form = EntryForm(TUTORS, record={"onboarding_date": moment})
    assert form["onboarding_date"].field.widget.input_type == "text"
    assert f'value="{moment}"' in str(form["onboarding_date"])
