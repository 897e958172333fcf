"""The rows of a file with their meaning: which field each cell is, and what its text means."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, BinaryIO

from django.conf import settings

from ingestion import columns, decoding
from ingestion.cells import ISO_NOTATION, Notation
from ingestion.columns import Columns
from ingestion.decoding import Row
from ingestion.files import error_columns, registry
from ingestion.files.format import Format
from ingestion.files.look import Look
from ingestion.files.raw_rows import Problem, RawRow
from ingestion.files.registry import FORMATS
from ingestion.files.shape import TOO_MANY_COLUMNS, Shape, UnreadableFileError, field_name
from ingestion.formulas import unescape_formulas
from ingestion.outcomes import Code, FieldCode, FieldError, PayloadError
from ingestion.records import RECORD_TYPES, RecordType

# A chunk of rows that are validated or pushed together has fewer rows if they are long.
_CHUNK_BYTES = 2**20
# This many rows show whether a file is an error file of ours.
_TELLING_ROWS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Where the records are in a file, and what its cells mean.

    `columns` says which field each column is; None if the names of the columns say it. `armed`
    means that it is an error file of ours, whose formulas are escaped (`ingestion.formulas`).
    """

    shape: Shape
    columns: tuple[str | None, ...] | None = None
    notation: Notation = ISO_NOTATION
    armed: bool = False

    @property
    def format(self) -> Format:
        """The format of the file."""
        return FORMATS[self.shape.file_format]


def look(file: BinaryIO) -> Look:
    """A first look at a file in this process: for commands, whose users own the file.

    Files that staff send are read in a limited process instead (`ingestion.files.limited`). Raises
    `PayloadError`.
    """
    return registry.look(file, columns.our_names(), most_unpacked_bytes=settings.MAX_UNPACKED_BYTES)


def read(file: BinaryIO, record_type: RecordType, found: Look) -> Iterator[Row]:
    """The rows of an inspected file, in this process and in order, without the blank ones.

    The columns of a table are matched to fields by name, in any case, with spaces or dashes instead
    of underscores. Other columns are dropped. If two columns have the same name, the last filled
    one counts. An empty cell is an absent field; other cells are stripped and converted
    (`ingestion.cells`). Raises `PayloadError`.
    """
    layout = layout_of(found)
    raws = registry.rows(file, layout.shape, most_unpacked_bytes=settings.MAX_UNPACKED_BYTES)
    for one in FileRows(raws, layout, record_type):
        if one.row is not None:
            yield one.row


def guess_record_type(found: Look) -> RecordType | None:
    """The only record type with all its required fields in the first records; None if unsure."""
    if layout_of(found).format.is_table:
        names = set(map(field_name, found.header))
    else:
        values = [decoding.decode_line(record, 1).value for record in found.records]
        names = {name for value in values if isinstance(value, dict) for name in value}
    fitting = [
        record_type
        for record_type in RECORD_TYPES.values()
        if columns.required_fields(record_type) <= names
    ]
    return fitting[0] if len(fitting) == 1 else None


def layout_of(look: Look) -> Layout:
    """How a file is read by default, according to a first look at it."""
    problems = error_columns.problems(look.header, look.rows[:_TELLING_ROWS])
    return Layout(
        shape=look.shape,
        armed=error_columns.added(look.header) is not None and error_columns.are_ours(problems),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRow:
    """One row of a file. `row` is None if it is blank.

    `line` is the 1-based line where it starts; in JSON it is the record's number. `raw` is what the
    file holds: the cells of a table or the JSON value; None if it cannot be read. `size` is about
    how many bytes it takes.
    """

    line: int
    raw: Any = None
    row: Row | None = None
    size: int = 0


class FileRows:
    """The rows of a file in order, with the blank ones. Raises `PayloadError` while it is read.

    `header` holds the names of a table's columns as the header row has them.
    """

    def __init__(self, raws: Iterator[RawRow], layout: Layout, record_type: RecordType) -> None:
        self._raws = raws
        self._format = layout.format
        self._armed = layout.armed
        self.header: list[str] = []
        if not layout.format.is_table:
            return
        first = next(raws, RawRow(0))
        if first.problem is Problem.TOO_WIDE:
            raise UnreadableFileError(TOO_MANY_COLUMNS)
        self.header = self._texts(first)
        self._columns = Columns(
            record_type,
            columns.by_name(self.header, record_type) if layout.columns is None else layout.columns,
            layout.notation,
        )
        if not self._columns:
            raise PayloadError(Code.UNKNOWN_COLUMNS)

    def __iter__(self) -> Iterator[FileRow]:
        return map(self._table_row if self._format.is_table else self._json_row, self._raws)

    def _texts(self, raw: RawRow) -> list[str]:
        """The cells of the original: the escapes of an error file are removed here."""
        return list(map(unescape_formulas, raw.texts)) if self._armed else raw.texts

    def _table_row(self, raw: RawRow) -> FileRow:
        row = None
        cells = self._texts(raw)
        if raw.problem is not None:
            row = Row(line=raw.line, problem=_PROBLEMS[raw.problem])
        elif any(map(str.strip, cells)):
            row = self._columns.row(raw.line, cells)
            for at, problem in raw.faults.items():
                if field := self._columns.field(at):
                    row = Row(line=raw.line, problem=replace(_PROBLEMS[problem], field=field))
                    break
        return FileRow(line=raw.line, raw=cells if row else None, row=row, size=raw.size)

    def _json_row(self, raw: RawRow) -> FileRow:
        # A record of an array has a number and no line.
        line = raw.line if self._format.has_lines else None
        row = None
        if raw.problem is not None:
            row = Row(line=line, problem=_PROBLEMS[raw.problem])
        elif raw.json is not None:
            row = decoding.decode_line(raw.json, line)
        return FileRow(line=raw.line, raw=row and row.value, row=row, size=raw.size)


def chunks(rows: Iterable[FileRow], most_rows: int) -> Iterator[list[FileRow]]:
    """The rows in chunks whose memory is limited too."""
    chunk: list[FileRow] = []
    size = 0
    for one in rows:
        chunk.append(one)
        size += one.size
        if len(chunk) >= most_rows or size > _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


_PROBLEMS = MappingProxyType(
    {
        problem: FieldError(field=None, code=FieldCode.MALFORMED_LINE, message=message)
        for problem, message in {
            Problem.TOO_LONG: "This row is much longer than a valid record.",
            Problem.TOO_MANY_VALUES: "This row has many more values than a valid record.",
            Problem.BROKEN: "The quotes in this row do not match, or the row is too long.",
            Problem.TOO_WIDE: "This row has more cells than the header row has columns.",
            Problem.NO_TEXT: "This cell has a NUL, or bytes that are not text in the file's "
            "encoding.",
            Problem.EXCEL_ERROR: "This cell has an Excel error, like #N/A.",
            Problem.DIGITS_LOST: "Excel keeps 15 digits of a number, and this one has more: write "
            "it as text.",
        }.items()
    }
)
