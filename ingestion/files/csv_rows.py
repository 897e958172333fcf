"""CSV text as a stream of rows, and how such text is laid out.

The text must keep its line ends (`newline=""`) and have
`raw_rows.BAD_BYTES` where bytes were no text.
"""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Iterator, Set
from itertools import islice
from typing import TextIO

from ingestion.files import error_columns
from ingestion.files.shape import CsvOptions, field_name

DELIMITERS = (",", ";", "\t", "|")

_HEAD_ROWS = 20
_SNIFFED_CHARACTERS = 4096

Cells = list[str]


def find_header(head: str, names: Set[str]) -> tuple[str, int]:
    """The delimiter and the header row's 1-based line, by the beginning of the text.

    The header row is the first row if it names the columns of an error file, or else the one of
    the first rows that names most of `names`, by whichever delimiter; if no row names any, the
    first row, parted as `csv.Sniffer` sees it.
    """
    best, most_named = None, 0
    for delimiter in DELIMITERS:
        lines = _Lines(io.StringIO(head, newline=""), first=1, longest_row=len(head))
        for at, (line, cells) in enumerate(islice(_split(lines, delimiter), _HEAD_ROWS)):
            if not at and error_columns.added(cells or ()):
                return delimiter, line
            named = len(names & set(map(field_name, cells or ())))
            if named > most_named:
                best, most_named = (delimiter, line), named
    return best or (_sniffed_delimiter(head), 1)


def table(
    text: TextIO, options: CsvOptions, *, longest_row: int
) -> Iterator[tuple[int, Cells | None]]:
    """Each row's first line and cells, the header row first; None for cells that can not be told
    apart, or that are together longer than `longest_row` characters."""
    lines = _Lines(text, first=options.header_line, longest_row=longest_row)
    yield from _split(lines, options.delimiter)


def _split(lines: _Lines, delimiter: str) -> Iterator[tuple[int, Cells | None]]:
    """Each row's first line and cells; None for cells that can not be told apart.

    A quote that is never closed would take all rows after it for its cell. Strict parsing notices
    that at the next quote, and the row ends with its first line: the others are read again.
    """
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    while True:
        line = lines.begin_row()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:  # also a cell beyond csv's own limit of 131,072 characters
            lines.give_back()
            yield line, None
        else:
            yield line, cells


class _Lines:
    """The lines of a text, for `csv.reader`; those of a broken row can be given back."""

    def __init__(self, text: TextIO, *, first: int, longest_row: int) -> None:
        self._text = text
        self._longest_row = longest_row
        self._line = first
        self._row: list[str] = []
        self._row_length = 0
        self._again: deque[str] = deque()
        for _ in range(1, first):
            self._read()

    def begin_row(self) -> int:
        """The 1-based line where the next row starts."""
        self._line += len(self._row)
        self._row = []
        self._row_length = 0
        return self._line

    def give_back(self) -> None:
        """Let all lines of this row but its first be read again."""
        self._again.extendleft(reversed(self._row[1:]))
        del self._row[1:]

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._read()
        if not line:
            raise StopIteration
        self._row.append(line)
        self._row_length += len(line)
        if self._row_length > self._longest_row:
            raise csv.Error
        return line

    def _read(self) -> str:
        """The next line; of one that is too long, only so much that this can be seen."""
        line = end = self._text.readline(self._longest_row + 1)
        while len(line) > self._longest_row and end and end[-1] not in "\r\n":
            end = self._text.readline(self._longest_row)
        return line


def _sniffed_delimiter(head: str) -> str:
    # Of all that the sniffer finds only the delimiter can be trusted.
    try:
        sniffed = csv.Sniffer().sniff(head[:_SNIFFED_CHARACTERS], "".join(DELIMITERS))
    except csv.Error:
        return ","
    return sniffed.delimiter
