"""CSV: text whose rows are lines and whose cells are separated by a delimiter.

While the text is read, it keeps its line ends (`newline=""`). Bytes that are not text become
`raw_rows.BAD_BYTES`.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections import deque
from collections.abc import Iterator, Sequence, Set
from enum import StrEnum
from functools import partial
from itertools import islice
from typing import Any, BinaryIO, TextIO

from ingestion.files import error_columns
from ingestion.files.format import UTF_16_MARKS, Column, Head, Option
from ingestion.files.look import Look, look_at_table
from ingestion.files.raw_rows import BAD_BYTES, MARK, Problem, RawRow, table_row, text_of
from ingestion.files.shape import LONGEST_RECORD, Shape, field_name

_HEAD_ROWS = 20
_SNIFFED_CHARACTERS = 4096
_CHUNK = 2**16

Cells = list[str]


class Encoding(StrEnum):
    """The encodings in which a CSV file is read, by Python's names."""

    UTF_8 = "utf-8-sig"  # with a byte order mark or without
    UTF_16 = "utf-16"
    CP1252 = "cp1252"


ENCODING = Option(
    name="encoding",
    label="Encoding",
    choices={
        Encoding.UTF_8: "UTF-8",
        Encoding.UTF_16: "UTF-16 (Unicode text of Excel)",
        Encoding.CP1252: "Windows-1252 (Western European)",
    },
    question="Are letters like é and ü right in the examples?",
)
DELIMITER = Option(
    name="delimiter",
    label="Separator",
    choices={",": "Comma", ";": "Semicolon", "\t": "Tab", "|": "Vertical bar"},
)


class Csv:
    """The format."""

    name = "csv"
    title = "CSV"
    media_type = "text/csv; charset=utf-8"
    is_table = True
    has_lines = True
    is_text = True
    options: Sequence[Option] = (ENCODING, DELIMITER)

    def recognises(self, head: Head) -> bool:
        """Any text."""
        return bool(head.text)

    def look(
        self, file: BinaryIO, names: Set[str], shape: Shape | None, most_unpacked_bytes: int
    ) -> Look:
        """How the file is written, and its first rows."""
        shape = shape or detect(file, names)
        # Windows text and broken UTF-8 cannot be told apart for certain.
        is_unsure = _options(shape)[ENCODING.name] == Encoding.CP1252
        return look_at_table(
            self.rows(file, shape, most_unpacked_bytes),
            shape,
            unsure=[ENCODING.name] if is_unsure else [],
        )

    def rows(self, file: BinaryIO, shape: Shape, most_unpacked_bytes: int) -> Iterator[RawRow]:
        """The rows, parsed while the file is read."""
        options = _options(shape)
        with text_of(file, options[ENCODING.name], errors=MARK) as text:
            lines = _Lines(text, first=shape.header_line, longest_row=LONGEST_RECORD)
            for line, cells in _split(lines, options[DELIMITER.name]):
                if cells is None:
                    yield RawRow(line, problem=Problem.BROKEN)
                else:
                    yield table_row(line, cells)

    def words(self, shape: Shape) -> list[str]:
        """Like "UTF-8", "separated by semicolon"."""
        encoding, delimiter = (one.choices[_options(shape)[one.name]] for one in self.options)
        return [encoding.partition(" (")[0], f"separated by {delimiter.lower()}"]

    def writer(self, file: BinaryIO, shape: Shape, columns: Sequence[Column]) -> _Writer:
        """A file in Unicode."""
        return _Writer(file, _options(shape), columns)


def _options(shape: Shape) -> dict[str, str]:
    return {ENCODING.name: Encoding.UTF_8, DELIMITER.name: ",", **shape.options}


