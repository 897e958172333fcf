"""How a file becomes rows: CSV, XLSX, JSON and NDJSON, streamed, with a bounded part in memory.

A file is a binary file that can seek; it is read from its beginning and left open. A record that
can not be read is a row with a problem and spoils no other. Where nothing more can be read at all
(JSON that breaks off, no column that we know) a `PayloadError` ends the rows.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from itertools import islice
from typing import Any, BinaryIO, TextIO

from ingestion import columns, csv_rows, decoding, json_rows, xlsx_rows
from ingestion.cells import ISO_NOTATION, Notation
from ingestion.columns import BAD_BYTES, Columns
from ingestion.csv_rows import CsvOptions, Encoding
from ingestion.decoding import Row
from ingestion.outcomes import Code, FieldCode, FieldError, PayloadError
from ingestion.records import RECORD_TYPES, RecordType
from ingestion.workbook import UnreadableFileError

# The longest record that is read, in bytes or characters: more than three times what a valid one
# can have with all its characters written as \u escapes.
LONGEST_RECORD = 2**18

_CHUNK = 2**16
HEAD_RECORDS = 20
_UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_ZIP = b"PK\x03\x04"
# gzip, PDF.
_NOT_TEXT = (b"\x1f\x8b", b"%PDF")
_OLD_EXCEL = b"\xd0\xcf\x11\xe0"


class FileFormat(StrEnum):
    """The formats that are read."""

    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"
    XLSX = "xlsx"

    @property
    def is_table(self) -> bool:
        """Whether it has columns, named by a header row."""
        return self in (FileFormat.CSV, FileFormat.XLSX)


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How the records lie in a file and how its cells are meant.

    `csv` is set for CSV, `sheet` and `header_line` for XLSX. `columns` says which field each column
    is, None where their names say it. `armed` undoes what an error file does to formulas.
    """

    file_format: FileFormat
    csv: CsvOptions | None = None
    sheet: str = ""
    header_line: int = 1
    columns: tuple[str | None, ...] | None = None
    notation: Notation = ISO_NOTATION
    armed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRow:
    """One row of a file. `row` is None where it is blank.

    `line` is the 1-based line where it starts, in JSON the record's number. `raw` is what stands
    in the file: the cells of a table or the JSON value; None where that can not be told.
    """

    line: int
    raw: Any = None
    row: Row | None = None


def detect(file: BinaryIO) -> FileFormat:
    """The file's format by its content; its name is never asked.

    Raises `PayloadError` where the file is empty or clearly something else.
    """
    file.seek(0)
    head = file.read(LONGEST_RECORD)
    if head.startswith(_ZIP):
        xlsx_rows.sheet_names(file)
        return FileFormat.XLSX
    if head.startswith(_OLD_EXCEL):
        raise UnreadableFileError(
            "This is an old Excel file (.xls), or one with a password. Save it as .xlsx without a "
            "password, or as CSV, and upload that."
        )
    encoding = Encoding.UTF_16 if head.startswith(_UTF_16_MARKS) else Encoding.UTF_8
    text = head.decode(encoding, errors="replace").strip()
    if not text:
        raise PayloadError(Code.EMPTY_FILE)
    if head.startswith(_NOT_TEXT) or text.startswith("<"):  # a web page, a spreadsheet as XML
        raise UnreadableFileError(
            "This is no table and no JSON. Save the records as .xlsx or CSV and upload that."
        )
    if text.startswith("["):
        return FileFormat.JSON
    # Not the first line alone: that very one may be broken. And one record alone is JSON, on one
    # line or on many: the lines of such a record do not stand for themselves.
    lines = [line for line in text.split("\n", HEAD_RECORDS) if line.strip()]
    if len(lines) > 1 and any(map(_is_record, lines)):
        return FileFormat.NDJSON
    return FileFormat.JSON if text.startswith("{") else FileFormat.CSV


def detect_csv(file: BinaryIO) -> CsvOptions:
    """How a CSV file is written: its encoding by all of it, the rest by its head."""
    encoding = _encoding(file)
    with _text(file, encoding, errors=_MARK) as text:
        delimiter, header_line = csv_rows.find_header(text.read(_CHUNK))
    return CsvOptions(encoding=encoding, delimiter=delimiter, header_line=header_line)


