"""The rows that need fixing, as a file to fix them in and upload again.

It has the format, the columns and the order of the original, and two columns more: `_line`, where
the row stands in the original, and `_problem`, why it was refused and whose row it is. Cells that a
spreadsheet would run as formulas are disarmed.
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
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

from ingestion.columns import field_name
from ingestion.file_rows import FileFormat, FileRow, Layout
from ingestion.formulas import disarmed
from ingestion.outcomes import FieldError
from ingestion.uploads.layouts import ADDED_COLUMNS, LINE_COLUMN, PROBLEM_COLUMN

# Numbers that Excel keeps to the digit; anything else, ids with leading zeros too, stays text.
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,10})?")
_DATETIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")
_LONGEST_XLSX_CELL = 32_767


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
    """All reasons in one cell, and the upload by which the corrected file is known again."""
    reasons = [f"{one.field}: {one.message}" if one.field else one.message for one in errors]
    return f"{' '.join(reasons)} [upload {upload}]"


def _writer(file: BinaryIO, layout: Layout, header: Sequence[str]) -> _Writer:
    if layout.csv is not None:
        return _Csv(file, layout.csv.encoding, layout.csv.delimiter, header)
    if layout.file_format is FileFormat.XLSX:
        return _Xlsx(file, layout.sheet, header)
    return _Json(file, as_array=layout.file_format is FileFormat.JSON)


class _Table:
    """The cells of a row as the error file has them: without the two columns of an earlier one."""

    def __init__(self, header: Sequence[str]) -> None:
        self._kept = [at for at, name in enumerate(header) if field_name(name) not in ADDED_COLUMNS]
        self.header = [disarmed(header[at]) for at in self._kept] + list(ADDED_COLUMNS)
        self._width = len(header)

    def cells(self, row: FileRow) -> list[str]:
        # A row that can not be told apart leaves its cells empty: `_line` says where it stands.
        cells = list(row.raw or [])
        kept = [cells[at] if at < len(cells) else "" for at in self._kept]
        return [disarmed(cell) for cell in kept]


class _Csv:
    def __init__(
        self, file: BinaryIO, encoding: str, delimiter: str, header: Sequence[str]
    ) -> None:
        self._table = _Table(header)
        self._text = io.TextIOWrapper(file, encoding, errors="replace", newline="")
        self._writer = csv.writer(self._text, delimiter=delimiter)
        self._writer.writerow(self._table.header)

    def add(self, row: FileRow, problem: str) -> None:
        self._writer.writerow([*self._table.cells(row), row.line, problem])

    def finish(self) -> None:
        self._text.flush()
        self._text.detach()


class _Xlsx:
    def __init__(self, file: BinaryIO, sheet: str, header: Sequence[str]) -> None:
        self._file = file
        self._table = _Table(header)
        self._book = Workbook(write_only=True)
        self._sheet = self._book.create_sheet(sheet)
        self._sheet.freeze_panes = "A2"
        self._sheet.append([self._cell(name) for name in self._table.header])

    def add(self, row: FileRow, problem: str) -> None:
        cells = [self._cell(cell) for cell in self._table.cells(row)]
        self._sheet.append([*cells, row.line, self._cell(problem)])

    def finish(self) -> None:
        self._book.save(self._file)

    def _cell(self, text: str) -> Any:
        # "'-5" is a disarmed number; as a number it needs no disarming.
        number = text.removeprefix("'")
        if _NUMBER.fullmatch(number) and (number == text or number.startswith("-")):
            return float(number) if "." in number else int(number)
        if text in ("true", "false"):
            return text == "true"
        cell = WriteOnlyCell(self._sheet)
        if _DATETIME.fullmatch(text):
            try:
                cell.value = datetime.fromisoformat(text)
            except ValueError:
                pass
            else:
                cell.number_format = "yyyy-mm-dd hh:mm:ss"
                return cell
        cell.value = ILLEGAL_CHARACTERS_RE.sub("�", text)[:_LONGEST_XLSX_CELL]
        cell.data_type = "s"  # whatever it looks like
        return cell


class _Json:
    def __init__(self, file: BinaryIO, *, as_array: bool) -> None:
        self._file = file
        self._as_array = as_array
        self._count = 0

    def add(self, row: FileRow, problem: str) -> None:
        # What is no object, or could not be read, leaves only its place and its problem.
        record = dict(row.raw) if isinstance(row.raw, dict) else {}
        record |= {LINE_COLUMN: row.line, PROBLEM_COLUMN: problem}
        try:
            text = json.dumps(record, ensure_ascii=False).encode()
        except UnicodeEncodeError:  # half a surrogate pair can only be written escaped
            text = json.dumps(record).encode()
        between = b"" if not self._count else b",\n" if self._as_array else b"\n"
        opening = b"[" if self._as_array and not self._count else b""
        self._file.write(opening + between + text)
        self._count += 1

    def finish(self) -> None:
        self._file.write(b"]\n" if self._as_array else b"\n")
