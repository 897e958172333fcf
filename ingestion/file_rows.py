"""A file of any format as a stream of rows, read as its layout says.

A file is a binary file that can seek; it is read from its beginning and left open. A record that
can not be read is a row with a problem and spoils no other. Where nothing more can be read at all
(JSON that breaks off, no column that we know) a `PayloadError` ends the rows.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice
from typing import Any, BinaryIO, TextIO

from ingestion import columns, csv_rows, decoding, error_columns, json_rows, xlsx_rows
from ingestion.cells import ISO_NOTATION, Notation
from ingestion.columns import BAD_BYTES, Columns
from ingestion.csv_rows import CsvOptions
from ingestion.decoding import Row
from ingestion.formulas import unguarded
from ingestion.outcomes import Code, FieldCode, FieldError, PayloadError
from ingestion.records import RecordType

# The longest record that is read, in bytes or characters: more than three times what a valid one
# can have with all its characters written as \u escapes.
LONGEST_RECORD = 2**18
# So many rows tell whether a file is an error file of ours.
_TELLING_ROWS = 100


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
    is, None where their names say it. `armed`: it is an error file of ours, whose guards against
    formulas are taken away (`ingestion.formulas`).
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


def header(file: BinaryIO, layout: Layout) -> list[str]:
    """The names of a table's columns as they stand in its header row; none where it has none."""
    if not layout.file_format.is_table:
        return []
    return next((cells for _, cells, _ in _table(file, layout)), [])


def told_apart(file: BinaryIO, layout: Layout) -> Layout:
    """The layout, with it said whether the file is an error file of ours. Raises `PayloadError`."""
    names = header(file, layout)
    if error_columns.added(names) is None:
        return replace(layout, armed=False)
    table = islice(_table(file, layout), 1, 1 + _TELLING_ROWS)
    problems = error_columns.problems(names, (cells for _, cells, _ in table))
    return replace(layout, armed=error_columns.are_ours(problems))


def rows(file: BinaryIO, layout: Layout, record_type: RecordType) -> Iterator[FileRow]:
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
    """The rows of a table, the header row first: line, cells, and why they can not be read.

    The cells are those of the original: here, and nowhere else, the guards of an error file go.
    """
    for line, cells, problem in _cells(file, layout):
        yield line, list(map(unguarded, cells)) if layout.armed else cells, problem


def _cells(file: BinaryIO, layout: Layout) -> Iterator[tuple[int, list[str], FieldError | None]]:
    if layout.csv is None:
        yield from sheet_rows(file, layout.sheet, layout.header_line)
        return
    with text_of(file, layout.csv.encoding, errors=MARK) as text:
        for line, cells in csv_rows.table(text, layout.csv, longest_row=LONGEST_RECORD):
            yield line, cells or [], _BROKEN if cells is None else None


def sheet_rows(
    file: BinaryIO, sheet: str, first: int
) -> Iterator[tuple[int, list[str], FieldError | None]]:
    """The rows of a sheet from line `first` on, those too that the sheet leaves out."""
    line = first
    for row in xlsx_rows.rows(file, sheet, longest_row=LONGEST_RECORD):
        if row.line >= first:
            for blank in range(line, row.line):  # a sheet leaves out the rows that are empty
                yield blank, [], None
            yield row.line, row.cells, _FAILED if row.failed else None
            line = row.line + 1


def _json(file: BinaryIO) -> Iterator[FileRow]:
    with text_of(file, "utf-8-sig") as text:
        records = json_rows.rows(text, longest_record=LONGEST_RECORD)
        for number, row in enumerate(records, start=1):
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
def text_of(file: BinaryIO, encoding: str, errors: str = "strict") -> Iterator[TextIO]:
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


def _mark_bad_bytes(fault: Any) -> tuple[str, int]:
    return BAD_BYTES, fault.end


MARK = "ingestion.mark_bad_bytes"
# Python's own handler of this kind, surrogateescape, can not mark what is wrong in UTF-16.
codecs.register_error(MARK, _mark_bad_bytes)


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
