"""One table of cases through all four ways in: each accepts and refuses the same, with equal codes.

All values are texts, because a cell of a file or of a form can hold only text.
"""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.management import call_command
from django.core.management.base import CommandError
from django.urls import reverse

from ingestion.cells import cell_text
from ingestion.models import Upload
from ingestion.records import RecordType
from ingestion.uploads import actions, inspection, tasks
from tests.record_types import FEEDBACK, SESSIONS, TUTORS
from tests.staff import member, signed_in

pytestmark = pytest.mark.django_db


# record type, the change to its example, the field and the code of the error
CASES: list[tuple[RecordType, dict[str, Any], str, str]] = [
    (TUTORS, {}, "", ""),
    (SESSIONS, {}, "", ""),
    (FEEDBACK, {}, "", ""),
    (TUTORS, {"age": 17}, "age", "min_value"),
    (TUTORS, {"age": 101}, "age", "max_value"),
    (TUTORS, {"age": "old"}, "age", "not_an_integer"),
    (TUTORS, {"email": "nobody"}, "email", "invalid_email"),
    (TUTORS, {"tutor_id": "a b"}, "tutor_id", "invalid_id"),
    (TUTORS, {"name": "x" * 256}, "name", "max_length"),
    (TUTORS, {"name": None}, "name", "required"),
    (TUTORS, {"behavioral_archetype": "lazy"}, "behavioral_archetype", "invalid_choice"),
    (TUTORS, {"onboarding_date": "yesterday"}, "onboarding_date", "invalid_datetime"),
    (TUTORS, {"subjects": ["a"] * 11}, "subjects", "max_length"),
    (SESSIONS, {"engagement_score": 1.5}, "engagement_score", "max_value"),
    (SESSIONS, {"engagement_score": "high"}, "engagement_score", "not_a_number"),
    (SESSIONS, {"is_first_session": True}, "is_first_session", "first_session_mismatch"),
    (SESSIONS, {"no_show": True}, "actual_start", "no_show_has_start"),
    (FEEDBACK, {"overall_rating": 6}, "overall_rating", "max_value"),
    (FEEDBACK, {"would_recommend": True}, "would_recommend", "first_session_only"),
    (FEEDBACK, {"improvement_areas": ["Pace"]}, "improvement_areas", "first_session_only"),
]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0].path}-{case[2]}-{case[3]}")
def case(request: pytest.FixtureRequest) -> tuple[RecordType, dict[str, Any], tuple[str, str]]:
    """The record type, the record, and (field, code) of its refusal; both empty if it is valid."""
    record_type, changes, field, code = request.param
    record = {**record_type.serializer_class.example, **changes}
    return record_type, {k: v for k, v in record.items() if v is not None}, (field, code)


def test_by_the_api(post, store, case):
    record_type, record, refusal = case
    answer = post(f"/api/{record_type.path}", record)
    found = [(one["field"], one["code"]) for one in answer.json().get("errors", [])]
    assert found == ([refusal] if refusal[1] else [])
    assert store.llen(record_type.queue) == (not refusal[1])


def test_by_a_file_with_the_command(store, case, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # the table must not break its words
    record_type, record, refusal = case
    file = tmp_path / "one.json"
    file.write_text(json.dumps([record]))
    said = StringIO()
    try:
        call_command("ingest", str(file), type=record_type.path, stdout=said, stderr=StringIO())
    except (CommandError, SystemExit) as end:
        assert refusal[1], end
    assert all(word in said.getvalue() for word in refusal)
    assert store.llen(record_type.queue) == (not refusal[1])


@pytest.mark.processes
@pytest.mark.parametrize("file_format", ["csv", "ndjson"])
def test_by_an_upload(store, case, file_format):
    record_type, record, refusal = case
    if file_format == "csv":
        header = ",".join(record)
        content = header + "\n" + ",".join(_cell(value) for value in record.values()) + "\n"
    else:
        content = json.dumps(record) + "\n"
    one = actions.create(ContentFile(content.encode()), f"one.{file_format}", None)
    tasks.advance.call(one.pk)
    one.refresh_from_db()
    if one.state == Upload.State.CHECK:
        found = actions.found(one)
        actions.answer(one, inspection.answered(found, record_type, found.layout))
    tasks.advance.call(one.pk)
    one.refresh_from_db()
    causes = [(cause["field"], cause["code"]) for cause in one.findings["causes"]]
    assert causes == ([refusal] if refusal[1] else [])
    if not refusal[1]:
        actions.confirm(one)
        tasks.advance.call(one.pk)
    assert store.llen(record_type.queue) == (not refusal[1])


def test_by_the_form(post, store, case):
    record_type, record, refusal = case
    staff = signed_in(member("Uploader"))
    form = {name: _typed(value) for name, value in record.items()}
    answer = staff.post(reverse("admin:enter", args=[record_type.path]), form)
    # The page shows people the same words as the API.
    told = [
        one["message"] for one in post(f"/api/{record_type.path}", record).json().get("errors", [])
    ]
    store.delete(record_type.queue) if refusal[1] else store.lpop(record_type.queue)
    page = answer.content.decode()
    for message in told:
        assert message.replace("'", "&#x27;") in page
    assert store.llen(record_type.queue) == (not refusal[1])


def _cell(value: Any) -> str:
    text = cell_text(value) if isinstance(value, list) else str(value)
    return f'"{text}"'


def _typed(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
