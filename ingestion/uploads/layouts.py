"""How an uploaded file is laid out: found by its content, asked where that is not certain."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice
from typing import Any, BinaryIO

from ingestion import columns, error_columns, file_rows, readers
from ingestion.cells import DECIMAL_COMMA, DateOrder, Notation, possible_orders
from ingestion.csv_rows import CsvOptions, Encoding
from ingestion.fields import IsoDateTime, Number
from ingestion.file_rows import FileFormat, Layout
from ingestion.models import ColumnChoice
from ingestion.records import RECORD_TYPES, RecordType

# So many rows are looked at; what comes below them is held to what they show.
_LOOKED_AT = 5000
_SAMPLES = 3


class Question(StrEnum):
    """What the file does not say for certain."""

    RECORD_TYPE = "record_type"
    SHEET = "sheet"
    ENCODING = "encoding"
    COLUMNS = "columns"
    DATE_ORDER = "date_order"


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column of the file: its name, its first filled cells, the field that it is taken for."""

    name: str
    samples: tuple[str, ...]
    field: str | None
    certain: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """What a first look at the file found. `parent` is the upload whose error file this is."""

    layout: Layout
    record_type: RecordType | None
    sheets: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    questions: frozenset[Question] = frozenset()
    parent: int | None = None

    @property
    def missing(self) -> list[str]:
        """Required fields that no column is."""
        if self.record_type is None or not self.columns:
            return []
        have = {column.field for column in self.columns}
        fields = self.record_type.serializer_class().fields
        return [name for name, field in fields.items() if field.required and name not in have]


def inspect(
    file: BinaryIO, *, record_type: RecordType | None = None, layout: Layout | None = None
) -> Inspection:
    """Look at the head of the file; `layout` says what is known of it already.

    Without its `columns` they are guessed. Raises `PayloadError`.
    """
    sheets: list[Layout] = []
    if layout is None:
        file_format = readers.detect(file)
        if file_format is FileFormat.XLSX:
            sheets = readers.detect_sheets(file)
            layout = sheets[0]
        else:
            layout = readers.layout_of(file, file_format)
    elif layout.file_format is FileFormat.XLSX:
        sheets = readers.detect_sheets(file)
    if not layout.file_format.is_table:
        return _inspect_json(file, layout, record_type)
    return _inspect_table(file, layout, record_type, tuple(one.sheet for one in sheets))


def _inspect_json(file: BinaryIO, layout: Layout, record_type: RecordType | None) -> Inspection:
    guess = readers.guess_record_type(file, layout.file_format)
    asked = record_type is None and guess is None
    asked = asked or (record_type is not None and guess not in (None, record_type))
    kind = record_type or guess
    rows = file_rows.rows(file, layout, kind or next(iter(RECORD_TYPES.values())))
    problems = [
        str(row.raw.get(error_columns.PROBLEM_COLUMN, ""))
        for row in islice(rows, 20)
        if isinstance(row.raw, dict)
    ]
    return Inspection(
        layout=layout,
        record_type=kind,
        questions=frozenset([Question.RECORD_TYPE] if asked else []),
        parent=error_columns.upload_of(problems),
    )


def _inspect_table(
    file: BinaryIO, layout: Layout, record_type: RecordType | None, sheets: tuple[str, ...]
) -> Inspection:
    header = file_rows.header(file, layout)
    if error_columns.added(header):
        layout = file_rows.told_apart(file, layout)
        header = file_rows.header(file, layout)
    questions = set()
    best = _best_type(header)
    kind = record_type or best
    if kind is None or (best is not None and best is not kind):
        questions.add(Question.RECORD_TYPE)
    shown = kind or next(iter(RECORD_TYPES.values()))
    rows = _head(file, layout, shown, len(header))
    found = _columns(header, rows, shown, layout.columns)
    fields = tuple(column.field for column in found)
    if not all(column.certain for column in found) or not readers.required_fields(shown) <= set(
        fields
    ):
        questions.add(Question.COLUMNS)
    notation = layout.notation
    order, unclear = _date_order(rows, fields, shown)
    if notation.date_order is None:
        notation = replace(notation, date_order=order)
        if unclear:
            questions.add(Question.DATE_ORDER)
    if layout.columns is None:
        comma = _has_decimal_comma(rows, fields, shown)
        notation = replace(notation, decimal_comma=notation.decimal_comma or comma)
        if layout.csv is not None and layout.csv.encoding is Encoding.CP1252:
            questions.add(Question.ENCODING)
        if len(sheets) > 1 and _several_fit(file, sheets, shown):
            questions.add(Question.SHEET)
    problems = error_columns.problems(header, rows[:20]) if layout.armed else []
    return Inspection(
        layout=replace(layout, columns=fields, notation=notation),
        record_type=kind,
        sheets=sheets,
        columns=found,
        questions=frozenset(questions),
        parent=error_columns.upload_of(problems),
    )


def as_corrected(found: Inspection, before: Layout) -> Inspection:
    """The inspection of an error file: its dates and numbers mean what they mean in the original,
    read as `before` says. Dates that say otherwise are asked for."""
    order = before.notation.date_order
    if not found.layout.armed or order is None:
        return found
    clash = found.layout.notation.date_order not in (None, order)
    notation = replace(
        found.layout.notation,
        date_order=None if clash else order,
        decimal_comma=found.layout.notation.decimal_comma or before.notation.decimal_comma,
    )
    asked = {Question.DATE_ORDER} if clash else set()
    return replace(
        found,
        layout=replace(found.layout, notation=notation),
        questions=found.questions - {Question.DATE_ORDER} | asked,
    )


