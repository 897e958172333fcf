"""How a file becomes rows: every format, every layout, every kind of damage."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion import decoding, json_rows, readers, validation
from ingestion.csv_rows import CsvOptions, Encoding
from ingestion.decoding import Framing, Payload, Row
from ingestion.outcomes import Code, FieldCode, PayloadError
from ingestion.readers import LONGEST_RECORD, FileFormat
from ingestion.records import RECORD_TYPES, RecordType

TUTORS = RECORD_TYPES["tutors"]
SESSIONS = RECORD_TYPES["sessions"]
FEEDBACK = RECORD_TYPES["feedback"]


def read(content: bytes, kind: RecordType = TUTORS) -> list[Row]:
    file = io.BytesIO(content)
    return list(readers.read(file, readers.detect(file), kind))


def read_csv(text: str, kind: RecordType = TUTORS) -> list[Row]:
    return list(readers.read(io.BytesIO(text.encode()), FileFormat.CSV, kind))


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
        (b'[{"a": 1}]', FileFormat.JSON),
        (b"\n\n  []", FileFormat.JSON),
        (b'{"a": 1}', FileFormat.JSON),
        (b'{"a": 1}\n\n', FileFormat.JSON),
        (b'{\n  "a": [\n    {"b": 1},\n    {"c": 1}\n  ]\n}', FileFormat.JSON),
        (b'{"a": 1}\n{"a": 2}\n', FileFormat.NDJSON),
        (b'{"a": 1}\n{"a": ', FileFormat.NDJSON),
        (b'{"a": \n{"a": 2}\n', FileFormat.NDJSON),
        (b'broken\r\n{"a": 2}\r\n', FileFormat.NDJSON),
        (b"tutor_id,name\n1,2\n", FileFormat.CSV),
        (b"tutor_id\n", FileFormat.CSV),
        ("\ufefftutor_id;name\n".encode(), FileFormat.CSV),
        ("tutor_id\tname\n".encode("utf-16"), FileFormat.CSV),
    ],
)
def test_the_format_is_told_by_the_content(content: bytes, expected: FileFormat) -> None:
    assert readers.detect(io.BytesIO(content)) is expected


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
def test_what_is_no_file_of_records_is_refused_with_a_reason(content: bytes, code: Code) -> None:
    with pytest.raises(PayloadError) as refusal:
        readers.detect(io.BytesIO(content))
    assert refusal.value.code is code


def test_every_format_gives_the_same_record(record_type: RecordType) -> None:
    record = dict(record_type.serializer_class.example)
    contents = {
        FileFormat.JSON: json.dumps([record, record], indent=2),
        FileFormat.NDJSON: f"{json.dumps(record)}\n{json.dumps(record)}\n",
        FileFormat.CSV: as_csv([record, record]),
    }
    for file_format, text in contents.items():
        file = io.BytesIO(text.encode())
        assert readers.detect(file) is file_format
        found = list(readers.read(file, file_format, record_type))
        assert [row.problem for row in found] == [None, None]
        assert [filled(row.value) for row in found] == [filled(record)] * 2
        assert readers.guess_record_type(file, file_format) is record_type


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
    assert readers.guess_record_type(file, readers.detect(file)) is None


def test_a_file_of_several_types_is_of_none() -> None:
    records = [kind.serializer_class.example for kind in (TUTORS, SESSIONS)]
    content = "".join(f"{json.dumps(record)}\n" for record in records)
    assert readers.guess_record_type(io.BytesIO(content.encode()), FileFormat.NDJSON) is None


def test_the_type_is_told_although_single_records_lack_a_field() -> None:
    record = dict(TUTORS.serializer_class.example)
    lines = [
        json.dumps({name: value for name, value in record.items() if name != left_out})
        for left_out in ("age", "name")
    ]
    file = io.BytesIO("\n".join(lines).encode())
    assert readers.guess_record_type(file, FileFormat.NDJSON) is TUTORS


@pytest.mark.parametrize(
    "content", [b'{"a": 1}\n{"a": 2}\n', b'[{"a": 1}, {"a": 2}]', b"name\n1\n2\n"]
)
def test_the_file_stays_open_however_far_it_was_read(content: bytes) -> None:
    file = io.BytesIO(content)
    file_format = readers.detect(file)
    for _ in range(2):
        first = next(readers.read(file, file_format, TUTORS))
        assert first.problem is None
    assert len(list(readers.read(file, file_format, TUTORS))) == 2
    assert not file.closed


def test_rows_may_be_left_after_their_file_was_closed(tmp_path: Path) -> None:
    path = tmp_path / "tutors.csv"
    path.write_text("name\n1\n2\n")
    with path.open("rb") as file:
        rows = readers.read(file, FileFormat.CSV, TUTORS)
        next(rows)
    rows.close()  # type: ignore[attr-defined]


# --- CSV: layouts ------------------------------------------------------------------------------

NAMES = ["Zoë Müller", "Ångström; the|first", 'The "Great", "Really"', "O'Neil €"]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encoding_delimiter_and_line_ends_are_found(
    encoding: str, delimiter: str, line_end: str
) -> None:
    names = [*NAMES, f"two{line_end}lines"]
    records = [{"tutor_id": f"00{n}", "name": name} for n, name in enumerate(names)]
    text = as_csv(records, delimiter=delimiter, lineterminator=line_end)
    file = io.BytesIO(text.encode(encoding))
    options = readers.detect_csv(file)
    assert options.delimiter == delimiter
    assert options.encoding in (encoding, Encoding.UTF_8 if "utf-8" in encoding else None)
    assert [row.value for row in readers.read(file, FileFormat.CSV, TUTORS)] == records


def test_utf_16_of_either_byte_order_is_read() -> None:
    text = "\ufeffname\nZoë\n"
    for encoding in ("utf-16-le", "utf-16-be"):
        assert [row.value for row in read(text.encode(encoding))] == [{"name": "Zoë"}]


def test_one_broken_byte_does_not_change_the_reading_of_the_whole_file() -> None:
    content = "tutor_id,name\n1,Zoë\n2,Jürgen\n".encode() + b"3,Ren\xe9e\n4,Ann\n"
    rows = read(content)
    assert [row.value for row in rows if row.problem is None] == [
        {"tutor_id": "1", "name": "Zoë"},
        {"tutor_id": "2", "name": "Jürgen"},
        {"tutor_id": "4", "name": "Ann"},
    ]
    (broken,) = (row for row in rows if row.problem)
    assert broken.line == 4
    assert broken.problem.code is FieldCode.MALFORMED_LINE


def test_a_byte_order_mark_decides_whatever_follows() -> None:
    content = "\ufefftutor_id,name\n1,Ann\n".encode() + b"2,Ren\xe9e\n"
    assert [row.value for row in read(content)] == [{"tutor_id": "1", "name": "Ann"}, None]


def test_a_space_before_a_quote_is_no_part_of_the_cell() -> None:
    assert [row.value for row in read_csv('name, location\nAnn, "Graz, Austria"\n')] == [
        {"name": "Ann", "location": "Graz, Austria"}
    ]


def test_a_byte_far_down_the_file_still_decides_its_encoding() -> None:
    content = "name\n" + "Ann\n" * 100_000 + "Zoë\n"
    *_, last = readers.read(io.BytesIO(content.encode("cp1252")), FileFormat.CSV, TUTORS)
    assert last.value == {"name": "Zoë"}
    assert last.line == 100_002


def test_a_letter_cut_in_two_by_a_chunk_is_one_letter() -> None:
    for padding in range(4):
        content = f"name\n{'x' * padding}" + "ë" * 100_000
        assert readers.detect_csv(io.BytesIO(content.encode())).encoding is Encoding.UTF_8


@pytest.mark.parametrize(
    ("above", "header_line"),
    [
        ("", 1),
        ("sep=;\n", 2),
        ("Tutors of May, all of them\n\n", 3),
        ('"a title\nof two lines";x;y\n', 3),
        ('"a quote that is never closed\n', 2),
    ],
)
def test_the_header_row_is_found_below_titles(above: str, header_line: int) -> None:
    file = io.BytesIO(f"{above}tutor_id;name;shoe size\n1;Ann;42\n".encode())
    options = readers.detect_csv(file)
    assert (options.delimiter, options.header_line) == (";", header_line)
    (row,) = readers.read(file, FileFormat.CSV, TUTORS)
    assert row == Row(value={"tutor_id": "1", "name": "Ann"}, line=header_line + 1)


@pytest.mark.parametrize(
    ("head", "delimiter"),
    [("Nummer;Ort\n1;Wien\n2;Graz\n", ";"), ("Nummer\n1\n2\n", ","), ("x", ",")],
)
def test_a_header_in_other_words_is_parted_as_it_looks(head: str, delimiter: str) -> None:
    options = readers.detect_csv(io.BytesIO(head.encode()))
    assert (options.delimiter, options.header_line) == (delimiter, 1)


def test_what_the_caller_says_of_a_csv_file_counts() -> None:
    content = "tutor_id|name\nname;tutor_id\nZoë;7\n".encode("cp1252")
    options = CsvOptions(encoding=Encoding.CP1252, delimiter=";", header_line=2)
    rows = readers.read(io.BytesIO(content), FileFormat.CSV, TUTORS, options)
    assert list(rows) == [Row(value={"name": "Zoë", "tutor_id": "7"}, line=3)]
    wrong = replace(options, encoding=Encoding.UTF_8)
    (row,) = readers.read(io.BytesIO(content), FileFormat.CSV, TUTORS, wrong)
    assert row.problem.code is FieldCode.MALFORMED_LINE


def test_columns_are_matched_by_name_and_unknown_ones_dropped() -> None:
    (row,) = read_csv(
        " Tutor ID ,EMAIL,Education-Level,shoe size,,subject_type\n7,a@b.cd,x,42,y,\n"
    )
    assert row.value == {"tutor_id": "7", "email": "a@b.cd", "education_level": "x"}


def test_of_two_columns_of_one_name_the_last_filled_one_counts() -> None:
    assert [row.value for row in read_csv("name,Name\na,b\na,\n")] == [{"name": "b"}, {"name": "a"}]


@pytest.mark.parametrize("content", [b"hello,world\n1,2\n", b'"\n', b"\0\n"])
def test_a_file_without_a_column_of_ours_is_refused(content: bytes) -> None:
    with pytest.raises(PayloadError) as refusal:
        list(readers.read(io.BytesIO(content), FileFormat.CSV, TUTORS))
    assert refusal.value.code is Code.UNKNOWN_COLUMNS


def test_lines_are_counted_as_an_editor_counts_them() -> None:
    text = 'name,location\n\na,"two\r\nlines"\n,\n ; \nb,"x\n\ny"\n\nc,d'
    assert [row.line for row in read_csv(text)] == [3, 6, 7, 11]


# --- CSV: damage -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "broken",
    [
        b"b,c,d",
        b"b\x00,c",
        b"b\xff,c",
        b'"b,c',
        b'b,"c',
        b'"b" x,c',
        b'b,"' + b"c" * 10 * 2**20 + b'"',
        b"b," + b"c" * 10 * 2**20,
        b"b" * LONGEST_RECORD + b",c",
    ],
    ids=lambda content: repr(content[:12]),
)
@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b""])
def test_a_broken_row_spoils_no_neighbour(broken: bytes, quote: str, line_end: bytes) -> None:
    def row(text: str) -> bytes:
        return ",".join(f"{quote}{cell}{quote}" for cell in text.split(",")).encode()

    lines = [row("name,location"), row("Zoë,Köln"), broken]
    if line_end:
        lines += [row("x,Köln"), row("z,Köln")]
    rows = read((line_end or b"\n").join(lines) + line_end)
    assert [one.line for one in rows] == list(range(2, len(lines) + 1))
    assert [one.line for one in rows if one.problem] == [3]
    assert rows[1].problem.code is FieldCode.MALFORMED_LINE
    assert [one.value for one in rows if not one.problem] == [
        {"name": name, "location": "Köln"} for name in ["Zoë", "x", "z"][: len(lines) - 2]
    ]


def test_a_quote_that_is_never_closed_takes_one_row_of_a_long_file() -> None:
    rows = read_csv('name,location\n"never closed,x\n' + "a,b\n" * 100_000)
    assert len(rows) == 100_001
    assert [row.line for row in rows if row.problem] == [2]


def test_a_row_of_endless_quoted_lines_ends_at_the_limit() -> None:
    cell = '"' + "\n" * 1000 + '",'
    rows = read_csv("name\n" + cell * (LONGEST_RECORD // 1000) + "\nlast\n")
    assert rows[0].line == 2
    assert rows[0].problem.code is FieldCode.MALFORMED_LINE
    assert rows[-1].value == {"name": "last"}


def test_empty_cells_behind_the_last_column_are_no_damage() -> None:
    assert [row.value for row in read_csv("name,age\na,20,,, \n")] == [{"name": "a", "age": 20}]


# --- CSV: cells --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "field", "cell", "value"),
    [
        (TUTORS, "age", "28", 28),
        (TUTORS, "age", " 28 ", 28),
        (TUTORS, "age", "28.0", 28),
        (TUTORS, "age", "-1", -1),
        (TUTORS, "age", "28.5", "28.5"),
        (TUTORS, "age", "1_0", "1_0"),
        (TUTORS, "age", "٢٨", "٢٨"),
        (TUTORS, "age", "1e1", "1e1"),
        (TUTORS, "age", "9" * 400, int("9" * 400)),
        (TUTORS, "age", "9" * 5000, "9" * 5000),
        (SESSIONS, "engagement_score", "0.92", 0.92),
        (SESSIONS, "engagement_score", ".5", 0.5),
        (SESSIONS, "engagement_score", "1", 1.0),
        (SESSIONS, "engagement_score", "5e-1", 0.5),
        (SESSIONS, "engagement_score", "nan", "nan"),
        (SESSIONS, "engagement_score", "Infinity", "Infinity"),
        (SESSIONS, "no_show", "TRUE", True),
        (SESSIONS, "no_show", "Yes", True),
        (SESSIONS, "no_show", "1", True),
        (SESSIONS, "no_show", "false", False),
        (SESSIONS, "no_show", "NO", False),
        (SESSIONS, "no_show", "0", False),
        (SESSIONS, "no_show", "maybe", "maybe"),
        (TUTORS, "subjects", "Algebra", ["Algebra"]),
        (TUTORS, "subjects", "Algebra; Reading, Writing ;", ["Algebra", "Reading, Writing"]),
        (TUTORS, "subjects", "Algebra|Logic", ["Algebra", "Logic"]),
        (TUTORS, "subjects", '["a;b", "c|d"]', ["a;b", "c|d"]),
        (TUTORS, "subjects", "[]", []),
        (TUTORS, "subjects", "[1, 2]", [1, 2]),
        (TUTORS, "subjects", "[a; b]", ["[a", "b]"]),
        (TUTORS, "subjects", "[NaN]", ["[NaN]"]),
        (TUTORS, "onboarding_date", "2024-05-14 15:00:00", "2024-05-14T15:00:00"),
        (TUTORS, "onboarding_date", "2024-05-14 15:00+02:00", "2024-05-14T15:00+02:00"),
        (TUTORS, "onboarding_date", "2024-05-14T15:00:00Z", "2024-05-14T15:00:00Z"),
        (TUTORS, "onboarding_date", "14.05.2024 15:00", "14.05.2024 15:00"),
        (TUTORS, "tutor_id", "00042", "00042"),
        (TUTORS, "tutor_id", "1.0", "1.0"),
        (TUTORS, "name", " Zoë  M ", "Zoë  M"),
        (TUTORS, "name", "true", "true"),
        (TUTORS, "status", "Active", "Active"),
    ],
)
def test_a_cell_becomes_what_its_field_takes_or_stays_text(
    kind: RecordType, field: str, cell: str, value: Any
) -> None:
    table = io.StringIO(newline="")
    csv.writer(table).writerows([[field], [cell]])
    (row,) = read_csv(table.getvalue(), kind)
    found = row.value[field]
    assert found == value
    assert type(found) is type(value)


def test_an_empty_cell_is_an_absent_field_and_the_serializer_decides() -> None:
    example = dict(TUTORS.serializer_class.example)
    rows = read_csv(as_csv([example | {"status": "", "created_at": "  "}, example | {"age": " "}]))
    valid, refused = validation.judge(TUTORS, rows)
    assert valid.data["status"] == "active"
    assert "created_at" not in valid.data
    assert [(one.field, one.code) for one in refused.errors] == [("age", FieldCode.REQUIRED)]


@pytest.mark.parametrize(
    ("field", "cell", "code"),
    [
        ("age", "old", FieldCode.NOT_AN_INTEGER),
        ("subjects", ";", FieldCode.MIN_LENGTH),
        ("subjects", "[1]", FieldCode.NOT_TEXT),
        ("onboarding_date", "yesterday", FieldCode.INVALID_DATETIME),
        ("tutor_id", "has space", FieldCode.INVALID_ID),
    ],
)
def test_what_can_not_be_converted_is_refused_by_the_serializer(
    field: str, cell: str, code: FieldCode
) -> None:
    example = dict(TUTORS.serializer_class.example)
    (refused,) = validation.judge(TUTORS, read_csv(as_csv([example | {field: cell}])))
    assert [error.code for error in refused.errors] == [code]


# --- CSV: whatever a csv.writer writes ---------------------------------------------------------


def words(alphabet: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.text(alphabet, max_size=20).map(str.strip).filter(bool)


def tutors(alphabet: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "tutor_id": words(alphabet),
            "name": words(alphabet),
            "age": st.integers(),
            "subjects": st.lists(words(alphabet), max_size=3),
            "location": words(alphabet),
        }
    )


CHARACTERS = {
    "utf-8": st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    "utf-16": st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    "cp1252": st.characters(codec="cp1252", exclude_characters="\0"),
}
# The writer leaves a lone line feed or carriage return unquoted where it is not its line end.
WRITERS = st.one_of(
    st.fixed_dictionaries(
        {"quoting": st.just(csv.QUOTE_MINIMAL), "lineterminator": st.just("\r\n")}
    ),
    st.fixed_dictionaries(
        {
            "quoting": st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
            "lineterminator": st.sampled_from(["\n", "\r\n", "\r"]),
        }
    ),
)


@settings(deadline=None)
@given(
    st.sampled_from(sorted(CHARACTERS)).flatmap(
        lambda encoding: st.tuples(
            st.just(encoding), st.lists(tutors(CHARACTERS[encoding]), min_size=1, max_size=5)
        )
    ),
    WRITERS,
    st.sampled_from([",", ";", "\t", "|"]),
)
def test_what_csv_writer_writes_comes_back_equal(
    written: tuple[str, list[dict[str, Any]]], writer: dict[str, Any], delimiter: str
) -> None:
    encoding, records = written
    file = io.BytesIO(as_csv(records, delimiter=delimiter, **writer).encode(encoding))
    options = readers.detect_csv(file)
    if encoding == "cp1252":  # a few letters alone can look like UTF-8
        options = replace(options, encoding=Encoding.CP1252)
    rows = list(readers.read(file, FileFormat.CSV, TUTORS, options))
    assert [row.problem for row in rows] == [None] * len(records)
    assert [row.value for row in rows] == records


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_below_a_header_are_rows_or_problems(content: bytes) -> None:
    file = io.BytesIO(b"tutor_id,name\n1,a\n" + content)
    first, *_ = rows = list(readers.read(file, FileFormat.CSV, TUTORS))
    assert first == Row(value={"tutor_id": "1", "name": "a"}, line=2)
    assert all(row.problem or row.value is not None for row in rows)


# --- NDJSON ------------------------------------------------------------------------------------


def test_each_line_of_ndjson_is_judged_alone() -> None:
    lines = [b'{"a": 1}', b"", b" \t", b'{"a": NaN}', b"\xff", b'{"a": 2}\r', b'{"a": 3']
    rows = list(readers.read(io.BytesIO(b"\n".join(lines)), FileFormat.NDJSON, TUTORS))
    assert [(row.line, row.value) for row in rows if not row.problem] == [
        (1, {"a": 1}),
        (6, {"a": 2}),
    ]
    assert [(row.line, row.problem.code) for row in rows if row.problem] == [
        (4, FieldCode.MALFORMED_JSON),
        (5, FieldCode.MALFORMED_JSON),
        (7, FieldCode.MALFORMED_JSON),
    ]


def test_a_line_too_long_for_a_record_is_refused_alone() -> None:
    longest = b'"' + b"x" * (LONGEST_RECORD - 3) + b'"\n'
    content = longest + b"x" + longest + b'"' + b"x" * 10 * 2**20 + b'"\n{"a": 1}\n'
    rows = list(readers.read(io.BytesIO(content), FileFormat.NDJSON, TUTORS))
    assert [row.line for row in rows] == [1, 2, 3, 4]
    assert [row.problem and row.problem.code for row in rows] == [
        None,
        FieldCode.MALFORMED_LINE,
        FieldCode.MALFORMED_LINE,
        None,
    ]


# --- JSON --------------------------------------------------------------------------------------

ODD_JSON = [
    b"[]",
    b" [ ] \n",
    b"[1]",
    b"[12, -0.5e+10, 1E5, 62.0, 123456789012345678901234567890]",
    b"[1e999, true, null, false]",
    b'["\\ud800", "\\udc00x", "\\ud83d\\ude00", "\xf0\x9f\x98\x80", "a\\u0000"]',
    b'[{"a": 1, "a": 2}, {"b": {"a": [1, {"c": ","}]}}]',
    b'["]", "[", "\\"", "\\\\"]',
    b"[NaN]",
    b"[Infinity]",
    b"[-Infinity]",
    b"[1,]",
    b"[,1]",
    b"[1 2]",
    b"[1, 2",
    b"[1.]",
    b"[01]",
    b"[-]",
    b"[1]]",
    b"[1] x",
    b"[1][2]",
    b'["a\x01"]',
    b'["a',
    b"[tru]",
    b"[" * 100_000,
    b"[" + b"9" * 5000 + b"]",
    b'["\xff"]',
    b'["\xed\xa0\x80"]',
    b'["\xf0\x9f',
    b"[",
    b"5",
    b'"text"',
    b"nul",
]


def outcome(rows: Iterator[Row]) -> Any:
    try:
        return repr([row.value for row in rows])
    except PayloadError as refusal:
        return refusal.code


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 2**16])
@pytest.mark.parametrize("content", ODD_JSON, ids=lambda content: repr(content[:30]))
def test_a_streamed_array_is_as_strict_as_a_decoded_one(
    content: bytes, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_rows, "_CHUNK", chunk)
    decoded = outcome(decoding.rows(Payload(content=content, framing=Framing.ARRAY)))
    if decoded is Code.MALFORMED_JSON and content[:1] != b"[":
        decoded = Code.NOT_AN_ARRAY  # told by its first character
    assert outcome(readers.read(io.BytesIO(content), FileFormat.JSON, TUTORS)) == decoded


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None)
@given(st.lists(JSON_VALUES, max_size=5), st.sampled_from([None, 0, 2]), st.booleans(), st.data())
def test_any_array_comes_back_equal(
    values: list[Any], indent: int | None, ascii_only: bool, data: st.DataObject
) -> None:
    text = json.dumps(values, indent=indent, ensure_ascii=ascii_only).replace("Infinity", "1e999")
    content = text.encode(errors="replace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_rows, "_CHUNK", data.draw(st.integers(1, 40)))
        rows = list(readers.read(io.BytesIO(content), FileFormat.JSON, TUTORS))
    assert repr([row.value for row in rows]) == repr(json.loads(content))


def test_one_record_is_read_as_one_row() -> None:
    (row,) = read(b'\n {"name": "Ann",\n "age": 20}\n\n')
    assert row == Row(value={"name": "Ann", "age": 20})


def test_a_record_of_ten_megabytes_is_refused_alone() -> None:
    long = json.dumps({"name": "x" * 10 * 2**20})
    rows = read(f'[{{"a": 1}}, {long}, {{"a": 2}}]'.encode())
    assert [row.value for row in rows] == [{"a": 1}, None, {"a": 2}]
    assert rows[1].problem.code is FieldCode.MALFORMED_LINE


@pytest.mark.parametrize("content", [b'[{"a": 1}]', b'{"a": 1}', b'{"a": 1}\n{"a": 2}\n'])
def test_a_byte_order_mark_before_json_is_passed_over(content: bytes) -> None:
    assert read(b"\xef\xbb\xbf" + content)[0].value == {"a": 1}


def test_the_rows_before_a_break_are_given_first() -> None:
    rows = readers.read(io.BytesIO(b'[{"a": 1}, {"a": 2}, {"a": '), FileFormat.JSON, TUTORS)
    assert [next(rows).value, next(rows).value] == [{"a": 1}, {"a": 2}]
    with pytest.raises(PayloadError) as refusal:
        next(rows)
    assert refusal.value.code is Code.MALFORMED_JSON


# --- memory ------------------------------------------------------------------------------------

MANY = 40_000


def write_many(path: Path, file_format: FileFormat) -> None:
    record = filled(dict(SESSIONS.serializer_class.example))
    one = json.dumps(record)
    header, line = as_csv([record]).splitlines()
    with path.open("w") as file:
        if file_format is FileFormat.CSV:
            file.write(f"{header}\n")
            file.writelines(f"{line}\n" for _ in range(MANY))
        elif file_format is FileFormat.NDJSON:
            file.writelines(f"{one}\n" for _ in range(MANY))
        else:
            file.write(f"[{one}")
            file.writelines(f",\n{one}" for _ in range(MANY - 1))
            file.write("]")


@pytest.mark.parametrize("file_format", [FileFormat.CSV, FileFormat.JSON, FileFormat.NDJSON])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, file_format: FileFormat) -> None:
    path = tmp_path / "many"
    write_many(path, file_format)
    assert path.stat().st_size > 6 * 2**20
    with path.open("rb") as file:
        tracemalloc.start()
        try:
            assert readers.detect(file) is file_format
            assert readers.guess_record_type(file, file_format) is SESSIONS
            count = sum(not row.problem for row in readers.read(file, file_format, SESSIONS))
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert count == MANY
    assert peak_bytes < 3 * 2**20


@pytest.mark.parametrize("start", [b"name\n", b'name\n"', b'{"a": 1}\n{"a": 2}\n'])
def test_a_line_without_end_is_never_in_memory_as_a_whole(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "endless"
    with path.open("wb") as file:
        file.write(start)
        file.writelines(b"x" * 2**20 for _ in range(30))
    with path.open("rb") as file:
        tracemalloc.start()
        try:
            *_, last = readers.read(file, readers.detect(file), TUTORS)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert last.problem.code is FieldCode.MALFORMED_LINE
    assert peak_bytes < 8 * 2**20
