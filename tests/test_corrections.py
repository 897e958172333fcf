"""Error files come back as corrections of their upload, whatever people changed in them."""

from __future__ import annotations

import csv
import io
from datetime import datetime

import pytest
from openpyxl import load_workbook
from redis import Redis

from ingestion.cells import DateOrder, Notation
from ingestion.uploads import actions
from ingestion.uploads.inspection import Question
from tests.record_types import SESSIONS
from tests.uploading import (
    State,
    advance,
    answer,
    as_csv,
    as_xlsx,
    counts,
    create,
    error_file,
    queue,
    queued,
    read,
    session,
)

pytestmark = [pytest.mark.processes, pytest.mark.django_db]


def table(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def written(rows: list[list[str]], delimiter: str = ",") -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows(rows)
    return text.getvalue().encode()


def test_dates_mean_what_they_meant_in_the_file_that_is_corrected(store: Redis) -> None:
    """Its own rows alone would suggest that the month comes first."""
    parent = read(
        as_csv(
            [
                session(1, scheduled_start="25/04/2026 10:00"),
                session(2, scheduled_start="03/04/2026 10:00", duration_minutes=999),
            ]
        )
    )
    child = read(error_file(parent).replace(b"999", b"45"))
    assert (child.parent, counts(child)) == (parent, (1, 0, 0, 0))
    queue(child)
    assert queued(store)[0]["data"]["scheduled_start"] == "2026-04-03T10:00:00"


def test_dates_that_contradict_the_corrected_file_are_asked_for() -> None:
    parent = create(
        as_csv(
            [
                session(1, scheduled_start="25/04/2026 10:00"),
                session(2, scheduled_start="04/25/2026 10:00"),
                session(3, scheduled_start="03/04/2026 10:00", duration_minutes=999),
            ]
        )
    )
    answer(parent, notation=Notation(date_order=DateOrder.DAY))
    parent = advance(parent)
    child = create(error_file(parent).replace(b"999", b"45"))
    assert (child.parent, child.state) == (parent, State.CHECK)
    assert Question.DATE_ORDER in actions.found(child).questions


def test_columns_that_were_chosen_are_not_asked_for_again(store: Redis) -> None:
    names = {"duration_minutes": "Wie lange", "subject": "Fach"}
    rows = [
        {
            names.get(name, name): value
            for name, value in session(n, duration_minutes=99 + n).items()
        }
        for n in (200, 202)
    ]
    upload = create(as_csv(rows))
    assert upload.state == State.CHECK
    fields = {value: name for name, value in names.items()}
    found = actions.found(upload)
    answer(upload, columns=tuple(fields.get(one.name, one.field) for one in found.columns))
    parent = advance(upload)
    assert counts(parent) == (1, 1, 0, 0)
    child = read(error_file(parent).replace(b"301", b"45"))
    assert (child.parent, counts(child)) == (parent, (1, 0, 0, 0))


def test_what_excel_makes_of_an_error_file_completes_its_parent(store: Redis) -> None:
    """Columns moved, rows deleted, numbers and dates typed again, problems cleared."""
    texts = ["1.10", "'=1+1", "=1+1", "x;=1"]
    parent = read(
        as_xlsx([session(n, duration_minutes=999, subject=text) for n, text in enumerate(texts)])
    )
    book = load_workbook(io.BytesIO(error_file(parent)))
    rows = [list(row) for row in book.active.iter_rows(values_only=True)]
    at = {name: place for place, name in enumerate(rows[0])}
    for row in rows[1:]:
        row[at["duration_minutes"]] = 45
        row[at["scheduled_start"]] = datetime.fromisoformat("2026-04-03T10:00:00")
    rows[2][at["_problem"]] = None
    del rows[3]
    book.active.delete_rows(1, 10)
    for row in rows:
        book.active.append(row[::-1])
    for cells in book.active.iter_rows():
        for cell in cells:
            if cell.data_type == "f":
                cell.data_type = "s"
    file = io.BytesIO()
    book.save(file)
    child = read(file.getvalue())
    assert (child.parent, counts(child)) == (parent, (3, 0, 0, 0))
    queue(child)
    data = [one["data"] for one in queued(store)]
    assert [one["subject"] for one in data] == ["1.10", "'=1+1", "x;=1"]
    assert {one["scheduled_start"] for one in data} == {"2026-04-03T10:00:00"}


def test_an_error_file_that_a_spreadsheet_saved_in_its_own_way_is_known(store: Redis) -> None:
    texts = ["'=1+1", "Müller, -x", "a\n-b"]
    parent = read(
        as_csv([session(n, duration_minutes=999, subject=text) for n, text in enumerate(texts)])
    )
    rows = table(error_file(parent).replace(b"999", b"45"))
    child = read(written([["Please mend"], [], *rows], ";"))
    assert (child.parent, counts(child)) == (parent, (3, 0, 0, 0))
    queue(child)
    assert [one["data"]["subject"] for one in queued(store)] == texts


def test_problems_may_be_cleared_and_lines_deleted() -> None:
    parent = read(as_csv([session(n, duration_minutes=999, subject="=1") for n in range(3)]))
    header, *rows = table(error_file(parent).replace(b"999", b"45"))
    at = header.index("_problem")
    child = read(written([header, *([*row[:at], ""] for row in rows[:2])]))
    assert counts(child) == (2, 0, 0, 0)
    cells = [row["cells"] for row in child.findings["good"]]
    assert all("=1" in row and "'=1" not in row for row in cells)


@pytest.mark.parametrize("name", ["tutor_id", "=tutor_id", "_line", "", "SESSION ID"])
def test_columns_of_one_name_stay_apart(name: str) -> None:
    rows = table(as_csv([session(1, duration_minutes=999)]))
    rows[0] += [name, name]
    rows[1] += ["first", ""]
    parent = read(written(rows), SESSIONS)
    found = table(error_file(parent))
    assert [row[-4:-2] for row in found[1:]] == [["first", ""]]
    child = read(error_file(parent), SESSIONS)
    assert child.findings["bad"][0]["fields"] == parent.findings["bad"][0]["fields"]