def remember(header: Sequence[str], record_type: RecordType, fields: Sequence[str | None]) -> None:
    """Take the next file with this header, and its error files, as this one was taken."""
    ColumnChoice.objects.update_or_create(
        record_type=record_type.path,
        header_sha256=_header_sha256(header),
        defaults={"columns": [fields[at] for at in error_columns.original(header)]},
    )


def to_json(layout: Layout) -> dict[str, Any]:
    """The layout as it is kept with the upload."""
    csv = layout.csv
    return {
        "format": layout.file_format,
        "encoding": csv and csv.encoding,
        "delimiter": csv and csv.delimiter,
        "sheet": layout.sheet,
        "header_line": csv.header_line if csv else layout.header_line,
        "columns": None if layout.columns is None else list(layout.columns),
        "date_order": layout.notation.date_order,
        "decimal_comma": layout.notation.decimal_comma,
        "armed": layout.armed,
    }


def from_json(kept: Mapping[str, Any]) -> Layout:
    """The layout that `to_json` kept."""
    file_format = FileFormat(kept["format"])
    csv = None
    if file_format is FileFormat.CSV:
        csv = CsvOptions(
            encoding=Encoding(kept["encoding"]),
            delimiter=kept["delimiter"],
            header_line=kept["header_line"],
        )
    order = kept["date_order"]
    return Layout(
        file_format=file_format,
        csv=csv,
        sheet=kept["sheet"],
        header_line=kept["header_line"],
        columns=None if kept["columns"] is None else tuple(kept["columns"]),
        notation=Notation(
            date_order=DateOrder(order) if order else None, decimal_comma=kept["decimal_comma"]
        ),
        armed=kept["armed"],
    )


def _head(file: BinaryIO, layout: Layout, kind: RecordType, width: int) -> list[list[str]]:
    """The cells of the first rows, each as many as there are columns."""
    # Any column will do: what the cells mean is not asked here.
    any_columns = (kind.id_field,) * max(1, width)
    rows = file_rows.rows(file, replace(layout, columns=any_columns), kind)
    return [
        (row.raw + [""] * width)[:width]
        for row in islice(rows, _LOOKED_AT)
        if row.row is not None and row.raw
    ]


def _columns(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    kind: RecordType,
    given: tuple[str | None, ...] | None,
) -> tuple[Column, ...]:
    if given is None:
        choice = ColumnChoice.objects.filter(
            record_type=kind.path, header_sha256=_header_sha256(header)
        ).first()
        if choice and len(choice.columns) == len(kept := error_columns.original(header)):
            fields = dict(zip(kept, choice.columns, strict=True))
            given = tuple(fields.get(at) for at in range(len(header)))
    if given is not None and len(given) == len(header):
        guesses = [columns.Guess(field=name, certain=True) for name in given]
    else:
        guesses = columns.guess(header, kind)
    return tuple(
        Column(
            name=name,
            samples=tuple(islice((row[at] for row in rows if row[at].strip()), _SAMPLES)),
            field=guess.field,
            certain=guess.certain,
        )
        for at, (name, guess) in enumerate(zip(header, guesses, strict=True))
    )


def _best_type(header: Sequence[str]) -> RecordType | None:
    """The only record type all of whose required fields the columns name, or seem to name."""
    for exact in (True, False):
        fitting = []
        for kind in RECORD_TYPES.values():
            guesses = columns.guess(header, kind)
            names = {one.field for one in guesses if one.certain or not exact}
            if readers.required_fields(kind) <= names:
                fitting.append(kind)
        if len(fitting) == 1:
            return fitting[0]
    # Not all are there: the type whose id has a column, where that is only one.
    names = set(map(columns.field_name, header))
    scores = sorted(
        ((len(names & readers.required_fields(kind)), kind) for kind in RECORD_TYPES.values()),
        key=lambda one: -one[0],
    )
    clear = scores[0][0] >= 3 and scores[0][0] >= 2 * scores[1][0]
    return scores[0][1] if clear else None


def _cells_of(
    rows: Sequence[Sequence[str]], fields: Sequence[str | None], kind: RecordType, kinds: type
) -> list[str]:
    known = kind.serializer_class().fields
    places = [at for at, name in enumerate(fields) if name and isinstance(known[name], kinds)]
    return [cell for row in rows for at in places if (cell := row[at].strip())]


def _date_order(
    rows: Sequence[Sequence[str]], fields: Sequence[str | None], kind: RecordType
) -> tuple[DateOrder | None, bool]:
    """The order in which all dates like 03/04/2026 make sense, and whether it must be asked."""
    found = [
        orders
        for cell in _cells_of(rows, fields, kind, IsoDateTime)
        if (orders := possible_orders(cell))
    ]
    telling = {order for orders in found if len(orders) == 1 for order in orders}
    if len(telling) == 1:
        return telling.pop(), False
    return None, bool(found)


def _has_decimal_comma(
    rows: Sequence[Sequence[str]], fields: Sequence[str | None], kind: RecordType
) -> bool:
    return any(map(DECIMAL_COMMA.fullmatch, _cells_of(rows, fields, kind, Number)))


def _several_fit(file: BinaryIO, sheets: tuple[str, ...], kind: RecordType) -> bool:
    fitting = 0
    for layout in readers.detect_sheets(file):
        names = set(columns.by_name(file_rows.header(file, layout), kind))
        fitting += readers.required_fields(kind) <= names
    return fitting != 1


def _header_sha256(header: Sequence[str]) -> str:
    names = (header[at].strip() for at in error_columns.original(header))
    return hashlib.sha256("\x1f".join(names).encode(errors="replace")).hexdigest()
