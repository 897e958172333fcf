"""A sheet of an XLSX workbook as a stream of rows. Cells are text and mean what Excel shows.

The sheet is parsed while it is unpacked, and only one row of it is in memory. For the other ways
that were tried, and why this one stays, see docs/decisions/xlsx-reader.md.
"""

from __future__ import annotations

from collections.abc import Iterator

from ingestion.files.raw_rows import Problem, RawRow, table_row
from ingestion.files.shape import LONGEST_RECORD, MOST_COLUMNS, UnreadableFileError
from ingestion.files.workbook import Book, feed, loses_digits, number_text, unescaped

_MOST_ROWS = 2**20  # of Excel itself, as the next one
_COLUMNS_OF_EXCEL = 2**14


def sheet_rows(book: Book, sheet: str, first: int) -> Iterator[RawRow]:
    """The rows of a sheet from line `first` on, with the rows that the sheet leaves out.

    Raises the errors that `workbook.opened` turns into `UnreadableFileError`.
    """
    part = book.sheets.get(sheet)
    if part is None:
        raise UnreadableFileError(f"The workbook has no sheet “{sheet}”.")
    reader = _SheetReader(book)
    line = first
    with book.archive.open(part) as source:
        for _ in feed(source, reader.start, reader.end, reader.text):
            for row in reader.done:
                if row.line >= first:
                    # A sheet leaves out empty rows.
                    yield from map(RawRow, range(line, row.line))
                    yield row
                    line = row.line + 1
            reader.done.clear()


class _SheetReader:
    """Takes the events of a sheet's XML; finished rows with a filled cell are in `done`."""

    def __init__(self, book: Book) -> None:
        self.done: list[RawRow] = []
        self._texts = book.texts
        self._formats = book.formats
        self._columns: dict[str, int] = {}
        self._line = 0
        self._row: dict[int, str] = {}
        self._faults: dict[int, Problem] = {}
        self._read = self._length = 0
        self._problem: Problem | None = None
        self._column = -1
        self._type = "n"
        self._style = 0
        self._taking = False
        self._spoken = False
        self._value: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "c":
            place = attributes.get("r")
            self._column = self._column + 1 if place is None else self._place(place)
            self._type = attributes.get("t", "n")
            self._style = int(attributes.get("s", 0))
            self._value.clear()
        elif name == "v" or (name == "t" and not self._spoken):
            self._taking = True
        elif name == "rPh":
            self._spoken = True
        elif name == "row":
            line = int(attributes.get("r", self._line + 1))
            if not self._line < line <= _MOST_ROWS:
                raise ValueError("rows of a sheet are out of order")
            self._line = line
            self._row, self._faults, self._problem, self._column = {}, {}, None, -1
            self._read = self._length = 0

    def text(self, text: str) -> None:
        if self._taking:
            self._read += len(text)
            if self._read > LONGEST_RECORD:
                self._problem = Problem.TOO_LONG
            else:
                self._value.append(text)

    def end(self, name: str) -> None:
        if name in ("v", "t"):
            self._taking = False
        elif name == "c":
            if self._value:
                self._keep(self._cell("".join(self._value)))
        elif name == "rPh":
            self._spoken = False
        elif name == "row" and (self._row or self._problem):
            cells = [""] * (max(self._row, default=-1) + 1)
            for column, value in self._row.items():
                cells[column] = value
            row = table_row(self._line, cells, self._faults)
            if self._problem:
                row = RawRow(row.line, row.cells, problem=self._problem, odd=row.odd)
            self.done.append(row)

    def _keep(self, value: str) -> None:
        # A shared text counts each time it is used.
        self._length += len(value)
        if self._length > LONGEST_RECORD:
            self._problem = Problem.TOO_LONG
        elif self._column >= MOST_COLUMNS:
            self._problem = self._problem or (Problem.TOO_WIDE if value.strip() else None)
        elif value:
            self._row[self._column] = value

    def _cell(self, text: str) -> str:
        match self._type:
            case "s":
                index = int(text)
                if index < 0:
                    raise ValueError("no place among the shared texts")
                return self._texts[index]
            case "n":
                known = self._style < len(self._formats)
                if loses_digits(text):
                    self._faults[self._column] = Problem.DIGITS_LOST
                return self._formats[self._style](text) if known else number_text(text)
            case "b":
                return "true" if text.strip() in ("1", "true") else "false"
            case "e":
                self._faults[self._column] = Problem.EXCEL_ERROR
                return text
            case "d":
                return text
        return unescaped(text)

    def _place(self, reference: str) -> int:
        """The 0-based column of a cell's reference, like AB12."""
        letters = reference.rstrip("0123456789")
        column = self._columns.get(letters)
        if column is None:
            column = 0
            for letter in letters:
                column = column * 26 + ord(letter) - 64
            if not 1 <= column <= _COLUMNS_OF_EXCEL:
                raise ValueError("no column of a sheet")
            self._columns[letters] = column
        return column - 1
