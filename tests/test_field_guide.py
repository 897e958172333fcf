"""The field guide: its statements match the validator."""

from __future__ import annotations

import json

import pytest
from rest_framework.exceptions import ValidationError

from ingestion import cells, validation
from ingestion.cells import cell_text
from ingestion.decoding import Row
from ingestion.outcomes import Rejection
from ingestion.portal.record_fields import Kind, record_fields, sample_records
from ingestion.records import RECORD_TYPES
from tests.staff import member, signed_in


@pytest.fixture
def browser(db):
    """A browser of somebody who may only look."""
    return signed_in(member("Viewer"))


def judge(record_type, record):
    (verdict,) = validation.validate(record_type, [Row(value=record)])
    return verdict


def test_every_field_is_told_with_its_meaning_and_its_example(browser, record_type):
    text = browser.get(f"/admin/guide/{record_type.path}/").text
    for name, field in record_type.serializer_class().fields.items():
        assert f"<code>{name}</code>" in text
        assert field.help_text
        assert all(f">{choice}</code>" in text for choice in getattr(field, "choices", ()))


def test_fields_come_in_the_order_of_the_serializer(record_type):
    names = [field.name for field in record_fields(record_type)]
    assert names == list(record_type.serializer_class().fields)


def test_every_mistake_that_is_told_is_refused_with_the_words_that_are_told(record_type):
    example = record_type.serializer_class.example
    for field in record_fields(record_type):
        assert field.mistakes or field.kind is Kind.LONG_TEXT
        for mistake in field.mistakes:
            verdict = judge(record_type, {**example, field.name: json.loads(mistake.value)})
            assert isinstance(verdict, Rejection), (field.name, mistake)
            found = {e.message for e in verdict.errors if (e.field or "").startswith(field.name)}
            assert mistake.message in found


def test_what_is_called_optional_may_be_left_out_and_what_is_called_required_may_not(record_type):
    example = record_type.serializer_class.example
    for field in record_fields(record_type):
        without = {name: value for name, value in example.items() if name != field.name}
        assert isinstance(judge(record_type, without), Rejection) == field.required, field.name


def test_the_limits_that_are_told_are_the_last_values_that_pass(record_type):
    fields = record_type.serializer_class().fields
    for field in record_fields(record_type):
        if field.kind not in (Kind.INTEGER, Kind.NUMBER):
            continue
        for limit, beyond in ((field.least, -1), (field.most, 1)):
            if limit is not None:
                assert fields[field.name].run_validation(limit) == limit
                with pytest.raises(ValidationError):
                    fields[field.name].run_validation(limit + beyond)


@pytest.mark.parametrize(
    ("path", "name", "label", "rule"),
    [
        ("tutors", "tutor_id", "Tutor ID", "up to 64 characters, without spaces"),
        ("tutors", "age", "Age", "from 18 to 100"),
        ("tutors", "tenure_days", "Tenure days", "0 or more"),
        ("tutors", "subjects", "Subjects", "1 to 10 entries of up to 100 characters"),
        ("sessions", "engagement_score", "Engagement score", "from 0 to 1"),
        ("sessions", "no_show", "No show", ""),
        ("feedback", "free_text_feedback", "Free text feedback", "up to 5,000 characters"),
        ("feedback", "improvement_areas", "Improvement areas", "up to 10 entries of up to 100"),
    ],
)
def test_rules_are_told_in_words(path, name, label, rule):
    (field,) = [f for f in record_fields(RECORD_TYPES[path]) if f.name == name]
    assert field.label == label
    assert field.rule.startswith(rule)


def test_the_examples_as_cells_are_read_back_as_what_they_were(record_type):
    fields = record_type.serializer_class().fields
    for record in sample_records(record_type):
        for name, value in record.items():
            text = cell_text(value)
            assert (cells.converter(fields[name])(text) if text else None) == value


# --- Try a row ---------------------------------------------------------------------------------


def try_json(browser, record_type, text):
    return browser.post(f"/admin/guide/{record_type.path}/", {"json": text})


def test_a_good_row_is_told_to_be_good_and_never_queued(browser, store, record_type):
    record = {**record_type.serializer_class.example, "unheard_of": 1}
    answer = try_json(browser, record_type, json.dumps(record))
    trial = answer.context["trial"]
    assert "would be queued" in answer.text
    assert json.loads(trial.queued) == record_type.serializer_class.example
    assert trial.dropped == ("unheard_of",)
    assert store.dbsize() == 0


def test_a_bad_row_is_told_every_reason_and_kept(browser, store, record_type):
    record = {record_type.id_field: "a b"}
    answer = try_json(browser, record_type, json.dumps(record))
    assert "would be refused" in answer.text
    assert "Must have no spaces and no control characters." in answer.text
    assert answer.context["json"] == json.dumps(record)
    assert len(answer.context["trial"].errors) > 1
    assert store.dbsize() == 0


@pytest.mark.parametrize("text", ["", "not JSON", "[]", "NaN", "[" * 100_000])
def test_a_text_that_is_not_a_record_is_refused_with_a_reason(browser, text):
    answer = try_json(browser, RECORD_TYPES["tutors"], text)
    assert answer.status_code == 200
    assert answer.context["trial"].unreadable


def test_a_row_can_be_filled_in_as_well(browser, store):
    answer = browser.post("/admin/guide/sessions/", {"fill": "yes", "duration_minutes": "900"})
    assert answer.context["form"].errors["duration_minutes"] == ["Must be at most 300."]
    assert "would be refused" in answer.text
    assert store.dbsize() == 0
