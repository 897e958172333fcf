"""An error file does not change its content: it is read, written and read again, twice."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from redis import Redis

from ingestion import file_rows
from ingestion.file_rows import FileRow, FileRows, Layout, layout_of
from ingestion.files import registry, xlsx_writer
from ingestion.files.csv import DELIMITER, Encoding
from ingestion.files.json import _without_infinity
from ingestion.uploads import error_files
from tests.record_types import SESSIONS
from tests.workbooks import sheet_xml, workbook

pytestmark = pytest.mark.processes

EXAMPLE = {**SESSIONS.serializer_class.example}
PROBLEM = "duration_minutes: Must be at most 300. [upload 7]"

HOSTILE = (
    *("1.10", "2.0", "007", "-0", "1e5", "0.1234567890123456", "123456789012345678", "99999999999"),
    *("true", "TRUE", "no", "0.92", "-5", "'-5", "0,5", "1 000", "12%"),
    *("1899-12-31T00:00:00", "1900-01-01T00:00:00", "1900-02-28T10:00:00", "1900-03-01T00:00:00"),
    *("2024-05-14T15:00:00", "2024-02-30T15:00:00", "9999-12-31T23:59:59", "0001-01-01T00:00:00"),
    *("03/04/2026", "2024-05-14 15:00", "14:00:00", "2024-05-14T15:00:00Z"),
    *(
        "=1+1",
        "'=1+1",
        "''=1",
        "'",
        "''",
        "'x",
        "x;=1",
        "x;'=1",
        'a,"=1',
        "\t=1",
        "\uff1d1",
        "a\n-b",
    ),
    *("_x000D_", "_x005F_x000D_", "_x0041_", "_x00_", "a\r\nb", "a\rb", "a\nb", "\n", "  x  "),
    *('"', '""', 'a"b', ",", ";", "|", "\t", "; ; ", "#N/A", "#REF!", "<b>&amp;</b>", "]]>"),
    *("\x00", "\x01", "\x0b", "\x1f", "\x85", "\u2028", "\ufeff", "\ufffe", "\uffff", "😀", "é"),
    *("[1, 2]", '["a;b"]', "{}", "null", "NaN", "Infinity", "1e999", "=cmd|' /C calc'!A0"),
    *("_line", "_problem", "tutor_id", "x" * 40_000, "[upload 3]", "�", "sep=;", "ID"),
)
texts = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(st.sampled_from("=+-@'\"\t\n\r,;|_x0D1. "), max_size=8),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
)
# Columns that are not fields, and may have names like other columns, like ours, or like a formula.
names = st.one_of(st.sampled_from(["note", "note", "_line", "_problem", "=x", "'=x", ""]), texts)
headers = st.lists(names, max_size=4)
tables = headers.flatmap(
    lambda names: st.tuples(
        st.just([*EXAMPLE, *names]),
        st.lists(
            st.lists(texts, min_size=len(EXAMPLE) + len(names), max_size=len(EXAMPLE) + len(names)),
            min_size=1,
            max_size=3,
        ),
    )
)
few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def rows_of(content: bytes) -> tuple[Layout, list[str], list[FileRow]]:
    """A file as `manage.py ingest` reads it, and an upload without any question."""
    file = io.BytesIO(content)
    layout = layout_of(file_rows.look(file))
    raws = registry.rows(file, layout.shape, most_unpacked_bytes=2**30)
    rows = FileRows(raws, layout, SESSIONS)
    return layout, rows.header, [row for row in rows if row.row is not None]


def error_file(content: bytes) -> bytes:
    """The error file of a file whose rows are all refused."""
    layout, header, rows = rows_of(content)
    with error_files.writing(layout, header) as writer:
        for row in rows:
            writer.add(row, PROBLEM)
        return writer.finish().read()


def carried(content: bytes) -> list[Any]:
    """The header and the rows without the added columns, and their records."""
    layout, header, rows = rows_of(content)
    if layout.armed:
        at = len(header) - 2
        assert header[at:] == ["_line", "_problem"]
        rows = [
            FileRow(line=row.line, raw=row.raw[:at] + row.raw[at + 2 :], row=row.row)
            for row in rows
        ]
        header = header[:at]
    width = len(header)
    found: list[Any] = [header]
    for row in rows:
        assert row.row is not None
        raw = row.raw
        if isinstance(raw, list):
            raw = raw + [""] * (width - len(raw))
            while len(raw) > width and not raw[-1]:
                raw.pop()
        elif isinstance(raw, dict):
            raw = {name: one for name, one in raw.items() if name not in ("_line", "_problem")}
        value = row.row.value
        if isinstance(value, dict):
            value = {name: one for name, one in value.items() if name in EXAMPLE}
        # As text, so that 1 is not True and not 1.0.
        found.append((repr(raw), repr(value), row.row.problem is not None))
    return found


def assert_comes_back(content: bytes) -> None:
    expected = carried(content)
    if len(expected) == 1:
        return
    first = error_file(content)
    assert carried(first) == expected
    again = error_file(error_file(first))
    assert carried(again) == expected


def as_csv(rows: Sequence[Sequence[str]], delimiter: str, encoding: str) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(rows)
    return text.getvalue().encode(encoding, errors="replace")


@pytest.mark.parametrize("encoding", Encoding)
@pytest.mark.parametrize("delimiter", DELIMITER.choices)
@given(table=tables)
@few
def test_each_cell_of_a_csv_file_comes_back(
    delimiter: str, encoding: str, table: tuple[list[str], list[list[str]]]
) -> None:
    header, rows = table
    assert_comes_back(as_csv([header, *rows], delimiter, encoding))


def as_xlsx(rows: Sequence[Sequence[str]]) -> bytes:
    book = Workbook(write_only=True)
    sheet = book.create_sheet("A")
    escaped = xlsx_writer._ESCAPED.sub
    for row in rows:
        cells = []
        for text in row:
            cell: Any = WriteOnlyCell(sheet)
            cell._value = escaped(lambda sign: f"_x{ord(sign[0]):04X}_", text)
            cell.data_type = "s"
            cells.append(cell)
        sheet.append(cells)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


@given(table=tables)
@few
def test_each_cell_of_a_workbook_comes_back(table: tuple[list[str], list[list[str]]]) -> None:
    header, rows = table
    content = as_xlsx([header, *rows])
    (read, *_) = carried(content)
    assert read == header[: len(read)]  # this checks the writer of this test
    assert_comes_back(content)


def test_numbers_dates_and_errors_of_excel_come_back() -> None:
    places = count(1)

    def row(cells: Iterator[str] | Sequence[str]) -> str:
        return f'<row r="{next(places)}">{"".join(cells)}</row>'

    header = row(f'<c t="inlineStr"><is><t>{name}</t></is></c>' for name in [*EXAMPLE, "note"])
    odd = [
        '<c t="n"><v>1.10</v></c>',
        '<c t="n"><v>0.1</v></c>',
        '<c t="n"><v>123456789012345680</v></c>',
        '<c t="n"><v>-1.5E-7</v></c>',
        '<c t="b"><v>1</v></c>',
        '<c t="str"><v>=1</v></c>',
        '<c t="inlineStr"><is><t>_xD800_</t></is></c>',
        '<c t="inlineStr"><is><t>_xD83D__xDE00_</t></is></c>',
        '<c t="inlineStr"><is><t>_x0000_</t></is></c>',
    ]
    rows = [row(odd), row(['<c t="n"><v>5</v></c>', '<c t="e"><v>#N/A</v></c>'])]
    content = workbook(sheet_xml(header + "".join(rows))).getvalue()
    assert_comes_back(content)


values = st.recursive(
    st.one_of(
        texts,
        st.sampled_from(["\ud800", "a\udcffb", "Infinity", '\\"Infinity']),
        st.none(),
        st.booleans(),
        st.integers(-(10**40), 10**40),
        st.floats(allow_nan=False),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
records = st.lists(
    st.dictionaries(st.one_of(st.sampled_from(list(EXAMPLE)), texts), values, max_size=6).filter(
        lambda record: not {"_line", "_problem"} & record.keys()
    ),
    min_size=2,
    max_size=4,
)


def as_json(value: Any) -> str:
    # Python writes this for what a reader makes of a number like 1e999.
    return _without_infinity(json.dumps(value))


@given(records)
@few
def test_each_value_of_a_json_file_comes_back(records: list[dict[str, Any]]) -> None:
    assert_comes_back(as_json(records).encode())


@given(records)
@few
def test_each_value_of_an_ndjson_file_comes_back(records: list[dict[str, Any]]) -> None:
    lines = "".join(f"{as_json(record)}\n" for record in records).encode()
    if registry.recognise(io.BytesIO(lines)).name == "ndjson":
        assert_comes_back(lines)


@pytest.mark.parametrize("encoding", Encoding)
def test_bytes_that_are_no_text_stay_so(encoding: Encoding) -> None:
    """A row that was refused because of them is not accepted with other characters."""
    letter, bad = {
        Encoding.UTF_8: (b"Q", b"\xff"),
        Encoding.UTF_16: ("Q".encode("utf-16-le"), b"\x00\xdc"),
        Encoding.CP1252: (b"Q", b"\x81"),
    }[encoding]
    rows = as_csv([[*EXAMPLE], ["s_1", "MQller", *["x"] * 5]], ";", encoding)
    content = rows.replace(letter, bad)
    _, _, (first,) = rows_of(content)
    assert first.row is not None
    assert first.row.problem is not None
    assert_comes_back(content)


def test_cells_beyond_the_last_column_stay_there() -> None:
    content = as_csv([[*EXAMPLE], [*map(str, EXAMPLE.values()), "", "and thanks"]], ",", "utf-8")
    expected = carried(content)
    assert expected[1][2]
    assert_comes_back(content)


def test_nested_as_deeply_as_it_is_read_it_is_written() -> None:
    deep = "[" * 900 + "]" * 900
    content = f'[{{"a": {deep}}}, {{"a": 1}}]'.encode()
    assert_comes_back(content)


def test_columns_of_somebody_who_calls_them_like_ours_are_theirs() -> None:
    header = [*EXAMPLE, "_line", "_problem"]
    row = ["x"] * len(EXAMPLE)
    content = as_csv([header, [*row, "'=1", "'=2"]], ",", "utf-8")
    layout, _, _ = rows_of(content)
    assert not layout.armed
    assert_comes_back(content)


@pytest.mark.django_db
@pytest.mark.parametrize("written", [as_csv, as_xlsx])
def test_the_command_queues_the_rows_of_an_error_file_as_they_were(
    written: Callable[..., bytes], store: Redis, tmp_path: Path
) -> None:
    texts = ["=1+1", "'=1+1", "x;=1", "1.10", "_x000D_"]
    rows = [
        [
            "" if one is None else str(one)
            for one in {**EXAMPLE, "subject": text, "session_id": f"s_{n}"}.values()
        ]
        for n, text in enumerate(texts)
    ]
    table = [[*EXAMPLE], *rows]
    content = written(table) if written is as_xlsx else written(table, ",", "utf-8")
    file = tmp_path / "file"
    file.write_bytes(error_file(content))
    call_command("ingest", str(file), stdout=io.StringIO())
    raws = store.lrange(SESSIONS.queue, 0, -1)[::-1]
    assert [json.loads(raw)["data"]["subject"] for raw in raws] == texts