class _Writer:
    def __init__(self, file: BinaryIO, options: dict[str, str], columns: Sequence[Column]) -> None:
        # Bytes that are not text are written back unchanged, never as another character. Windows
        # text and UTF-8 cannot be told apart for certain, even less in fewer rows, so a mark says
        # it.
        wide = options[ENCODING.name] == Encoding.UTF_16
        encoding = Encoding.UTF_16 if wide else Encoding.UTF_8
        errors = "surrogatepass" if wide else "surrogateescape"
        self._text = io.TextIOWrapper(file, encoding, errors, newline="")
        # Then, with any other delimiter too, no part of a quoted cell looks like a column name.
        self._writer = csv.writer(
            self._text, delimiter=options[DELIMITER.name], quoting=csv.QUOTE_ALL
        )
        self._writer.writerow([column.name for column in columns])

    def add(self, row: Any, *, is_unread: bool = False) -> None:
        self._writer.writerow(row)

    def finish(self) -> None:
        self._text.flush()
        self._text.detach()


def detect(file: BinaryIO, names: Set[str]) -> Shape:
    """How a CSV file is written: the encoding from the whole file, the rest from its beginning."""
    encoding = _encoding(file)
    with text_of(file, encoding, errors=MARK) as text:
        delimiter, header_line = _find_header(text.read(LONGEST_RECORD), names)
    return Shape(
        file_format=Csv.name,
        header_line=header_line,
        options={ENCODING.name: encoding, DELIMITER.name: delimiter},
    )


def _encoding(file: BinaryIO) -> Encoding:
    """The encoding by the byte order mark; without a mark UTF-8, unless most of it is invalid.

    One broken row must not turn a whole UTF-8 file into Windows text. And characters of Windows
    text rarely look like UTF-8, so one of the two readings is clearly better.
    """
    file.seek(0)
    mark = file.read(len(codecs.BOM_UTF8))
    if mark.startswith(UTF_16_MARKS):
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


def _find_header(head: str, names: Set[str]) -> tuple[str, int]:
    """The delimiter and the 1-based line of the header row, from the beginning of the text.

    The first row is the header row if it names the columns of an error file. Otherwise the header
    row is the one of the first rows that holds most of `names`, with whichever delimiter. If no row
    holds any, it is the first row, with the delimiter that `csv.Sniffer` finds.
    """
    best, most_named = None, 0
    for delimiter in DELIMITER.choices:
        lines = _Lines(io.StringIO(head, newline=""), first=1, longest_row=len(head))
        for at, (line, cells) in enumerate(islice(_split(lines, delimiter), _HEAD_ROWS)):
            if not at and error_columns.added(cells or ()):
                return delimiter, line
            named = len(names & set(map(field_name, cells or ())))
            if named > most_named:
                best, most_named = (delimiter, line), named
    return best or (_sniffed_delimiter(head), 1)


def _split(lines: _Lines, delimiter: str) -> Iterator[tuple[int, Cells | None]]:
    """Each row's first line and cells. The cells are None if they cannot be told apart, or if
    together they are longer than a row may be.

    A quote that is never closed would make one cell of all following rows. Strict parsing notices
    that at the next quote: the row then ends with its first line, and the others are read again.
    """
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    while True:
        line = lines.begin_row()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:  # also a cell above csv's own limit of 131,072 characters
            lines.give_back()
            yield line, None
        else:
            yield line, cells


class _Lines:
    """The lines of a text, for `csv.reader`; the lines of a broken row can be read again."""

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
        """Let all lines of this row except the first be read again."""
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
        """The next line. If it is too long, only enough of it is returned to notice that."""
        line = end = self._text.readline(self._longest_row + 1)
        while len(line) > self._longest_row and end and end[-1] not in "\r\n":
            end = self._text.readline(self._longest_row)
        return line


def _sniffed_delimiter(head: str) -> str:
    # Only the delimiter that the sniffer finds can be trusted.
    try:
        sniffed = csv.Sniffer().sniff(head[:_SNIFFED_CHARACTERS], "".join(DELIMITER.choices))
    except csv.Error:
        return ","
    return sniffed.delimiter
