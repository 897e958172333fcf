"""Uploaded files: the fate of every row."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

import pytest
from openpyxl import load_workbook
from redis import Redis

from ingestion.outcomes import FieldCode
from ingestion.uploads import actions
from ingestion.uploads.actions import NotNowError
from tests.record_types import SESSIONS
from tests.uploading import (
    WRITERS,
    State,
    advance,
    as_csv,
    as_json,
    counts,
    create,
    error_file,
    queue,
    queued,
    read,
    session,
)

pytestmark = [pytest.mark.processes, pytest.mark.django_db]


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