def detect_sheets(file: BinaryIO) -> list[Layout]:
    """A layout for each sheet of a workbook: the one that names most of our fields comes first.

    Its header row is the one of the first rows that names most of them. Raises `PayloadError`.
    """
    found: list[tuple[int, Layout]] = []
    for sheet in xlsx_rows.sheet_names(file):
        line, named = _find_header(file, sheet)
        layout = Layout(file_format=FileFormat.XLSX, sheet=sheet, header_line=line)
        found.append((named, layout))
    return [layout for _, layout in sorted(found, key=lambda one: -one[0])]


def layout_of(
    file: BinaryIO, file_format: FileFormat, csv_options: CsvOptions | None = None
) -> Layout:
    """How the file is read where nobody says otherwise. Raises `PayloadError`."""
    if file_format is FileFormat.XLSX:
        return detect_sheets(file)[0]
    if file_format is FileFormat.CSV:
        return Layout(file_format=file_format, csv=csv_options or detect_csv(file))
    return Layout(file_format=file_format)


def header(file: BinaryIO, layout: Layout) -> list[str]:
    """The names of a table's columns as they stand in its header row; none where it has none."""
    if not layout.file_format.is_table:
        return []
    return next((cells for _, cells, _ in _table(file, layout)), [])


def guess_record_type(
    file: BinaryIO, file_format: FileFormat, csv_options: CsvOptions | None = None
) -> RecordType | None:
    """The only record type whose required fields are all in the first records; None if unsure.

    Raises `PayloadError` as `read` does.
    """
    if file_format.is_table:
        layout = layout_of(file, file_format, csv_options)
        names = set(map(columns.field_name, header(file, layout)))
    else:
        rows = _json(file) if file_format is FileFormat.JSON else _ndjson(file)
        values = [one.raw for one in islice(rows, HEAD_RECORDS)]
        names = {name for value in values if isinstance(value, dict) for name in value}
    fitting = [kind for kind in RECORD_TYPES.values() if required_fields(kind) <= names]
    return fitting[0] if len(fitting) == 1 else None


def required_fields(kind: RecordType) -> set[str]:
    """The fields without which no record of this type is valid."""
    fields = kind.serializer_class().fields
    return {name for name, field in fields.items() if field.required}


def read(
    file: BinaryIO,
    file_format: FileFormat,
    record_type: RecordType,
    csv_options: CsvOptions | None = None,
) -> Iterator[Row]:
    """The rows of a file, in order; blank ones are passed over.

    The columns of a table are matched to fields by name, in any case, with spaces or dashes for
    underscores; other columns are dropped, and of two columns of one name the last filled one
    counts. An empty cell is an absent field; other cells are stripped and converted
    (`ingestion.cells`). `csv_options` default to what `detect_csv` finds; of a workbook the sheet
    is read that names most of our fields. Raises `PayloadError`.
    """
    layout = layout_of(file, file_format, csv_options)
    return (one.row for one in file_rows(file, layout, record_type) if one.row is not None)


def file_rows(file: BinaryIO, layout: Layout, record_type: RecordType) -> Iterator[FileRow]:
    """Every row of a file, the blank ones too, in order. Raises `PayloadError`."""
    if layout.file_format is FileFormat.JSON:
        yield from _json(file)
    elif layout.file_format is FileFormat.NDJSON:
        yield from _ndjson(file)
    else:
        yield from _table_rows(file, layout, record_type)


def _table_rows(file: BinaryIO, layout: Layout, record_type: RecordType) -> Iterator[FileRow]:
    table = _table(file, layout)
    names = next((cells for _, cells, _ in table), [])
    found = Columns(
        record_type,
        columns.by_name(names, record_type) if layout.columns is None else layout.columns,
        layout.notation,
        armed=layout.armed,
    )
    if not found:
        raise PayloadError(Code.UNKNOWN_COLUMNS)
    for line, cells, problem in table:
        if problem is not None:
            yield FileRow(line=line, raw=cells, row=Row(line=line, problem=problem))
        elif any(map(str.strip, cells)):
            yield FileRow(line=line, raw=cells, row=found.row(line, cells))
        else:
            yield FileRow(line=line)


def _table(file: BinaryIO, layout: Layout) -> Iterator[tuple[int, list[str], FieldError | None]]:
    """The rows of a table, the header row first: line, cells, and why they can not be read."""
    if layout.csv is None:
        yield from _sheet(file, layout.sheet, layout.header_line)
        return
    with _text(file, layout.csv.encoding, errors=_MARK) as text:
        for line, cells in csv_rows.table(text, layout.csv, longest_row=LONGEST_RECORD):
            yield line, cells or [], _BROKEN if cells is None else None


