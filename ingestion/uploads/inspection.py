"""What a first look at a file found, the questions about it, and the meaning of its columns."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from itertools import islice
from typing import Any

from ingestion import columns, decoding
from ingestion.cells import DECIMAL_COMMA, DateOrder, Notation, possible_orders
from ingestion.fields import IsoDateTime, Number
from ingestion.file_rows import Layout, guess_record_type, layout_of
from ingestion.files import error_columns
from ingestion.files.look import Look
from ingestion.files.shape import field_name
from ingestion.formulas import unescape_formulas
from ingestion.models import ColumnChoice
from ingestion.records import RECORD_TYPES, RecordType

_SAMPLES = 3
_LONGEST_SAMPLE = 200


class Question(StrEnum):
    """What the file does not say for certain."""

    RECORD_TYPE = "record_type"
    SHEET = "sheet"
    COLUMNS = "columns"
    DATE_ORDER = "date_order"


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column of the file: its name, its first filled cells, and the field that it seems to be.

    `orders` are the orders that its dates like 03/04/2026 show: empty if no date shows its order,
    None if it has no such dates. `comma` is set if its numbers have a decimal comma.
    """

    name: str
    samples: tuple[str, ...]
    field: str | None
    certain: bool
    orders: tuple[DateOrder, ...] | None = None
    comma: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """What a first look at the file found. `parent` is the upload whose error file this is.

    `questions` holds what staff are asked: each is a `Question`, or the name of an option of the
    file's format (`Format.options`).
    """

    layout: Layout
    record_type: RecordType | None
    sheets: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    questions: frozenset[str] = frozenset()
    parent: int | None = None
    header_sha256: str = ""

    @property
    def missing(self) -> list[str]:
        """Required fields without a column."""
        if self.record_type is None or not self.columns:
            return []
        have = {column.field for column in self.columns}
        fields = self.record_type.fields
        return [name for name, field in fields.items() if field.required and name not in have]

    def to_json(self) -> dict[str, Any]:
        """The form that is stored with the upload, beside the layout and the record type."""
        return {
            "sheets": self.sheets,
            "columns": [asdict(column) for column in self.columns],
            "questions": sorted(self.questions),
            "header_sha256": self.header_sha256,
        }


def from_json(
    kept: Mapping[str, Any], layout: Layout, record_type: RecordType | None
) -> Inspection:
    """The inspection that `to_json` stored."""
    return Inspection(
        layout=layout,
        record_type=record_type,
        sheets=tuple(kept["sheets"]),
        columns=tuple(
            Column(
                **{
                    **column,
                    "samples": tuple(column["samples"]),
                    "orders": None
                    if column["orders"] is None
                    else tuple(map(DateOrder, column["orders"])),
                }
            )
            for column in kept["columns"]
        ),
        questions=frozenset(kept["questions"]),
        header_sha256=kept["header_sha256"],
    )


def inspect(
    look: Look, *, record_type: RecordType | None = None, layout: Layout | None = None
) -> Inspection:
    """The result of the look; `layout` is what staff already chose, except its columns."""
    found = layout_of(look)
    layout = found if layout is None else replace(layout, armed=found.armed)
    if layout.format.is_table:
        return _inspect_table(look, layout, record_type)
    return _inspect_json(look, layout, record_type)


def answered(found: Inspection, record_type: RecordType, layout: Layout) -> Inspection:
    """The inspection with the choices of staff. It may have to ask for the date order again."""
    if layout.columns is None:
        return replace(found, record_type=record_type, layout=layout, questions=frozenset())
    chosen = tuple(
        replace(column, field=field, certain=True)
        for column, field in zip(found.columns, layout.columns, strict=True)
    )
    notation, unclear = _with_date_order(layout.notation, chosen, record_type)
    return replace(
        found,
        record_type=record_type,
        layout=replace(layout, notation=notation),
        columns=chosen,
        questions=frozenset([Question.DATE_ORDER] if unclear else []),
    )


def as_corrected(found: Inspection, before: Layout) -> Inspection:
    """The inspection of an error file. Its dates and numbers are read like those of the original,
    as `before` says. If its dates contradict that, staff are asked."""
    order = before.notation.date_order
    if not found.layout.armed or order is None:
        return found
    clash = found.layout.notation.date_order not in (None, order)
    notation = replace(
        found.layout.notation,
        date_order=None if clash else order,
        decimal_comma=found.layout.notation.decimal_comma or before.notation.decimal_comma,
    )
    asked = {str(Question.DATE_ORDER)} if clash else set()
    return replace(
        found,
        layout=replace(found.layout, notation=notation),
        questions=found.questions - {Question.DATE_ORDER} | asked,
    )


def remember(found: Inspection) -> None:
    """Read the next file with this header, and its error files, in the same way."""
    original = error_columns.original([column.name for column in found.columns])
    if found.record_type is not None and found.header_sha256:
        ColumnChoice.objects.update_or_create(
            record_type=found.record_type,
            header_sha256=found.header_sha256,
            defaults={"columns": [found.columns[at].field for at in original]},
        )


