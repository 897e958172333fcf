"""The rows that need fixing, as a file to correct and upload again.

It has the format, the columns and the order of the original, and two more columns: `_line` is the
line of the row in the original, and `_problem` says why the row was refused and to which upload it
belongs. Its content does not change on the way: when it is read again, each cell that nobody
edited has the same text as in the original, and each JSON value is the same value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from ingestion.file_rows import FileRow, Layout
from ingestion.files import error_columns
from ingestion.files.error_columns import LINE_COLUMN, PROBLEM_COLUMN
from ingestion.files.format import Column, Writer
from ingestion.formulas import escape_formulas
from ingestion.outcomes import FieldError


class ErrorFile:
    """An error file that is being written; it stays empty until its first row."""

    def __init__(self, file: BinaryIO, layout: Layout, header: Sequence[str]) -> None:
        self._file = file
        self._layout = layout
        self._table = _Table(header, layout)
        self._writer: Writer | None = None

    def add(self, row: FileRow, problem: str) -> None:
        """Write a row and its problem."""
        layout = self._layout
        if self._writer is None:
            self._writer = layout.format.writer(self._file, layout.shape, self._table.columns)
        if layout.format.is_table:
            is_unread = row.row is not None and row.row.problem is not None
            self._writer.add(self._table.cells(row, problem), is_unread=is_unread)
            return
        try:
            self._writer.add(_record(row, problem))
        except RecursionError:
            self._writer.add(_record(replace(row, raw=None), problem))

    def finish(self) -> BinaryIO:
        """The complete file, to be read from its beginning."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.finish()
        self._file.seek(0)
        return self._file


@contextmanager
def writing(layout: Layout, header: Sequence[str]) -> Iterator[ErrorFile]:
    """An error file to be written; it is deleted after the block."""
    with TemporaryFile() as file:
        writer = ErrorFile(file, layout, header)
        try:
            yield writer
        finally:
            writer.finish()  # an incomplete workbook would leave temporary files behind


def problem_text(errors: Sequence[FieldError], upload: int) -> str:
    """Why a row was refused, as the text for the error file."""
    reasons = (f"{one.field}: {one.message}" if one.field else one.message for one in errors)
    return error_columns.problem_text(reasons, upload)


def _record(row: FileRow, problem: str) -> dict[str, Any]:
    # A row that is no object or could not be read leaves only its line and its problem.
    record = row.raw if isinstance(row.raw, dict) else {}
    return {**record, LINE_COLUMN: row.line, PROBLEM_COLUMN: problem}


class _Table:
    """The cells of a row for the error file, without the two columns of an earlier error file."""

    def __init__(self, header: Sequence[str], layout: Layout) -> None:
        every = list(range(len(header)))
        self._kept = error_columns.original(header) if layout.armed else every
        self._width = len(header)
        names = [escape_formulas(header[at]) for at in self._kept] + [LINE_COLUMN, PROBLEM_COLUMN]
        self.columns = [Column(name=name) for name in names]

    def cells(self, row: FileRow, problem: str) -> list[str]:
        # If a row's cells cannot be told apart, they stay empty: `_line` says where the row is.
        cells = list(map(escape_formulas, row.raw or []))
        kept = [cells[at] if at < len(cells) else "" for at in self._kept]
        # Cells without a column name stay after all columns.
        return [*kept, str(row.line), problem, *cells[self._width :]]
