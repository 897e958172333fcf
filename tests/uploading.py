"""Uploads for tests: their files, and the work on them, done in the test itself."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from openpyxl import Workbook
from redis import Redis

from ingestion.cells import cell_text
from ingestion.models import Upload
from ingestion.records import RecordType
from ingestion.uploads import actions, inspection, tasks
from tests.record_types import SESSIONS

State = Upload.State


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


def answer(upload: Upload, **choices: Any) -> None:
    """Choose a part of the layout."""
    found = actions.found(upload)
    layout = replace(found.layout, **choices)
    actions.answer(upload, inspection.answered(found, SESSIONS, layout))


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