def _inspect_json(look: Look, layout: Layout, record_type: RecordType | None) -> Inspection:
    guess = guess_record_type(look)
    asked = record_type is None and guess is None
    asked = asked or (record_type is not None and guess not in (None, record_type))
    values = [decoding.decode_line(record, 1).value for record in look.records]
    problems = [
        str(one.get(error_columns.PROBLEM_COLUMN, "")) for one in values if isinstance(one, dict)
    ]
    return Inspection(
        layout=layout,
        record_type=record_type or guess,
        questions=frozenset([Question.RECORD_TYPE] if asked else []),
        parent=error_columns.upload_of(problems),
    )


def _inspect_table(look: Look, layout: Layout, record_type: RecordType | None) -> Inspection:
    header, rows = look.header, look.rows
    if layout.armed:
        header = list(map(unescape_formulas, header))
        rows = [list(map(unescape_formulas, row)) for row in rows]
    questions = set(look.unsure)
    best = _best_type(header)
    record_type = record_type or best
    if record_type is None or (best is not None and best is not record_type):
        questions.add(Question.RECORD_TYPE)
    shown = record_type or next(iter(RECORD_TYPES.values()))
    header_sha256 = _header_sha256(header)
    found = _columns(header, rows, shown, header_sha256)
    fields = {column.field for column in found}
    if not all(column.certain for column in found) or not columns.required_fields(shown) <= fields:
        questions.add(Question.COLUMNS)
    notation, unclear = _with_date_order(layout.notation, found, shown)
    if unclear:
        questions.add(Question.DATE_ORDER)
    comma = any(column.comma for column in _of_type(found, shown, Number))
    notation = replace(notation, decimal_comma=notation.decimal_comma or comma)
    if len(look.sheets) > 1 and _fitting_sheets(look, shown) != 1:
        questions.add(Question.SHEET)
    problems = error_columns.problems(header, rows[:20]) if layout.armed else []
    return Inspection(
        layout=replace(
            layout,
            columns=tuple(column.field for column in found),
            notation=notation,
        ),
        record_type=record_type,
        sheets=tuple(sheet.name for sheet in look.sheets),
        columns=found,
        questions=frozenset(questions),
        parent=error_columns.upload_of(problems),
        header_sha256=header_sha256,
    )


def _columns(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    record_type: RecordType,
    header_sha256: str,
) -> tuple[Column, ...]:
    choice = ColumnChoice.objects.filter(
        record_type=record_type, header_sha256=header_sha256
    ).first()
    if choice and len(choice.columns) == len(kept := error_columns.original(header)):
        fields = dict(zip(kept, choice.columns, strict=True))
        guesses = [columns.Guess(field=fields.get(at), certain=True) for at in range(len(header))]
    else:
        guesses = columns.guess(header, record_type)
    return tuple(
        _column(name, [cell for row in rows if (cell := row[at].strip())], guess)
        for at, (name, guess) in enumerate(zip(header, guesses, strict=True))
    )


def _column(name: str, cells: Sequence[str], guess: columns.Guess) -> Column:
    found = [orders for cell in cells if (orders := possible_orders(cell))]
    telling = {order for orders in found if len(orders) == 1 for order in orders}
    return Column(
        name=name,
        samples=tuple(cell[:_LONGEST_SAMPLE] for cell in islice(cells, _SAMPLES)),
        field=guess.field,
        certain=guess.certain,
        orders=tuple(sorted(telling)) if found else None,
        comma=any(map(DECIMAL_COMMA.fullmatch, cells)),
    )


def _best_type(header: Sequence[str]) -> RecordType | None:
    """The only record type whose required fields all have a column, or seem to have one."""
    for exact in (True, False):
        fitting = []
        for record_type in RECORD_TYPES.values():
            guesses = columns.guess(header, record_type)
            names = {one.field for one in guesses if one.certain or not exact}
            if columns.required_fields(record_type) <= names:
                fitting.append(record_type)
        if len(fitting) == 1:
            return fitting[0]
    # Some are missing: take the type whose id has a column, if there is only one such type.
    names = set(map(field_name, header))
    scores = sorted(
        (
            (len(names & columns.required_fields(record_type)), record_type)
            for record_type in RECORD_TYPES.values()
        ),
        key=lambda one: -one[0],
    )
    clear = scores[0][0] >= 3 and scores[0][0] >= 2 * scores[1][0]
    return scores[0][1] if clear else None


def _of_type(found: Iterable[Column], record_type: RecordType, type_: type) -> list[Column]:
    """The columns whose field is of this type."""
    fields = record_type.fields
    return [one for one in found if one.field and isinstance(fields.get(one.field), type_)]


def _with_date_order(
    notation: Notation, found: Iterable[Column], record_type: RecordType
) -> tuple[Notation, bool]:
    """The order in which all dates like 03/04/2026 make sense, and whether it must be asked."""
    if notation.date_order is not None:
        return notation, False
    dated = [one for one in _of_type(found, record_type, IsoDateTime) if one.orders is not None]
    telling = {order for one in dated for order in one.orders or ()}
    if len(telling) == 1:
        return replace(notation, date_order=telling.pop()), False
    return notation, bool(dated)


def _fitting_sheets(look: Look, record_type: RecordType) -> int:
    required = columns.required_fields(record_type)
    return sum(required <= set(columns.by_name(one.header, record_type)) for one in look.sheets)


def _header_sha256(header: Sequence[str]) -> str:
    names = (header[at].strip() for at in error_columns.original(header))
    return hashlib.sha256("\x1f".join(names).encode(errors="replace")).hexdigest()
