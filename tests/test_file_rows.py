"""How a file becomes rows: the content shows the format, and rows are streamed."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from ingestion import file_rows
from ingestion.decoding import Row
from ingestion.files import registry
from ingestion.outcomes import Code, FieldCode, PayloadError
from ingestion.records import RecordType
from tests.reading import read_as
from tests.record_types import SESSIONS, TUTORS


def read(content: bytes, record_type: RecordType = TUTORS) -> list[Row]:
    file = io.BytesIO(content)
    return list(file_rows.read(file, record_type, file_rows.look(file)))


def read_csv(text: str, record_type: RecordType = TUTORS) -> list[Row]:
    return list(read_as(io.BytesIO(text.encode()), "csv", record_type))


def filled(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if value is not None}


def as_csv(records: list[dict[str, Any]], **dialect: Any) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(records[0]), **dialect)
    writer.writeheader()
    for record in records:
        writer.writerow(
            {
                name: json.dumps(value) if isinstance(value, list) else value
                for name, value in record.items()
            }
        )
    return text.getvalue()


# --- formats -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'[{"a": 1}]', "json"),
        (b"\n\n  []", "json"),
        (b'{"a": 1}', "json"),
        (b'{"a": 1}\n\n', "json"),
        (b'{\n  "a": [\n    {"b": 1},\n    {"c": 1}\n  ]\n}', "json"),
        (b'{"a": 1}\n{"a": 2}\n', "ndjson"),
        (b'{"a": 1}\n{"a": ', "ndjson"),
        (b'{"a": \n{"a": 2}\n', "ndjson"),
        (b'broken\r\n{"a": 2}\r\n', "ndjson"),
        (b'{"a": "' + b"x" * 2**18 + b'"}\n{"a": 2}\n', "ndjson"),
        (b'{"a": "' + b"x" * 2**18 + b'"}\n', "json"),
        (b"tutor_id,name\n1,2\n", "csv"),
        (b"tutor_id\n", "csv"),
        ("\ufefftutor_id;name\n".encode(), "csv"),
        ("tutor_id\tname\n".encode("utf-16"), "csv"),
    ],
)
def test_the_format_is_told_by_the_content(content: bytes, expected: str) -> None:
    assert registry.recognise(io.BytesIO(content)).name == expected


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", Code.EMPTY_FILE),
        (b" \r\n\t\n", Code.EMPTY_FILE),
        ("\ufeff".encode(), Code.EMPTY_FILE),
        (b"PK\x03\x04\x14\x00\x06\x00", Code.UNKNOWN_FILE_FORMAT),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Code.UNKNOWN_FILE_FORMAT),
        (b"\x1f\x8b\x08\x00", Code.UNKNOWN_FILE_FORMAT),
        (b"%PDF-1.7", Code.UNKNOWN_FILE_FORMAT),
        (b"\xef\xbb\xbf<html><table>", Code.UNKNOWN_FILE_FORMAT),
    ],
)
def test_a_file_that_holds_no_records_is_refused_with_a_reason(content: bytes, code: Code) -> None:
    with pytest.raises(PayloadError) as refusal:
        file_rows.look(io.BytesIO(content))
    assert refusal.value.code is code


def test_every_format_gives_the_same_record(record_type: RecordType) -> None:
    record = dict(record_type.serializer_class.example)
    contents = {
        "json": json.dumps([record, record], indent=2),
        "ndjson": f"{json.dumps(record)}\n{json.dumps(record)}\n",
        "csv": as_csv([record, record]),
    }
    for file_format, text in contents.items():
        file = io.BytesIO(text.encode())
        assert registry.recognise(file).name == file_format
        found = list(read_as(file, file_format, record_type))
        assert [row.problem for row in found] == [None, None]
        assert [filled(row.value) for row in found] == [filled(record)] * 2
        assert file_rows.guess_record_type(file_rows.look(file)) is record_type


@pytest.mark.parametrize(
    "content",
    [
        b"tutor_id,session_id\n1,2\n",
        b"hello,world\n1,2\n",
        b'[{"tutor_id": "1"}]',
        b'{"tutor_id": "1"}\n{"session_id": "1"}\n',
        b"[1, null]",
        b"[]",
    ],
)
def test_a_record_type_is_never_guessed_on_half_the_fields(content: bytes) -> None:
    file = io.BytesIO(content)
    assert file_rows.guess_record_type(file_rows.look(file)) is None


def test_a_file_of_several_types_is_of_none() -> None:
    records = [record_type.serializer_class.example for record_type in (TUTORS, SESSIONS)]
    content = "".join(f"{json.dumps(record)}\n" for record in records)
    assert file_rows.guess_record_type(file_rows.look(io.BytesIO(content.encode()))) is None


def test_the_type_is_told_although_single_records_lack_a_field() -> None:
    record = dict(TUTORS.serializer_class.example)
    lines = [
        json.dumps({name: value for name, value in record.items() if name != left_out})
        for left_out in ("age", "name")
    ]
    file = io.BytesIO("\n".join(lines).encode())
    assert file_rows.guess_record_type(file_rows.look(file)) is TUTORS


@pytest.mark.parametrize(
    "content", [b'{"a": 1}\n{"a": 2}\n', b'[{"a": 1}, {"a": 2}]', b"name\n1\n2\n"]
)
def test_the_file_stays_open_however_far_it_was_read(content: bytes) -> None:
    file = io.BytesIO(content)
    file_format = registry.recognise(file).name
    for _ in range(2):
        first = next(read_as(file, file_format, TUTORS))
        assert first.problem is None
    assert len(list(read_as(file, file_format, TUTORS))) == 2
    assert not file.closed


def test_rows_may_be_left_after_their_file_was_closed(tmp_path: Path) -> None:
    path = tmp_path / "tutors.csv"
    path.write_text("name\n1\n2\n")
    with path.open("rb") as file:
        rows = read_as(file, "csv", TUTORS)
        next(rows)
    rows.close()  # type: ignore[attr-defined]


# --- memory ------------------------------------------------------------------------------------

MANY = 40_000


def write_many(path: Path, file_format: str) -> None:
    record = filled(dict(SESSIONS.serializer_class.example))
    one = json.dumps(record)
    header, line = as_csv([record]).splitlines()
    with path.open("w") as file:
        if file_format == "csv":
            file.write(f"{header}\n")
            file.writelines(f"{line}\n" for _ in range(MANY))
        elif file_format == "ndjson":
            file.writelines(f"{one}\n" for _ in range(MANY))
        else:
            file.write(f"[{one}")
            file.writelines(f",\n{one}" for _ in range(MANY - 1))
            file.write("]")


@pytest.mark.slow
@pytest.mark.parametrize("file_format", ["csv", "json", "ndjson"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, file_format: str) -> None:
    path = tmp_path / "many"
    write_many(path, file_format)
    assert path.stat().st_size > 6 * 2**20
    with path.open("rb") as file:
        tracemalloc.start()
        try:
            assert registry.recognise(file).name == file_format
            assert file_rows.guess_record_type(file_rows.look(file)) is SESSIONS
            count = sum(not row.problem for row in read_as(file, file_format, SESSIONS))
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert count == MANY
    assert peak_bytes < 8 * 2**20  # this includes the rows of the first look


@pytest.mark.parametrize("start", [b"name\n", b'name\n"', b'{"a": 1}\n{"a": 2}\n'])
def test_a_line_without_end_is_never_in_memory_as_a_whole(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "endless"
    with path.open("wb") as file:
        file.write(start)
        file.writelines(b"x" * 2**20 for _ in range(30))
    with path.open("rb") as file:
        tracemalloc.start()
        try:
            *_, last = file_rows.read(file, TUTORS, file_rows.look(file))
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert last.problem.code is FieldCode.MALFORMED_LINE
    assert peak_bytes < 8 * 2**20
