"""What a file is, by its content, and its rows: CSV, XLSX, JSON and NDJSON, streamed.

A file is a binary file that can seek; it is read from its beginning and left open. A record that
can not be read is a row with a problem and spoils no other. Where nothing more can be read at all
(JSON that breaks off, no column that we know) a `PayloadError` ends the rows.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import BinaryIO

from ingestion import columns, csv_rows, decoding, error_columns, file_rows, xlsx_rows
from ingestion.columns import BAD_BYTES
from ingestion.csv_rows import CsvOptions, Encoding
from ingestion.decoding import Row
from ingestion.file_rows import (
    LONGEST_RECORD,
    MARK,
    FileFormat,
    Layout,
    header,
    sheet_rows,
    text_of,
)
from ingestion.outcomes import Code, PayloadError
from ingestion.records import RECORD_TYPES, RecordType
from ingestion.workbook import UnreadableFileError

_CHUNK = 2**16
HEAD_RECORDS = 20
_UTF_16MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_ZIP = b"PK\x03\x04"
# gzip, PDF.
_NOT_TEXT = (b"\x1f\x8b", b"%PDF")
_OLD_EXCEL = b"\xd0\xcf\x11\xe0"


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
    encoding = Encoding.UTF_16 if head.startswith(_UTF_16MARKS) else Encoding.UTF_8
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
    with text_of(file, encoding, errors=MARK) as text:
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
        return file_rows.told_apart(file, detect_sheets(file)[0])
    if file_format is FileFormat.CSV:
        layout = Layout(file_format=file_format, csv=csv_options or detect_csv(file))
        return file_rows.told_apart(file, layout)
    return Layout(file_format=file_format)


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
        any_type = next(iter(RECORD_TYPES.values()))
        rows = file_rows.rows(file, Layout(file_format=file_format), any_type)
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
    return (one.row for one in file_rows.rows(file, layout, record_type) if one.row is not None)


def _find_header(file: BinaryIO, sheet: str) -> tuple[int, int]:
    """The line of a sheet's header row, and how many fields it names."""
    ours = {name for kind in RECORD_TYPES.values() for name in kind.serializer_class().fields}
    best, most_named = 1, 0
    first = None
    for line, cells, _ in islice(sheet_rows(file, sheet, 1), HEAD_RECORDS):
        if cells and first is None:
            first = best = line
        named = len(ours.intersection(map(columns.field_name, cells)))
        if error_columns.added(cells):
            return line, named
        if named > most_named:
            best, most_named = line, named
    return best, most_named


def _encoding(file: BinaryIO) -> Encoding:
    """By the byte order mark; without one, UTF-8 unless most of it is none.

    One broken row must not make the whole of a UTF-8 file Windows text. And letters in the
    latter hardly ever look like UTF-8, so of the two readings one is clearly the better.
    """
    file.seek(0)
    mark = file.read(len(codecs.BOM_UTF8))
    if mark.startswith(_UTF_16MARKS):
        return Encoding.UTF_16
    if mark == codecs.BOM_UTF8:
        return Encoding.UTF_8
    good = bad = 0
    with text_of(file, Encoding.UTF_8, errors=MARK) as text:
        for chunk in iter(partial(text.read, _CHUNK), ""):
            if not chunk.isascii():
                marks = chunk.count(BAD_BYTES)
                bad += marks
                good += len(chunk) - len(chunk.encode("ascii", "ignore")) - marks
    return Encoding.UTF_8 if good >= bad else Encoding.CP1252


def _is_record(line: str) -> bool:
    try:
        return line.startswith("{") and isinstance(decoding.decode(line.encode()), dict)
    except PayloadError:
        return False
