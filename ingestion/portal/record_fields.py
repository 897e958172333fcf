"""What the serializers know about their fields, in words and limits for people.

Field guide, entry form and sample files are made from this module, and it uses only the
serializers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from ingestion.cells import cell_text
from ingestion.fields import (
    LARGEST_INTEGER,
    Boolean,
    Choice,
    Email,
    Identifier,
    Integer,
    IsoDateTime,
    Number,
    Text,
    TextList,
)
from ingestion.records import RecordType

Field = serializers.Field[Any, Any, Any, Any]

# Texts that may be longer get an input with several lines.
_ONE_LINE = 255


class Kind(StrEnum):
    """The type of value that a field takes, in the words of the field guide."""

    ID = "ID"
    EMAIL = "e-mail address"
    DATETIME = "date and time"
    TEXT = "text"
    LONG_TEXT = "long text"
    INTEGER = "whole number"
    NUMBER = "number"
    BOOLEAN = "yes or no"
    CHOICE = "one of a few words"
    LIST = "list of texts"


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistake:
    """A value, as JSON, that the field refuses, and the field's message about it."""

    value: str
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordField:
    """One field of a record type.

    `least` and `most` limit the value of a number, or the length of a text or list; None means no
    limit. `default` is None if there is none. `example` is its value in the type's example.
    """

    name: str
    kind: Kind
    meaning: str
    required: bool
    default: str | None
    choices: tuple[str, ...]
    least: float | None
    most: float | None
    example: Any
    mistakes: tuple[Mistake, ...]

    @property
    def label(self) -> str:
        """The name for people: `tutor_id` becomes "Tutor ID"."""
        words = ["ID" if word == "id" else word for word in self.name.split("_")]
        return " ".join([words[0].capitalize(), *words[1:]])

    @property
    def rule(self) -> str:
        """The allowed values in words; empty if the kind alone says enough."""
        match self.kind:
            case Kind.ID:
                return f"up to {self.most} characters, without spaces"
            case Kind.TEXT | Kind.LONG_TEXT:
                return f"up to {self.most:,} characters"
            case Kind.INTEGER | Kind.NUMBER if self.most is None:
                return f"{self.least} or more"
            case Kind.INTEGER | Kind.NUMBER:
                return f"from {self.least} to {self.most}"
            case Kind.LIST if self.least:
                return f"{self.least} to {self.most} entries of up to 100 characters"
            case Kind.LIST:
                return f"up to {self.most} entries of up to 100 characters"
        return ""

    @property
    def in_files(self) -> str:
        """How a cell of a file writes it, if that is not obvious."""
        return _IN_FILES.get(self.kind, "")

    @property
    def example_text(self) -> str:
        """The example as a cell of a file."""
        return cell_text(self.example)


@cache
def record_fields(record_type: RecordType) -> tuple[RecordField, ...]:
    """The fields of a record type, in their order."""
    example = record_type.serializer_class.example
    return tuple(
        _describe(name, field, example.get(name)) for name, field in record_type.fields.items()
    )


def sample_records(record_type: RecordType) -> list[Mapping[str, Any]]:
    """Two valid records: the type's example, and a record with only the required fields."""
    example = record_type.serializer_class.example
    required = {
        field.name: example[field.name] for field in record_fields(record_type) if field.required
    }
    first_id = example[record_type.id_field]
    # Another id of the same form.
    required[record_type.id_field] = first_id[:-1] + ("2" if first_id[-1] != "2" else "3")
    return [example, required]


# Subclasses come before their base classes.
_KINDS: tuple[tuple[type[Field], Kind], ...] = (
    (Identifier, Kind.ID),
    (Email, Kind.EMAIL),
    (IsoDateTime, Kind.DATETIME),
    (Text, Kind.TEXT),
    (Integer, Kind.INTEGER),
    (Number, Kind.NUMBER),
    (Boolean, Kind.BOOLEAN),
    (Choice, Kind.CHOICE),
    (TextList, Kind.LIST),
)

_IN_FILES = {
    Kind.BOOLEAN: "true or false; yes, no, 1, 0, ja and nein as well",
    Kind.DATETIME: "you may write a space instead of the T; a date without a time means midnight",
    Kind.LIST: "entries separated by ; or |",
}


def _describe(name: str, field: Field, example: Any) -> RecordField:
    kind = next(kind for field_class, kind in _KINDS if isinstance(field, field_class))
    least, most = _bounds(field)
    if kind is Kind.TEXT and most is not None and most > _ONE_LINE:
        kind = Kind.LONG_TEXT
    return RecordField(
        name=name,
        kind=kind,
        meaning=str(field.help_text or ""),
        required=field.required,
        default=field.default if isinstance(field.default, str) and field.default else None,
        choices=tuple(field.choices) if isinstance(field, Choice) else (),
        least=least,
        most=most,
        example=example,
        mistakes=tuple(_mistakes(field, kind, example, least, most)),
    )


def _bounds(field: Field) -> tuple[float | None, float | None]:
    if isinstance(field, Integer | Number):
        most = field.max_value
        return field.min_value, None if most == LARGEST_INTEGER else most
    if isinstance(field, Text | TextList):
        return field.min_length, field.max_length
    return None, None


def _mistakes(
    field: Field, kind: Kind, example: Any, least: float | None, most: float | None
) -> Iterator[Mistake]:
    """Typical mistakes that this field refuses, with the field's own messages."""
    for value in _candidates(field, kind, example, least, most):
        try:
            field.run_validation(value)
        except ValidationError as refusal:
            detail = refusal.detail
            message = detail[0] if isinstance(detail, list) else next(iter(detail.values()))
            yield Mistake(value=json.dumps(value, ensure_ascii=False), message=str(message))


def _candidates(
    field: Field, kind: Kind, example: Any, least: float | None, most: float | None
) -> list[Any]:
    match kind:
        case Kind.ID:
            return ["tutor 00001", 1, ""]
        case Kind.EMAIL:
            return ["john.doe at example.com", "john.doe@example"]
        case Kind.DATETIME:
            return ["14.05.2024 15:00", "2024-05-14", "2024-05-14 15:00:00"]
        case Kind.TEXT:
            return ["", 7]
        case Kind.INTEGER | Kind.NUMBER:
            below = [] if least is None else [least - 1]
            above = [] if most is None else [most + 1]
            halves = [0.5] if kind is Kind.INTEGER else []
            return [*below, *above, *halves, str(example)]
        case Kind.BOOLEAN:
            return ["yes", 1]
        case Kind.CHOICE if isinstance(field, Choice):
            first = str(next(iter(field.choices)))
            return [first.swapcase(), "other"]
        case Kind.LIST:
            return ["Algebra, Geometry", []]
    return []
