"""The rows that need fixing, as a file to fix them in and upload again.

It has the format, the columns and the order of the original, and two columns more: `_line`, where
the row stands in the original, and `_problem`, why it was refused and whose row it is. What it
carries comes back as it was: read again, each cell that nobody edited has the text, and each value
of JSON is the value, that the original has.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from tempfile import TemporaryFile
from typing import Any, BinaryIO, Protocol

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.cell.cell import ERROR_CODES
from openpyxl.utils.datetime import from_excel, to_excel

from ingestion.file_rows import FileRow, Layout
from ingestion.files import error_columns
from ingestion.files.error_columns import LINE_COLUMN, PROBLEM_COLUMN
from ingestion.files.shape import CsvOptions, Encoding, FileFormat
from ingestion.files.workbook import number_text
from ingestion.formulas import guarded
from ingestion.outcomes import FieldError

# What Excel shows as it is written here; anything else, ids with leading zeros too, stays text.
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,10})?")
_DATETIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")
# What XML can not hold, or would change, and what would be taken for an escape; these are UTF-16
# code units to Excel.
_ESCAPED = re.compile(r"[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")
_NO_SHEET_NAME = re.compile(r"[\\*?:/\[\]]")
_LONGEST_SHEET_NAME = 31
_STRING_OR_INFINITY = re.compile(r'"(?:[^"\\]|\\.)*"|Infinity')


class _Writer(Protocol):
    def add(self, row: FileRow, problem: str) -> None: ...

    def finish(self) -> None: ...


class ErrorFile:
    """An error file that is being written; nothing is, before its first row."""

    def __init__(self, file: BinaryIO, layout: Layout, header: Sequence[str]) -> None:
        self._file = file
        self._layout = layout
        self._header = header
        self._writer: _Writer | None = None

    def add(self, row: FileRow, problem: str) -> None:
        """Write a row and its problem."""
        if self._writer is None:
            self._writer = _writer(self._file, self._layout, self._header)
        self._writer.add(row, problem)

    def finish(self) -> BinaryIO:
        """The complete file, to be read from its beginning."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.finish()
        self._file.seek(0)
        return self._file


@contextmanager
def writing(layout: Layout, header: Sequence[str]) -> Iterator[ErrorFile]:
    """An error file to be written; it is gone after the block."""
    with TemporaryFile() as file:
        writer = ErrorFile(file, layout, header)
        try:
            yield writer
        finally:
            writer.finish()  # a workbook that is left half-written leaves files behind


def problem_text(errors: Sequence[FieldError], upload: int) -> str:
    """Why a row was refused, as its problem is written into the error file."""
    reasons = (f"{one.field}: {one.message}" if one.field else one.message for one in errors)
    return error_columns.problem_text(reasons, upload)


def _writer(file: BinaryIO, layout: Layout, header: Sequence[str]) -> _Writer:
    if layout.csv is not None:
        return _Csv(file, layout.csv, _Table(header, layout))
    if layout.file_format is FileFormat.XLSX:
        return _Xlsx(file, layout.sheet, _Table(header, layout))
    return _Json(file, as_array=layout.file_format is FileFormat.JSON)


class _Table:
    """The cells of a row as the error file has them: without the two columns of an earlier one."""

    def __init__(self, header: Sequence[str], layout: Layout) -> None:
        every = list(range(len(header)))
        self._kept = error_columns.original(header) if layout.armed else every
        self._width = len(header)
        self.header = [guarded(header[at]) for at in self._kept] + [LINE_COLUMN, PROBLEM_COLUMN]

    def cells(self, row: FileRow, problem: str) -> list[str]:
        # A row that can not be told apart leaves its cells empty: `_line` says where it stands.
        cells = list(map(guarded, row.raw or []))
        kept = [cells[at] if at < len(cells) else "" for at in self._kept]
        # What no column has a name for stays beyond all columns.
        return [*kept, str(row.line), problem, *cells[self._width :]]


