"""How CSV becomes rows: every layout, every type of damage, every cell."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion import validation
from ingestion.decoding import Row
from ingestion.files.csv import Encoding
from ingestion.files.shape import LONGEST_RECORD, Shape
from ingestion.outcomes import Code, FieldCode, PayloadError, Rejection
from ingestion.records import RecordType
from ingestion.validation import Valid
from tests.reading import detect_csv, read_as
from tests.record_types import SESSIONS, TUTORS
from tests.test_file_rows import as_csv, read, read_csv

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
    shape = detect_csv(file)
    assert shape.options["delimiter"] == delimiter
    assert shape.options["encoding"] in (encoding, Encoding.UTF_8 if "utf-8" in encoding else None)
    assert [row.value for row in read_as(file, "csv", TUTORS)] == records


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
    *_, last = read_as(io.BytesIO(content.encode("cp1252")), "csv", TUTORS)
    assert last.value == {"name": "Zoë"}
    assert last.line == 100_002


def test_a_letter_cut_in_two_by_a_chunk_is_one_letter() -> None:
    for padding in range(4):
        content = f"name\n{'x' * padding}" + "ë" * 100_000
        assert detect_csv(io.BytesIO(content.encode())).options["encoding"] is Encoding.UTF_8


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
    shape = detect_csv(file)
    assert (shape.options["delimiter"], shape.header_line) == (";", header_line)
    (row,) = read_as(file, "csv", TUTORS)
    assert row == Row(value={"tutor_id": "1", "name": "Ann"}, line=header_line + 1)


@pytest.mark.parametrize(
    ("head", "delimiter"),
    [("Nummer;Ort\n1;Wien\n2;Graz\n", ";"), ("Nummer\n1\n2\n", ","), ("x", ",")],
)
def test_a_header_in_other_words_is_parted_as_it_looks(head: str, delimiter: str) -> None:
    shape = detect_csv(io.BytesIO(head.encode()))
    assert (shape.options["delimiter"], shape.header_line) == (delimiter, 1)


def test_what_the_caller_says_of_a_csv_file_counts() -> None:
    content = "tutor_id|name\nname;tutor_id\nZoë;7\n".encode("cp1252")
    options = {"encoding": Encoding.CP1252, "delimiter": ";"}
    shape = Shape(file_format="csv", header_line=2, options=options)
    rows = read_as(io.BytesIO(content), "csv", TUTORS, shape)
    assert list(rows) == [Row(value={"name": "Zoë", "tutor_id": "7"}, line=3)]
    wrong = replace(shape, options={**options, "encoding": Encoding.UTF_8})
    (row,) = read_as(io.BytesIO(content), "csv", TUTORS, wrong)
    assert row.problem.code is FieldCode.MALFORMED_LINE


def test_columns_are_matched_by_name_and_unknown_ones_dropped() -> None:
    (row,) = read_csv(
        " Tutor ID ,EMAIL,Education-Level,shoe size,,subject_type\n7,a@b.cd,x,42,y,\n"
    )
    assert row.value == {"tutor_id": "7", "email": "a@b.cd", "education_level": "x"}


def test_if_two_columns_have_one_name_the_last_filled_one_counts() -> None:
    assert [row.value for row in read_csv("name,Name\na,b\na,\n")] == [{"name": "b"}, {"name": "a"}]


@pytest.mark.parametrize("content", [b"hello,world\n1,2\n", b'"\n', b"\0\n"])
def test_a_file_without_a_column_of_ours_is_refused(content: bytes) -> None:
    with pytest.raises(PayloadError) as refusal:
        list(read_as(io.BytesIO(content), "csv", TUTORS))
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
    ("record_type", "field", "cell", "value"),
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
    record_type: RecordType, field: str, cell: str, value: Any
) -> None:
    table = io.StringIO(newline="")
    csv.writer(table).writerows([[field], [cell]])
    (row,) = read_csv(table.getvalue(), record_type)
    found = row.value[field]
    assert found == value
    assert type(found) is type(value)


def test_an_empty_cell_is_an_absent_field_and_the_serializer_decides() -> None:
    example = dict(TUTORS.serializer_class.example)
    rows = read_csv(as_csv([example | {"status": "", "created_at": "  "}, example | {"age": " "}]))
    valid, refused = validation.validate(TUTORS, rows)
    assert isinstance(valid, Valid)
    assert isinstance(refused, Rejection)
    assert b'"status":"active"' in valid.content
    assert b"created_at" not in valid.content
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
def test_what_cannot_be_converted_is_refused_by_the_serializer(
    field: str, cell: str, code: FieldCode
) -> None:
    example = dict(TUTORS.serializer_class.example)
    (refused,) = validation.validate(TUTORS, read_csv(as_csv([example | {field: cell}])))
    assert isinstance(refused, Rejection)
    assert [error.code for error in refused.errors] == [code]


# --- CSV: everything that a csv.writer writes --------------------------------------------------


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
# The writer does not quote a lone line feed or carriage return if it is not its own line end.
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


@pytest.mark.slow
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
    shape = detect_csv(file)
    if encoding == "cp1252":  # a few letters can look like UTF-8 by chance
        shape = replace(shape, options={**shape.options, "encoding": Encoding.CP1252})
    rows = list(read_as(file, "csv", TUTORS, shape))
    assert [row.problem for row in rows] == [None] * len(records)
    assert [row.value for row in rows] == records


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_below_a_header_are_rows_or_problems(content: bytes) -> None:
    file = io.BytesIO(b"tutor_id,name\n1,a\n" + content)
    first, *_ = rows = list(read_as(file, "csv", TUTORS))
    assert first == Row(value={"tutor_id": "1", "name": "a"}, line=2)
    assert all(row.problem or row.value is not None for row in rows)
