"""A first look at a file: where its rows are, and the first of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import msgspec

from ingestion.files.raw_rows import Problem, RawRow
from ingestion.files.shape import LONGEST_NAME, TOO_MANY_COLUMNS, Shape, UnreadableFileError

HEAD_RECORDS = 20
# This many rows are inspected, and this much text; all later rows are read in the same way.
_HEAD_ROWS = 5000
_HEAD_CHARACTERS = 2**22


class Sheet(msgspec.Struct, frozen=True):
    """A sheet of a workbook: the line of its header row, and the names in that row."""

    name: str
    header_line: int
    header: list[str]


class Look(msgspec.Struct, frozen=True):
    """The result of a first look.

    For a table, `header` holds the column names, and `rows` the first rows, each with as many
    cells. Names are cut to `LONGEST_NAME`. For JSON, `records` holds the first records. For a
    workbook, `sheets` holds its sheets. `unsure` names the options of the shape that the file does
    not say for certain.
    """

    shape: Shape
    sheets: list[Sheet] = []
    header: list[str] = []
    rows: list[list[str]] = []
    records: list[bytes] = []
    unsure: list[str] = []


def look_at_table(
    rows: Iterator[RawRow],
    shape: Shape,
    *,
    sheets: Sequence[Sheet] = (),
    unsure: Sequence[str] = (),
) -> Look:
    """A look at the rows of a table; the header row comes first."""
    header = next(rows, RawRow(0))
    if header.problem is Problem.TOO_WIDE:
        raise UnreadableFileError(TOO_MANY_COLUMNS)
    width = len(header.cells)
    head = []
    characters = 0
    for row in islice(rows, _HEAD_ROWS):
        cells = row.cells[:width]
        characters += sum(map(len, cells)) + width
        if characters > _HEAD_CHARACTERS:
            break
        if any(map(str.strip, cells)):
            head.append(cells + [""] * (width - len(cells)))
    return Look(
        shape=shape,
        sheets=list(sheets),
        header=cut(header.cells),
        rows=head,
        unsure=list(unsure),
    )


def look_at_records(rows: Iterator[RawRow], shape: Shape) -> Look:
    """A look at the records of JSON."""
    records = [one.json for one in islice(rows, HEAD_RECORDS) if one.json is not None]
    return Look(shape=shape, records=records)


def cut(names: list[str]) -> list[str]:
    """The names of columns, cut to the length that is kept."""
    return [name[:LONGEST_NAME] for name in names]