class _Csv:
    def __init__(self, file: BinaryIO, options: CsvOptions, table: _Table) -> None:
        self._table = table
        # Bytes that were no text come back as such: never as some other letter. Windows text can
        # not be told from UTF-8 for certain, with fewer rows still less: a mark says it.
        wide = options.encoding is Encoding.UTF_16
        encoding = Encoding.UTF_16 if wide else Encoding.UTF_8
        errors = "surrogatepass" if wide else "surrogateescape"
        self._text = io.TextIOWrapper(file, encoding, errors, newline="")
        # Parted at any other mark, nothing of a quoted cell is taken for a name of a column.
        self._writer = csv.writer(self._text, delimiter=options.delimiter, quoting=csv.QUOTE_ALL)
        self._writer.writerow(table.header)

    def add(self, row: FileRow, problem: str) -> None:
        self._writer.writerow(self._table.cells(row, problem))

    def finish(self) -> None:
        self._text.flush()
        self._text.detach()


class _Xlsx:
    def __init__(self, file: BinaryIO, sheet: str, table: _Table) -> None:
        self._file = file
        self._table = table
        self._book = Workbook(write_only=True)
        name = _NO_SHEET_NAME.sub("_", sheet)[:_LONGEST_SHEET_NAME].strip("'")
        self._sheet = self._book.create_sheet(name or None)
        self._sheet.freeze_panes = "A2"
        self._sheet.append([self._cell(name) for name in table.header])

    def add(self, row: FileRow, problem: str) -> None:
        unread = row.row is not None and row.row.problem is not None
        self._sheet.append(
            [self._cell(cell, unread=unread) for cell in self._table.cells(row, problem)]
        )

    def finish(self) -> None:
        self._book.save(self._file)

    def _cell(self, text: str, *, unread: bool = False) -> Any:
        """A number, a date, true or false, if Excel gives the very same text back; else text."""
        if not text:
            return None
        if _NUMBER.fullmatch(text):
            number = float(text) if "." in text else int(text)
            if number_text(str(number)) == text:
                return number
        if text in ("true", "false"):
            return text == "true"
        cell: Any = WriteOnlyCell(self._sheet)
        if _DATETIME.fullmatch(text) and (moment := _moment(text)) is not None:
            cell.value = moment
            cell.number_format = "yyyy-mm-dd hh:mm:ss"
            return cell
        # Set past the checks of `value`, which cut long texts and take some for formulas.
        cell._value = _ESCAPED.sub(lambda sign: f"_x{ord(sign[0]):04X}_", text)
        # An error of Excel that made the row unreadable does so again.
        cell.data_type = "e" if unread and text in ERROR_CODES else "s"
        return cell


def _moment(text: str) -> datetime | None:
    """The date and time, if Excel has it."""
    try:
        moment = datetime.fromisoformat(text)
        number = to_excel(moment)  # type: ignore[no-untyped-call]
        same = number >= 0 and from_excel(number) == moment
    except (ValueError, OverflowError):
        return None
    return moment if same else None


class _Json:
    def __init__(self, file: BinaryIO, *, as_array: bool) -> None:
        self._file = file
        self._as_array = as_array
        self._count = 0

    def add(self, row: FileRow, problem: str) -> None:
        # What is no object, or could not be read, leaves only its place and its problem.
        record = row.raw if isinstance(row.raw, dict) else {}
        added = {LINE_COLUMN: row.line, PROBLEM_COLUMN: problem}
        try:
            text = _json({**record, **added})
        except RecursionError:
            text = _json(added)
        between = b"" if not self._count else b",\n" if self._as_array else b"\n"
        opening = b"[" if self._as_array and not self._count else b""
        self._file.write(opening + between + text)
        self._count += 1

    def finish(self) -> None:
        self._file.write(b"]\n" if self._as_array else b"\n")


def _json(record: dict[str, Any]) -> bytes:
    """The record in JSON, which has no infinity: what we read as that was a number too large."""
    try:
        return _without_infinity(json.dumps(record, ensure_ascii=False)).encode()
    except UnicodeEncodeError:  # half a surrogate pair can only be written escaped
        return _without_infinity(json.dumps(record)).encode()


def _without_infinity(text: str) -> str:
    if "Infinity" not in text:
        return text
    return _STRING_OR_INFINITY.sub(
        lambda found: "1e999" if found[0] == "Infinity" else found[0], text
    )
