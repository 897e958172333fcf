"""Uploaded files: what is found in them, which questions are asked, and the fate of every row."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.utils.timezone import now
from openpyxl import Workbook, load_workbook
from redis import Redis

from ingestion import file_rows, queues
from ingestion.cells import DateOrder, Notation, cell_text
from ingestion.files.csv import Encoding
from ingestion.files.registry import FORMATS
from ingestion.models import Upload
from ingestion.outcomes import FieldCode
from ingestion.records import RECORD_TYPES, RecordType
from ingestion.uploads import actions, inspection, layouts, tasks
from ingestion.uploads.actions import NotNowError
from ingestion.uploads.inspection import Inspection, Question
from tests.record_types import SESSIONS, TUTORS

State = Upload.State

pytestmark = [pytest.mark.processes, pytest.mark.django_db]


def session(number: int, **changes: Any) -> dict[str, Any]:
    return {**SESSIONS.serializer_class.example, "session_id": f"s_{number}", **changes}


def cell(value: Any) -> Any:
    return cell_text(value) if isinstance(value, list) else value


def as_csv(records: Sequence[Mapping[str, Any]], delimiter: str = ",") -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(records[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows({name: cell(value) for name, value in one.items()} for one in records)
    return text.getvalue().encode()


def as_xlsx(records: Sequence[Mapping[str, Any]]) -> bytes:
    book = Workbook()
    book.active.append(list(records[0]))
    for one in records:
        book.active.append([cell(value) for value in one.values()])
    for row in book.active.iter_rows():
        for excel_cell in row:
            if excel_cell.data_type == "f":  # a text that only looks like a formula
                excel_cell.data_type = "s"
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def as_json(records: Sequence[Mapping[str, Any]]) -> bytes:
    return json.dumps(records).encode()


def as_ndjson(records: Sequence[Mapping[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(one)}\n" for one in records).encode()


WRITERS = {"csv": as_csv, "xlsx": as_xlsx, "json": as_json, "ndjson": as_ndjson}


def create(content: bytes, record_type: RecordType | None = None, name: str = "file") -> Upload:
    """An upload whose file was looked at."""
    user, _ = User.objects.get_or_create(username="uwe")
    return advance(actions.create(ContentFile(content), name, user.pk, record_type=record_type))


def advance(upload: Upload) -> Upload:
    """Do the work of the worker."""
    tasks.advance.call(upload.pk)
    upload.refresh_from_db()
    return upload


def read(content: bytes, record_type: RecordType | None = None) -> Upload:
    upload = create(content, record_type)
    assert upload.state == State.READING, upload.layout
    return advance(upload)


def queue(upload: Upload) -> Upload:
    actions.confirm(upload)
    return advance(upload)


def queued(store: Redis, record_type: RecordType = SESSIONS) -> list[Any]:
    return [json.loads(raw) for raw in store.lrange(record_type.queue, 0, -1)][::-1]


def error_file(upload: Upload) -> bytes:
    with upload.error_file.open("rb") as file:
        content: bytes = file.read()
        return content


def counts(upload: Upload) -> tuple[int, ...]:
    parts = (upload.rows_ready, upload.rows_invalid, upload.rows_duplicate, upload.rows_blank)
    assert upload.rows_read == sum(parts)
    return parts


# --- the whole way -----------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", WRITERS)
def test_the_ready_rows_of_a_file_are_queued_and_the_others_told(
    file_format: str, store: Redis
) -> None:
    records = [session(1), session(2, duration_minutes=999), session(1), session(3)]
    upload = read(WRITERS[file_format](records))
    assert upload.state == State.REVIEW
    assert counts(upload) == (2, 1, 1, 0)
    assert store.llen(SESSIONS.queue) == 0
    (cause,) = upload.findings["causes"]
    first = 2 if file_format == "json" else 2 + (file_format in ("csv", "xlsx"))
    assert (cause["field"], cause["code"], cause["lines"]) == (
        "duration_minutes",
        FieldCode.MAX_VALUE,
        [first],
    )
    assert queue(upload).state == State.DONE
    assert upload.rows_queued == 2
    messages = queued(store)
    assert [one["data"]["session_id"] for one in messages] == ["s_1", "s_3"]
    assert messages[0]["source"] == f"upload:{upload.pk}#{first - 1}"
    assert messages[0]["data"] == {
        name: value for name, value in session(1).items() if value is not None
    }


@pytest.mark.parametrize("file_format", WRITERS)
def test_the_error_file_mended_and_uploaded_again_completes_its_parent(
    file_format: str, store: Redis
) -> None:
    records = [session(n, duration_minutes=999 if n % 2 else 60) for n in range(6)]
    records[1]["subject"] = "=1+1"
    parent = queue(read(WRITERS[file_format](records)))
    content = error_file(parent)
    mended = content.replace(b"999", b"45")
    if file_format == "xlsx":
        book = load_workbook(io.BytesIO(content))
        for (one,) in book.active["H2:H4"]:
            assert one.value == 999
            one.value = 45
        file = io.BytesIO()
        book.save(file)
        mended = file.getvalue()
    child = read(mended)
    assert child.parent == parent
    assert counts(child) == (3, 0, 0, 0)
    queue(child)
    ids = [one["data"]["session_id"] for one in queued(store)]
    assert sorted(ids) == [f"s_{n}" for n in range(6)]
    (odd,) = (one["data"] for one in queued(store) if one["data"]["session_id"] == "s_1")
    assert odd == {**session(1, duration_minutes=45), "subject": "=1+1"}


def test_the_error_file_has_the_columns_of_the_original_and_two_more() -> None:
    bad = {"note": "=cmd", **session(7, duration_minutes="-5")}
    upload = read(as_csv([bad, {"note": "", **session(8)}], delimiter=";"), SESSIONS)
    text = error_file(upload).decode("utf-8-sig")
    header, row = csv.reader(io.StringIO(text, newline=""), delimiter=";")
    assert header == [*bad, "_line", "_problem"]
    assert row[0] == "'=cmd"
    assert row[-2] == "2"
    assert row[-1] == f"duration_minutes: Must be at least 0. [upload {upload.pk}]"


@pytest.mark.parametrize(
    "start",
    ["=", "+", "-", "@", "\t=", "\r=", " =", "\N{FULLWIDTH EQUALS SIGN}", "x;=", 'x,"=', "x\n@"],
)
@pytest.mark.parametrize("file_format", ["csv", "xlsx"])
def test_no_cell_of_an_error_file_runs_as_a_formula(start: str, file_format: str) -> None:
    harm = f"{start}HYPERLINK(1)"
    records = [{f"{start}note": harm, **session(1, student_id=f"{harm} x")}]
    upload = read(WRITERS[file_format](records), SESSIONS)
    content = error_file(upload)
    if file_format == "csv":
        # As programs see it that split cells at another mark and know no quotes.
        cells = re.split(r"[,;|\t\r\n]", content.decode("utf-8-sig"))
    else:
        book = load_workbook(io.BytesIO(content))
        cells = [one for row in book.active.iter_rows(values_only=True) for one in row]
        assert not any(one.data_type == "f" for row in book.active.iter_rows() for one in row)
    assert len(cells) > 30
    begins = [one.lstrip(' "\t\r\n')[:1] for one in cells if isinstance(one, str)]
    assert not set(begins) & set("=+-@\uff1d")


def test_the_error_file_of_an_error_file_has_the_two_columns_once() -> None:
    parent = read(as_csv([session(1, duration_minutes=999)]))
    child = read(error_file(parent))
    header, _ = csv.reader(io.StringIO(error_file(child).decode("utf-8-sig"), newline=""))
    assert header == [*session(1), "_line", "_problem"]
    assert child.parent == parent


def test_the_same_file_again_is_taken_and_known() -> None:
    first, second = (read(as_csv([session(1)])) for _ in range(2))
    assert first.sha256 == second.sha256
    assert second.state == State.REVIEW


# --- counts ------------------------------------------------------------------------------------


def test_blank_rows_between_others_are_counted_and_those_below_the_last_are_not() -> None:
    head, *rows = as_csv([session(1), session(2)]).splitlines()
    content = b"\n".join([head, b"", rows[0], b",,,", b"", rows[1], b",,", b"", b""])
    assert counts(read(content)) == (2, 0, 0, 3)


def test_a_row_like_one_that_was_refused_is_no_duplicate() -> None:
    upload = read(as_csv([session(1, duration_minutes=999), session(1)]))
    assert counts(upload) == (1, 1, 0, 0)


def test_rows_that_cannot_be_told_apart_are_counted_as_to_fix(store: Redis) -> None:
    content = as_csv([session(1), session(2)]) + b'x,"broken\n'
    upload = queue(read(content))
    assert counts(upload) == (2, 1, 0, 0)
    assert upload.rows_queued == 2


def test_what_is_shown_is_bounded_whatever_the_file_is() -> None:
    records = [session(n, duration_minutes=-1, subject="x" * 5000) for n in range(200)]
    upload = read(as_csv([*records, session(999)]))
    assert upload.rows_invalid == 200
    assert len(upload.findings["bad"]) == 50
    assert all(len(cause["lines"]) == 5 for cause in upload.findings["causes"])
    assert len(json.dumps(upload.findings)) < 50 * 20_000


def test_a_file_with_more_rows_than_allowed_is_not_read_on(settings: Any) -> None:
    settings.MAX_UPLOAD_ROWS = 3
    upload = read(as_csv([session(n) for n in range(5)]))
    assert (upload.state, upload.rows_ready) == (State.FAILED, 0)
    assert "more rows" in upload.failure


def test_json_that_breaks_off_fails_with_the_place_and_queues_nothing(store: Redis) -> None:
    upload = read(as_json([session(n) for n in range(50)])[:-30])
    assert upload.state == State.FAILED
    assert "incomplete" in upload.failure
    with pytest.raises(NotNowError):
        actions.confirm(upload)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"%PDF-1.7", "not a table and not JSON"),
        (b"PK\x03\x04", "damaged"),
        (b" \n", "empty"),
        (b'[{"a": 1', "malformed"),
    ],
)
def test_a_file_that_is_not_readable_fails_with_the_reason_and_can_be_tried_again(
    content: bytes, why: str
) -> None:
    upload = create(content, SESSIONS)
    assert upload.state == State.FAILED
    assert why in upload.failure
    actions.retry(upload)
    assert upload.state == State.INSPECTING
    assert advance(upload).state == State.FAILED


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\files\\may.csv", "may.csv"),
        ("a\r\nSet-Cookie: x.csv", "aSet-Cookie: x.csv"),
        ("\x00", "file"),
        ("x" * 400, "x" * 255),
    ],
)
def test_the_senders_name_is_never_a_name_on_the_disk(name: str, kept: str) -> None:
    upload = create(as_csv([session(1)]), name=name)
    assert upload.file_name == kept
    assert len(upload.file.name) == 32
    assert upload.file.name.isalnum()


# --- what is asked -----------------------------------------------------------------------------


def inspect(content: bytes, record_type: RecordType | None = SESSIONS) -> Inspection:
    return inspection.inspect(file_rows.look(io.BytesIO(content)), record_type=record_type)


def answer(upload: Upload, **choices: Any) -> None:
    """Choose a part of the layout."""
    found = actions.found(upload)
    layout = replace(found.layout, **choices)
    actions.answer(upload, inspection.answered(found, SESSIONS, layout))


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


# --- what staff do -----------------------------------------------------------------------------


def test_a_fix_in_place_makes_a_row_ready_and_a_wrong_one_says_why(store: Redis) -> None:
    upload = read(as_csv([session(1, duration_minutes="90 min"), session(2, tutor_id="")]))
    refused = actions.fix(upload, {2: {"duration_minutes": 999}, 3: {"tutor_id": "t_1"}})
    assert [error.code for error in refused[2]] == [FieldCode.MAX_VALUE]
    assert list(refused) == [2]
    assert (upload.state, upload.fixes) == (State.REVIEW, {})
    assert actions.fix(upload, {2: {"duration_minutes": 90}, 3: {"tutor_id": "t_1"}}) == {}
    queue(advance(upload))
    assert [
        (one["data"]["duration_minutes"], one["data"]["tutor_id"]) for one in queued(store)
    ] == [(90, "tutor_00001"), (60, "t_1")]


def test_a_later_fix_of_a_row_keeps_the_earlier_ones(store: Redis) -> None:
    upload = read(as_csv([session(1, duration_minutes="90 min")]))
    actions.fix(upload, {2: {"duration_minutes": 90}})
    advance(upload)
    # The rules may have changed since then: the row is refused again, for another field.
    row = {"line": 2, "fields": json.dumps(session(1, duration_minutes=90)), "errors": []}
    Upload.objects.update(findings={**upload.findings, "bad": [row]})
    upload.refresh_from_db()
    actions.fix(upload, {2: {"subject": "Geometry"}})
    queue(advance(upload))
    (one,) = queued(store)
    assert (one["data"]["duration_minutes"], one["data"]["subject"]) == (90, "Geometry")


def test_a_fix_of_a_row_that_is_no_longer_to_fix_is_refused() -> None:
    upload = read(as_csv([session(1, duration_minutes="90 min"), session(2)]))
    with pytest.raises(NotNowError):
        actions.fix(upload, {3: {"subject": "Geometry"}})
    stale = Upload.objects.get(pk=upload.pk)
    actions.fix(upload, {2: {"duration_minutes": 90}})
    advance(upload)
    with pytest.raises(NotNowError):
        actions.fix(stale, {2: {"duration_minutes": 45}})


def test_a_list_whose_entry_holds_a_semicolon_survives_the_fix_of_another_field(
    store: Redis,
) -> None:
    tutor = {**TUTORS.serializer_class.example, "subjects": ["Maths; pure", "[x]"], "age": 7}
    upload = read(as_json([tutor]))
    assert actions.fix(upload, {1: {"age": 30}}) == {}
    queue(advance(upload))
    assert queued(store, TUTORS)[0]["data"]["subjects"] == ["Maths; pure", "[x]"]


def test_a_cancelled_upload_queues_nothing(store: Redis) -> None:
    upload = read(as_csv([session(1)]))
    actions.cancel(upload)
    with pytest.raises(NotNowError):
        actions.confirm(upload)
    assert advance(upload).state == State.CANCELLED
    assert store.llen(SESSIONS.queue) == 0


def test_rows_are_queued_once_however_often_it_is_confirmed(store: Redis) -> None:
    upload = queue(read(as_csv([session(n) for n in range(10)])))
    with pytest.raises(NotNowError):
        actions.confirm(upload)
    advance(upload)
    assert store.llen(SESSIONS.queue) == 10


def test_what_is_read_and_what_still_waits_add_up(store: Redis) -> None:
    store.lpush(SESSIONS.queue, "other")
    first = queue(read(as_csv([session(n) for n in range(10)])))
    second = queue(read(as_csv([session(n) for n in range(10, 15)])))

    def places() -> list[tuple[int, int]]:
        found = [actions.whereabouts(one) for one in (first, second)]
        assert all(one.is_exact for one in found)
        return [(one.waiting, one.read) for one in found]

    assert places() == [(10, 0), (5, 0)]
    for _ in range(4):
        store.rpop(SESSIONS.queue)
    assert places() == [(7, 3), (5, 0)]
    for _ in range(9):
        store.rpop(SESSIONS.queue)
    assert places() == [(0, 10), (3, 2)]


def test_recall_takes_what_nobody_has_read_and_nothing_else(store: Redis) -> None:
    queue(read(as_csv([session(n) for n in range(5)])))
    upload = queue(read(as_csv([session(n) for n in range(10, 20)])))
    queue(read(as_csv([session(n) for n in range(20, 25)])))
    for _ in range(8):
        store.rpop(SESSIONS.queue)
    assert actions.recall(upload) == 7
    upload.refresh_from_db()
    assert upload.rows_recalled == 7
    assert actions.whereabouts(upload).waiting == 0
    left = [one["data"]["session_id"] for one in queued(store)]
    assert left == [f"s_{n}" for n in range(20, 25)]
    assert actions.recall(upload) == 0


def test_recall_takes_every_row_whatever_the_clock_of_who_confirmed_said(store: Redis) -> None:
    upload = queue(read(as_csv([session(n) for n in range(1100)])))
    Upload.objects.update(confirmed_at=now() + timedelta(seconds=30))
    upload.refresh_from_db()
    assert actions.recall(upload) == 1100


def test_files_and_rows_are_deleted_when_their_time_is_over(settings: Any) -> None:
    upload = read(as_csv([session(1, duration_minutes=999), session(2)]))
    files = [upload.file.name, upload.error_file.name]
    storage = upload.file.storage
    assert actions.expire() == 0
    Upload.objects.update(uploaded_at=now() - timedelta(days=settings.UPLOAD_KEEP_DAYS, seconds=1))
    assert actions.expire() == 1
    upload.refresh_from_db()
    assert not any(storage.exists(name) for name in files)
    assert "s_1" not in json.dumps(upload.findings)
    assert upload.rows_invalid == 1
    assert actions.expire() == 0


def test_a_paused_queue_is_waited_for_and_nothing_is_lost(store: Redis) -> None:
    upload = read(as_csv([session(1)]))
    pause = queues.Pause(reason="Consumer update", by="otto", since=now())
    queues.pause_queue(SESSIONS.queue, pause)
    queue(upload)
    assert (upload.state, upload.waiting) == (
        State.QUEUEING,
        "The queue is paused: Consumer update",
    )
    queues.resume_queue(SESSIONS.queue)
    assert advance(upload).state == State.DONE
    assert store.llen(SESSIONS.queue) == 1