def _sheet(
    file: BinaryIO, sheet: str, first: int
) -> Iterator[tuple[int, list[str], FieldError | None]]:
    line = first
    for row in xlsx_rows.rows(file, sheet, longest_row=LONGEST_RECORD):
        if row.line >= first:
            for blank in range(line, row.line):  # a sheet leaves out the rows that are empty
                yield blank, [], None
            yield row.line, row.cells, _FAILED if row.failed else None
            line = row.line + 1


def _find_header(file: BinaryIO, sheet: str) -> tuple[int, int]:
    """The line of a sheet's header row, and how many fields it names."""
    ours = {name for kind in RECORD_TYPES.values() for name in kind.serializer_class().fields}
    best, most_named = 1, 0
    first = None
    for line, cells, _ in islice(_sheet(file, sheet, 1), HEAD_RECORDS):
        if cells and first is None:
            first = best = line
        named = len(ours.intersection(map(columns.field_name, cells)))
        if named > most_named:
            best, most_named = line, named
    return best, most_named


def _json(file: BinaryIO) -> Iterator[FileRow]:
    with _text(file, "utf-8-sig") as text:
        rows = json_rows.rows(text, longest_record=LONGEST_RECORD)
        for number, row in enumerate(rows, start=1):
            yield FileRow(line=number, raw=row.value, row=row)


def _ndjson(file: BinaryIO) -> Iterator[FileRow]:
    file.seek(0)
    line = 0
    while content := file.readline(LONGEST_RECORD + 1):
        line += 1
        if line == 1:
            content = content.removeprefix(codecs.BOM_UTF8)
        if len(content) > LONGEST_RECORD:
            while content and not content.endswith(b"\n"):
                content = file.readline(LONGEST_RECORD)
            yield FileRow(line=line, row=Row(line=line, problem=_TOO_LONG))
        elif content.strip(b" \t\r\n"):
            row = decoding.decode_line(content, line)
            yield FileRow(line=line, raw=row.value, row=row)
        else:
            yield FileRow(line=line)


@contextmanager
def _text(file: BinaryIO, encoding: str, errors: str = "strict") -> Iterator[TextIO]:
    """`file` from its beginning as text with its own line ends; `file` itself stays open."""
    file.seek(0)
    text = io.TextIOWrapper(file, encoding, errors, newline="")
    try:
        yield text
    except UnicodeDecodeError:
        raise PayloadError(Code.MALFORMED_ENCODING) from None
    finally:
        if not file.closed:  # rows may be left before their end, and end after their file
            text.detach()


def _encoding(file: BinaryIO) -> Encoding:
    """By the byte order mark; without one, UTF-8 unless most of it is none.

    One broken row must not make the whole of a UTF-8 file Windows text. And letters in the
    latter hardly ever look like UTF-8, so of the two readings one is clearly the better.
    """
    file.seek(0)
    mark = file.read(len(codecs.BOM_UTF8))
    if mark.startswith(_UTF_16_MARKS):
        return Encoding.UTF_16
    if mark == codecs.BOM_UTF8:
        return Encoding.UTF_8
    good = bad = 0
    with _text(file, Encoding.UTF_8, errors=_MARK) as text:
        for chunk in iter(partial(text.read, _CHUNK), ""):
            if not chunk.isascii():
                marks = chunk.count(BAD_BYTES)
                bad += marks
                good += len(chunk) - len(chunk.encode("ascii", "ignore")) - marks
    return Encoding.UTF_8 if good >= bad else Encoding.CP1252


def _mark_bad_bytes(fault: Any) -> tuple[str, int]:
    return BAD_BYTES, fault.end


_MARK = "ingestion.mark_bad_bytes"
# Python's own handler of this kind, surrogateescape, can not mark what is wrong in UTF-16.
codecs.register_error(_MARK, _mark_bad_bytes)


def _is_record(line: str) -> bool:
    try:
        return line.startswith("{") and isinstance(decoding.decode(line.encode()), dict)
    except PayloadError:
        return False


_TOO_LONG = FieldError(
    field=None,
    code=FieldCode.MALFORMED_LINE,
    message="This line is far longer than a valid record can be.",
)
_BROKEN = FieldError(
    field=None,
    code=FieldCode.MALFORMED_LINE,
    message="This row's quotes do not match, or it is far longer than a valid one can be.",
)
_FAILED = FieldError(
    field=None,
    code=FieldCode.MALFORMED_LINE,
    message="This row has a cell with an error of Excel, like #N/A, or is far too long.",
)
