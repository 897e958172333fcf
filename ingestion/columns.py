"""Which field each column of a table is, and how a row of cells becomes a record."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ingestion.cells import ISO_NOTATION, Notation, converter
from ingestion.decoding import Row
from ingestion.files.shape import field_name
from ingestion.outcomes import FieldCode, FieldError
from ingestion.records import RECORD_TYPES, RecordType


@dataclass(frozen=True, kw_only=True, slots=True)
class Guess:
    """The field of a column. `certain` is True if the column's own name says it."""

    field: str | None
    certain: bool


def our_names() -> frozenset[str]:
    """All names that a column of ours may have."""
    return frozenset().union(*(record_type.fields for record_type in RECORD_TYPES.values()))


def required_fields(record_type: RecordType) -> set[str]:
    """The fields that every record of this type must have."""
    fields = record_type.fields
    return {name for name, field in fields.items() if field.required}


def by_name(header: Sequence[str], record_type: RecordType) -> tuple[str | None, ...]:
    """The field that each column names; None if a column names no field."""
    fields = record_type.fields
    return tuple(name if name in fields else None for name in map(field_name, header))


def guess(header: Sequence[str], record_type: RecordType) -> list[Guess]:
    """A field for every column, by its name or one of its other names; each field at most once."""
    named = by_name(header, record_type)
    fields = record_type.fields
    taken = {name for name in named if name}
    called = {
        _letters(word): name
        for name, field in fields.items()
        if name not in taken
        for word in (*getattr(field, "other_names", ()), name)
    }
    called.setdefault("id", record_type.id_field)
    found = []
    for cell, name in zip(header, named, strict=True):
        likely = None if name else called.get(_letters(cell))
        if likely in taken:
            likely = None
        if likely:
            taken.add(likely)
        found.append(Guess(field=name or likely, certain=likely is None))
    return found


def _letters(name: str) -> str:
    """The name without the details that people write differently, as in "Tutor-ID" or "tutorId"."""
    return "".join(re.findall(r"[^\W_]+", re.sub(r"\(.*?\)", "", name))).lower()


class Columns:
    """The fields of a table's columns; converts rows of cells to records."""

    def __init__(
        self,
        record_type: RecordType,
        names: Sequence[str | None],
        notation: Notation = ISO_NOTATION,
    ) -> None:
        fields = record_type.fields
        self._columns = [
            (name, converter(fields[name], notation)) if name and name in fields else None
            for name in names
        ]

    def __bool__(self) -> bool:
        """Whether any column is a field."""
        return any(self._columns)

    def field(self, at: int) -> str | None:
        """The field of the column at this place, counted from 0."""
        column = self._columns[at] if at < len(self._columns) else None
        return column[0] if column else None

    def row(self, line: int, cells: Sequence[str]) -> Row:
        """The record in these cells. An empty cell is an absent field; other cells are stripped."""
        # Spreadsheets often end all rows with the same number of empty cells.
        if any(map(str.strip, cells[len(self._columns) :])):
            return Row(line=line, problem=_TOO_MANY_CELLS)
        record = {}
        for column, cell in zip(self._columns, cells, strict=False):
            if column and (filled := cell.strip()):
                record[column[0]] = column[1](filled)
        return Row(line=line, value=record)


_TOO_MANY_CELLS = FieldError(
    field=None,
    code=FieldCode.MALFORMED_LINE,
    message="This row has more cells than the header row has columns.",
)
