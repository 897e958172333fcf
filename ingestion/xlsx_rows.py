"""A sheet of an XLSX workbook as a stream of rows whose cells are text, as Excel means them.

The sheet is parsed as it is unpacked, and one row of it is in memory. openpyxl's own streaming
mode was tried and left: it keeps a tree of the row at hand and an element of every row before it,
so that 100 MiB of empty cells in one row take gigabytes, and it is several times slower.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, BinaryIO

from ingestion.workbook import (
    Book,
    UnreadableFileError,
    feed,
    number_text,
    open_book,
    opened,
    read_texts,
    unescaped,
)

MOST_ROWS = 2**20  # of Excel itself, as the next one
_MOST_COLUMNS = 2**14


@dataclass(frozen=True, kw_only=True, slots=True)
class SheetRow:
    """A row with a cell filled: its 1-based number, and the text of its cells from column A on.

    `failed` is set where a cell holds one of Excel's own errors, like #N/A, or where the row is
    longer than asked for; cells beyond are then missing.
    """

    line: int
    cells: list[str]
    failed: bool = False


def sheet_names(file: BinaryIO) -> list[str]:
    """The sheets that people see, in their order. Raises `UnreadableFileError`."""
    with opened(file) as archive:
        return list(open_book(archive).sheets)


def rows(file: BinaryIO, sheet: str, *, longest_row: int) -> Iterator[SheetRow]:
    """The rows of a sheet that have a filled cell, in order. Raises `UnreadableFileError`."""
    with opened(file) as archive:
        book = open_book(archive)
        part = book.sheets.get(sheet)
        if part is None:
            raise UnreadableFileError(f"The workbook has no sheet “{sheet}”.")
        read_texts(book)
        with archive.open(part) as source:
            yield from _sheet_rows(source, book, longest_row)


def _sheet_rows(source: IO[bytes], book: Book, longest_row: int) -> Iterator[SheetRow]:
    reader = _SheetReader(book, longest_row)
    for _ in feed(source, reader.start, reader.end, reader.text):
        yield from reader.done
        reader.done.clear()


class _SheetReader:
    """Takes the events of a sheet's XML; finished rows lie in `done`."""

    def __init__(self, book: Book, longest_row: int) -> None:
        self.done: list[SheetRow] = []
        self._texts = book.texts
        self._formats = book.formats
        self._longest_row = longest_row
        self._columns: dict[str, int] = {}
        self._line = 0
        self._row: dict[int, str] = {}
        self._read = self._length = 0
        self._failed = False
        self._column = -1
        self._kind = "n"
        self._style = 0
        self._taking = False
        self._spoken = False
        self._value: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "c":
            place = attributes.get("r")
            self._column = self._column + 1 if place is None else self._place(place)
            self._kind = attributes.get("t", "n")
            self._style = int(attributes.get("s", 0))
            self._value.clear()
        elif name == "v" or (name == "t" and not self._spoken):
            self._taking = True
        elif name == "rPh":
            self._spoken = True
        elif name == "row":
            self._line = int(attributes.get("r", self._line + 1))
            if not 0 < self._line <= MOST_ROWS:
                raise ValueError("no line of a sheet")
            self._row, self._failed, self._column = {}, False, -1
            self._read = self._length = 0

    def text(self, text: str) -> None:
        if self._taking:
            self._read += len(text)
            if self._read > self._longest_row:
                self._failed = True
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
        elif name == "row" and self._row:
            cells = [""] * (max(self._row) + 1)
            for column, value in self._row.items():
                cells[column] = value
            self.done.append(SheetRow(line=self._line, cells=cells, failed=self._failed))

    def _keep(self, value: str) -> None:
        # A shared text counts as often as it is used.
        self._length += len(value)
        if self._length > self._longest_row:
            self._failed = True
        elif value:
            self._row[self._column] = value

    def _cell(self, text: str) -> str:
        match self._kind:
            case "s":
                return self._texts[int(text)]
            case "n":
                known = self._style < len(self._formats)
                return self._formats[self._style](text) if known else number_text(text)
            case "b":
                return "true" if text.strip() == "1" else "false"
            case "e":
                self._failed = True
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
            if not 1 <= column <= _MOST_COLUMNS:
                raise ValueError("no column of a sheet")
            self._columns[letters] = column
        return column - 1
