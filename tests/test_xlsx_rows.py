"""Workbooks as rows of text: what Excel means, and what could harm the reader."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from collections.abc import Iterable, Iterator
from datetime import datetime, time
from typing import Any

import pytest
from django.conf import settings
from openpyxl import Workbook
from openpyxl.styles import Font

from ingestion import file_rows
from ingestion.files import registry, xlsx_rows
from ingestion.files import workbook as workbooks
from ingestion.files.raw_rows import Problem, RawRow
from ingestion.files.shape import UnreadableFileError
from ingestion.outcomes import Code, FieldCode, PayloadError
from tests.reading import read_as
from tests.record_types import SESSIONS, TUTORS
from tests.workbooks import sheet_xml, workbook

at = datetime.fromisoformat


def saved(*rows: Iterable[Any], title: str = "Sheet") -> io.BytesIO:
    book = Workbook()
    sheet = book.active
    sheet.title = title
    for row in rows:
        sheet.append(list(row))
    return as_file(book)


def as_file(book: Workbook) -> io.BytesIO:
    file = io.BytesIO()
    book.save(file)
    return file


def rows(file: io.BytesIO, sheet: str = "Sheet") -> Iterator[RawRow]:
    """The rows that are not blank."""
    with workbooks.opened(file, 2**30) as book:
        yield from (row for row in xlsx_rows.sheet_rows(book, sheet, 1) if row != RawRow(row.line))


def cells(file: io.BytesIO, sheet: str = "Sheet") -> list[list[str]]:
    return [row.cells for row in rows(file, sheet)]


# --- what Excel means --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "number_format", "text"),
    [
        ("tutor_1", "General", "tutor_1"),
        ("00042", "@", "00042"),
        (123, "General", "123"),
        (123.0, "General", "123"),
        (42, "00000", "00042"),
        (0.92, "0%", "0.92"),
        (1 / 3, "General", "0.333333333333333"),
        (1e-5, "General", "0.00001"),
        (123456789012345, "General", "123456789012345"),
        (True, "General", "true"),
        (False, "General", "false"),
        (at("2024-05-14T15:00"), "yyyy-mm-dd hh:mm", "2024-05-14T15:00:00"),
        (at("2024-05-14"), "dd.mm.yyyy", "2024-05-14T00:00:00"),
        (at("2024-05-14T15:00:30"), "[$-409]m/d/yy h:mm AM/PM", "2024-05-14T15:00:30"),
        (time(15, 30), "hh:mm", "15:30:00"),
        (1.5, "[h]:mm", "1.5"),
        (-5, "yyyy-mm-dd", "-5"),
        ("line one\nline two", "General", "line one\nline two"),
        ("Zoë Ærø 北京", "General", "Zoë Ærø 北京"),
    ],
)
def test_a_cell_is_the_text_of_what_excel_means(value: Any, number_format: str, text: str) -> None:
    book = Workbook()
    cell = book.active["A1"]
    cell.value = value
    cell.number_format = number_format
    assert cells(as_file(book)) == [[text]]


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ('<c r="A1"><f>1+1</f><v>2</v></c>', "2"),
        ('<c r="A1" t="str"><f>A2</f><v>Zoë</v></c>', "Zoë"),
        ('<c r="A1" t="inlineStr"><is><t>inline</t></is></c>', "inline"),
        ('<c r="A1" t="inlineStr"><is><r><t>rich </t></r><r><t>text</t></r></is></c>', "rich text"),
        ('<c r="A1" t="inlineStr"><is><t>東</t><rPh><t>ひがし</t></rPh></is></c>', "東"),
        ('<c r="A1" t="inlineStr"><is><t>a_x000D_b</t></is></c>', "a\rb"),
        ('<c r="A1" t="d"><v>2024-05-14T15:00:00</v></c>', "2024-05-14T15:00:00"),
        ('<c r="A1"><v>0.92000000000000004</v></c>', "0.92"),
        ('<c r="A1"><v>1.2E2</v></c>', "120"),
        ('<c r="A1" s="99"><v>7</v></c>', "7"),
        ('<c r="A1" t="b"><v>1</v></c>', "true"),
        ('<c r="A1" t="b"><v>true</v></c>', "true"),
        ('<c r="A1" t="b"><v>false</v></c>', "false"),
        ('<c r="A1"><v>1E-5</v></c>', "0.00001"),
        ('<c r="A1"><v>9.99999999999999E14</v></c>', "999999999999999"),
        ('<c r="A1"><v>1234567890123456</v></c>', "1234567890123456"),
        ('<x:c xmlns:x="u" r="A1"><x:v>7</x:v></x:c>', "7"),
        ("<c><v>7</v></c>", "7"),
    ],
)
def test_values_are_read_however_a_program_writes_them(cell: str, text: str) -> None:
    assert cells(workbook(sheet_xml(f"<row>{cell}</row>"))) == [[text]]


def test_texts_that_cells_share_are_found() -> None:
    texts = "<sst><si><t>one</t></si><si/><si><r><t>t</t></r><r><t>hree</t></r></si></sst>"
    row = "".join(f'<c t="s"><v>{n}</v></c>' for n in (2, 1, 0))
    assert cells(workbook(sheet_xml(f"<row>{row}</row>"), texts=texts)) == [["three", "", "one"]]


def test_a_formula_whose_value_was_never_saved_is_an_empty_cell() -> None:
    assert cells(saved(["=1+1", "x"])) == [["", "x"]]


def test_dates_of_a_workbook_from_1904_on_are_told_apart() -> None:
    book = Workbook()
    book.epoch = at("1904-01-01")
    book.active.append([at("2024-05-14T15:00")])
    assert cells(as_file(book)) == [["2024-05-14T15:00:00"]]


def test_an_id_typed_as_a_number_keeps_its_digits_and_stays_text() -> None:
    rows = read_as(saved(["tutor_id", "age"], [7, 28], ["007", 28.0]), "xlsx", TUTORS)
    assert [row.value for row in rows] == [
        {"tutor_id": "7", "age": 28},
        {"tutor_id": "007", "age": 28},
    ]


# --- where rows stand --------------------------------------------------------------------------


def test_rows_outside_a_wrong_dimension_are_read() -> None:
    sheet = '<dimension ref="A1:A1"/>' + sheet_xml(
        '<row r="1"><c r="A1"><v>1</v></c></row><row r="2"><c r="B2"><v>2</v></c></row>'
    )
    assert cells(workbook(sheet)) == [["1"], ["", "2"]]


def test_rows_that_a_sheet_leaves_out_are_blank_and_counted() -> None:
    file = saved(["name"], [None], [None], ["Ann"])
    shape = file_rows.look(file).shape
    found = registry.rows(file, shape, most_unpacked_bytes=2**30)
    assert [(one.line, one.cells) for one in found] == [
        (1, ["name"]),
        (2, []),
        (3, []),
        (4, ["Ann"]),
    ]


def test_the_header_row_is_found_below_titles() -> None:
    file = saved(["Tutors of May"], [], ["Tutor ID", "Name"], ["1", "Ann"])
    (row,) = read_as(file, "xlsx", TUTORS)
    assert (row.line, row.value) == (4, {"tutor_id": "1", "name": "Ann"})


def test_the_sheet_that_names_most_fields_is_read() -> None:
    book = Workbook()
    book.active.append(["a summary", "name"])
    second = book.create_sheet("Data")
    second.append(["tutor_id", "name", "age"])
    second.append(["1", "Ann", 28])
    hidden = book.create_sheet("Hidden")
    hidden.append(["tutor_id", "name", "age", "email", "location"])
    hidden.sheet_state = "hidden"
    file = as_file(book)
    assert [sheet.name for sheet in file_rows.look(file).sheets] == ["Data", "Sheet"]
    assert [row.value["tutor_id"] for row in read_as(file, "xlsx", TUTORS)] == ["1"]


def test_a_row_with_an_error_of_excel_is_a_row_with_a_problem() -> None:
    file = workbook(
        sheet_xml(
            '<row><c t="inlineStr"><is><t>name</t></is></c></row>'
            '<row><c t="e"><v>#N/A</v></c></row>'
            '<row><c t="inlineStr"><is><t>Ann</t></is></c></row>'
        )
    )
    failed, well = read_as(file, "xlsx", TUTORS)
    assert failed.problem.code is FieldCode.MALFORMED_LINE
    assert well.value == {"name": "Ann"}


def test_an_error_of_excel_in_a_column_that_is_no_field_spoils_no_row() -> None:
    file = workbook(
        sheet_xml(
            '<row><c t="inlineStr"><is><t>name</t></is></c><c t="inlineStr"><is><t>x</t></is></c>'
            '</row><row><c t="inlineStr"><is><t>Ann</t></is></c><c t="e"><v>#N/A</v></c></row>'
        )
    )
    (row,) = read_as(file, "xlsx", TUTORS)
    assert (row.value, row.problem) == ({"name": "Ann"}, None)


@pytest.mark.parametrize("number", ["1.23456789012345E+15", "1.23456789012346e+17", "1e300"])
def test_an_id_that_lost_digits_as_a_number_is_refused_with_its_field(number: str) -> None:
    file = workbook(
        sheet_xml(
            '<row><c t="inlineStr"><is><t>tutor_id</t></is></c></row>'
            f"<row><c><v>{number}</v></c></row>"
        )
    )
    (row,) = read_as(file, "xlsx", TUTORS)
    assert row.problem is not None
    assert row.problem.field == "tutor_id"
    assert "as text" in row.problem.message


@pytest.mark.parametrize("style", [14, 22, 27, 30, 36, 50, 57, 58, 71, 77, 81])
def test_dates_in_the_formats_of_any_language_are_dates(style: int) -> None:
    """Excel writes those of Asian languages without a code of their own."""
    styles = f'<styleSheet><cellXfs><xf numFmtId="{style}"/></cellXfs></styleSheet>'
    sheet = sheet_xml('<row><c s="0"><v>45426.625</v></c></row>')
    assert cells(workbook(sheet, styles=styles)) == [["2024-05-14T15:00:00"]]


def test_a_duration_is_no_date() -> None:
    styles = '<styleSheet><cellXfs><xf numFmtId="79"/></cellXfs></styleSheet>'
    assert cells(workbook(sheet_xml('<row><c s="0"><v>1.5</v></c></row>'), styles=styles)) == [
        ["1.5"]
    ]


def test_a_workbook_that_excel_writes_with_styles_is_told_by_its_content() -> None:
    book = Workbook()
    book.active["A1"].font = Font(bold=True)
    book.active["A1"] = "tutor_id"
    assert registry.recognise(as_file(book)).name == "xlsx"


# --- harm --------------------------------------------------------------------------------------


def refusal(file: io.BytesIO) -> UnreadableFileError:
    with pytest.raises(UnreadableFileError) as caught:
        shape = file_rows.look(file).shape
        list(registry.rows(file, shape, most_unpacked_bytes=settings.MAX_UNPACKED_BYTES))
    assert caught.value.code is Code.UNKNOWN_FILE_FORMAT
    return caught.value


@pytest.mark.slow
def test_a_cell_at_the_far_end_costs_no_memory() -> None:
    file = workbook(sheet_xml('<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'))
    tracemalloc.start()
    try:
        (row,) = rows(file)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert row == RawRow(1_048_576, problem=Problem.TOO_WIDE)
    assert peak_bytes < 2 * 2**20


@pytest.mark.slow
@pytest.mark.parametrize("in_rows_of", [1, 1_000_000])
def test_a_million_empty_cells_cost_no_memory(in_rows_of: int) -> None:
    row = "<row>" + '<c s="1"/>' * in_rows_of + "</row>"
    # Some noise, or it would be treated as a zip bomb.
    file = workbook(sheet_xml(row * (1_000_000 // in_rows_of)), stored=True)
    tracemalloc.start()
    try:
        found = list(rows(file))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == []
    assert peak_bytes < 4 * 2**20


def test_a_cell_of_many_megabytes_is_never_in_memory_as_a_whole() -> None:
    cell = f'<c t="inlineStr"><is><t>{"x" * 2**25}</t></is></c>'
    file = workbook(sheet_xml(f"<row>{cell}</row>"), stored=True)
    tracemalloc.start()
    try:
        found = [row.problem for row in rows(file)]
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == [Problem.TOO_LONG]
    assert peak_bytes < 4 * 2**20


def test_a_workbook_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(
    settings: Any,
) -> None:
    settings.MAX_UNPACKED_BYTES = 2**20
    many = sheet_xml("".join(f"<row><c><v>{n}</v></c></row>" for n in range(100_000)))
    assert "too large after unpacking" in refusal(workbook(many)).advice


def test_a_bomb_is_told_by_its_ratio() -> None:
    assert "too large after unpacking" in refusal(workbook(sheet_xml("<row/>" * 10_000_000))).advice


def test_too_many_entries_are_refused() -> None:
    file = workbook(sheet_xml(""))
    with zipfile.ZipFile(file, "a") as archive:
        for n in range(5000):
            archive.writestr(f"xl/{n}", b"")
    assert "too large after unpacking" in refusal(file).advice


@pytest.mark.parametrize(
    "part", ["xl/workbook.xml", "xl/worksheets/sheet1.xml", "xl/sharedStrings.xml"]
)
def test_entities_are_refused_wherever_they_stand(part: str, tmp_path: Any) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    doctype = f'<!DOCTYPE x [<!ENTITY e SYSTEM "file://{secret}">]>'
    file = workbook(sheet_xml("<row><c><v>1</v></c></row>"), texts="<sst/>", before={part: doctype})
    assert "damaged" in refusal(file).advice


@pytest.mark.parametrize(
    "row",
    [
        '<row r="1048577"><c><v>1</v></c></row>',
        '<row r="99999999999"><c><v>1</v></c></row>',
        '<row r="0"><c><v>1</v></c></row>',
        '<row><c r="XFE1"><v>1</v></c></row>',
        '<row><c r="ZZZZZZZZ1"><v>1</v></c></row>',
        '<row><c t="s"><v>7</v></c></row>',
        '<row><c t="s"><v>-1</v></c></row>',
        '<row><c s="x"><v>7</v></c></row>',
        "<row><c><v>seven</v></c></row>",
        '<row r="2"><c><v>1</v></c></row><row r="1"><c><v>2</v></c></row>',
        '<row r="2"><c><v>1</v></c></row><row r="2"><c><v>2</v></c></row>',
        "<row><c></row>",
        "<row>",
    ],
)
def test_a_sheet_that_makes_no_sense_is_refused_with_advice(row: str) -> None:
    assert "damaged" in refusal(workbook(sheet_xml(row))).advice


def test_a_place_below_the_first_shared_text_is_none() -> None:
    texts = "<sst><si><t>first</t></si><si><t>last</t></si></sst>"
    file = workbook(sheet_xml('<row><c t="s"><v>-1</v></c></row>'), texts=texts)
    assert "damaged" in refusal(file).advice


def test_a_workbook_cut_short_is_refused() -> None:
    content = saved(["tutor_id"], ["1"]).getvalue()
    for length in (30, len(content) // 2, len(content) - 30):
        assert refusal(io.BytesIO(content[:length])).advice


def test_what_only_looks_like_a_workbook_is_refused_with_advice_of_its_own() -> None:
    assert "old Excel" in refusal(io.BytesIO(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")).advice
    ods = io.BytesIO()
    with zipfile.ZipFile(ods, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
    assert "OpenDocument" in refusal(ods).advice
    some_zip = io.BytesIO()
    with zipfile.ZipFile(some_zip, "w") as archive:
        archive.writestr("a.txt", "a")
    assert "not an Excel workbook" in refusal(some_zip).advice


def test_a_workbook_without_our_columns_is_refused_as_a_csv_file_is() -> None:
    with pytest.raises(PayloadError) as caught:
        list(read_as(saved(["hello"], ["1"]), "xlsx", SESSIONS))
    assert caught.value.code is Code.UNKNOWN_COLUMNS
