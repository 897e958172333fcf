"""What is found in an uploaded file, and which questions are asked."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import pytest
from openpyxl import Workbook
from redis import Redis

from ingestion import file_rows
from ingestion.cells import DateOrder, Notation
from ingestion.files.csv import Encoding
from ingestion.files.registry import FORMATS
from ingestion.models import Upload
from ingestion.records import RECORD_TYPES, RecordType
from ingestion.uploads import actions, inspection, layouts
from ingestion.uploads.inspection import Inspection, Question
from tests.record_types import SESSIONS, TUTORS
from tests.uploading import (
    WRITERS,
    State,
    advance,
    answer,
    as_csv,
    as_json,
    counts,
    create,
    queue,
    queued,
    read,
    session,
)

pytestmark = [pytest.mark.processes, pytest.mark.django_db]


def inspect(content: bytes, record_type: RecordType | None = SESSIONS) -> Inspection:
    return inspection.inspect(file_rows.look(io.BytesIO(content)), record_type=record_type)


def renamed(names: Mapping[str, str], *records: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{names.get(name, name): value for name, value in one.items()} for one in records]


@pytest.mark.parametrize("record_type", RECORD_TYPES.values(), ids=RECORD_TYPES)
@pytest.mark.parametrize("file_format", WRITERS)
def test_nothing_is_asked_of_a_file_that_says_all(
    record_type: RecordType, file_format: str
) -> None:
    found = inspect(WRITERS[file_format]([record_type.serializer_class.example]), None)
    assert found.record_type is record_type
    assert found.questions == frozenset()


def test_columns_in_other_words_are_guessed_and_asked() -> None:
    names = {"Start": "", "duration_minutes": "Length in minutes", "student_id": "studentId"}
    found = inspect(as_csv(renamed(names, session(1))))
    assert found.questions == {Question.COLUMNS}
    guessed = {one.name: (one.field, one.certain) for one in found.columns}
    assert guessed["Length in minutes"] == ("duration_minutes", False)
    assert guessed["studentId"] == ("student_id", False)
    assert guessed["tutor_id"] == ("tutor_id", True)


def test_what_was_chosen_is_remembered_for_files_with_the_same_header(store: Redis) -> None:
    names = {"duration_minutes": "Wie lange", "subject": "Fach"}
    content = as_csv(renamed(names, session(1)))
    upload = create(content)
    assert upload.state == State.CHECK
    found = actions.found(upload)
    assert found.missing == ["duration_minutes", "subject"]
    chosen = [
        {"Wie lange": "duration_minutes", "Fach": "subject"}.get(one.name, one.field)
        for one in found.columns
    ]
    answer(upload, columns=tuple(chosen))
    assert counts(advance(upload)) == (1, 0, 0, 0)
    again = read(as_csv(renamed(names, session(2), session(3))))
    assert counts(again) == (2, 0, 0, 0)


def test_columns_of_another_type_than_the_chosen_one_are_asked() -> None:
    assert Question.RECORD_TYPE in inspect(as_csv([session(1)]), TUTORS).questions
    assert Question.RECORD_TYPE in inspect(as_json([session(1)]), TUTORS).questions


@pytest.mark.parametrize(
    ("dates", "order", "asked"),
    [
        (["03/04/2026 10:00", "25/04/2026 10:00"], DateOrder.DAY, False),
        (["03/04/2026 10:00", "04/25/2026 10:00"], DateOrder.MONTH, False),
        (["03/04/2026 10:00", "05/06/2026 10:00"], None, True),
        (["25/04/2026", "04/25/2026"], None, True),
        (["3.4.2026 9:05"], None, True),
        (["2026-04-03 10:00"], None, False),
        (["2026-04-03"], None, False),
    ],
)
def test_an_ambiguous_date_order_is_asked_and_never_guessed(
    dates: list[str], order: DateOrder | None, asked: bool
) -> None:
    records = [session(n, scheduled_start=date) for n, date in enumerate(dates)]
    found = inspect(as_csv(records))
    assert found.layout.notation.date_order is order
    assert (Question.DATE_ORDER in found.questions) is asked


def decide(upload: Upload, order: DateOrder) -> None:
    """Say what comes first in the file's dates, whether asked or not."""
    advance(upload)
    answer(upload, notation=Notation(date_order=order))


@pytest.mark.parametrize(
    ("order", "cell", "value"),
    [
        (DateOrder.DAY, "03/04/2026 10:00", "2026-04-03T10:00:00"),
        (DateOrder.MONTH, "03/04/2026 10:00", "2026-03-04T10:00:00"),
        (DateOrder.DAY, "3.4.2026", "2026-04-03T00:00:00"),
        (DateOrder.MONTH, "3/4/2026 3:05 PM", "2026-03-04T15:05:00"),
        (DateOrder.MONTH, "3/4/2026 12:05:09 am", "2026-03-04T00:05:09"),
        (DateOrder.DAY, "2026-04-03 10:00", "2026-04-03T10:00"),
        (DateOrder.DAY, "2026-04-03T10:00:00Z", "2026-04-03T10:00:00Z"),
    ],
)
def test_the_answer_decides_what_a_date_is(
    order: DateOrder, cell: str, value: str, store: Redis
) -> None:
    upload = create(as_csv([session(1, scheduled_start=cell, actual_start="")]), SESSIONS)
    decide(upload, order)
    queue(advance(upload))
    assert [one["data"]["scheduled_start"] for one in queued(store)] == [value]


@pytest.mark.parametrize("cell", ["31/02/2026", "13/13/2026", "1/2/26", "3/4/2026 13:00 PM"])
def test_a_date_that_is_none_is_refused_and_not_bent(cell: str) -> None:
    upload = create(as_csv([session(1, scheduled_start=cell)]), SESSIONS)
    decide(upload, DateOrder.DAY)
    (cause,) = advance(upload).findings["causes"]
    assert (cause["field"], cause["code"]) == ("scheduled_start", "invalid_datetime")


def test_a_decimal_comma_is_seen(store: Redis) -> None:
    records = [session(1, engagement_score="0,92"), session(2, engagement_score="1")]
    queue(read(as_csv(records, delimiter=";")))
    assert [one["data"]["engagement_score"] for one in queued(store)] == [0.92, 1.0]


def test_text_that_is_no_unicode_is_shown_before_it_is_read() -> None:
    found = inspect(as_csv([session(1, subject="Französisch")]).decode().encode("cp1252"))
    assert found.layout.shape.options["encoding"] is Encoding.CP1252
    assert found.questions == {"encoding"}
    (subject,) = (one for one in found.columns if one.name == "subject")
    assert subject.samples == ("Französisch",)


def test_if_several_sheets_fit_one_must_be_chosen() -> None:
    book = Workbook()
    for sheet in (book.active, book.create_sheet("More"), book.create_sheet("Notes")):
        sheet.append(list(session(1)) if sheet.title != "Notes" else ["a note"])
        sheet.append(list(session(1).values()))
    file = io.BytesIO()
    book.save(file)
    found = inspect(file.getvalue())
    assert found.questions == {Question.SHEET}
    assert found.sheets == ("Sheet", "More", "Notes")


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_layout_is_kept_as_it_is(file_format: str) -> None:
    layout = inspect(WRITERS[file_format]([session(1)])).layout
    kept = json.loads(json.dumps(layouts.to_json(layout)))
    assert layouts.from_json(kept) == layout
