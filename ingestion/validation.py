"""What is valid: rows in, one verdict per record out.

The serializer decides. One instance per record type is built once and shared by all threads:
building one for every record costs five times the validation itself, and `run_validation` keeps
nothing on the serializer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import islice
from typing import Any

from django.conf import settings
from rest_framework.exceptions import ValidationError

from ingestion import decoding
from ingestion.decoding import Payload, Row, Rows
from ingestion.outcomes import Code, FieldCode, FieldError, PayloadError, Rejection
from ingestion.records import RecordType
from ingestion.serializers import RecordSerializer


@dataclass(frozen=True, kw_only=True, slots=True)
class Valid:
    """A record that passed: its id, what goes on the queue, and its line where it has one.

    `ignored` are the names of fields that its type does not know: they were dropped. A name that is
    empty, long or cannot be printed is `ODD_NAME`.
    """

    id: str
    data: Mapping[str, Any]
    line: int | None = None
    ignored: tuple[str, ...] = ()


Verdict = Valid | Rejection

RECORDS_KEPT = 20
"""Of one request so many refused records are kept at most, for staff to look at and fix."""

ODD_NAME = "(a name that cannot be shown)"
_LONGEST_NAME = 64

_NOT_AN_OBJECT = FieldError(
    field=None, code=FieldCode.NOT_AN_OBJECT, message="Must be a JSON object with named fields."
)


def read(payload: Payload) -> Rows:
    """The records of a payload, counted and not validated yet.

    Raises `PayloadError` if the payload as a whole cannot be read, or holds no record or more than
    `settings.MAX_BATCH_RECORDS`.
    """
    rows = decoding.rows(payload, most=settings.MAX_BATCH_RECORDS)
    _check_count(rows.count)
    return rows


def validate(record_type: RecordType, rows: Iterable[Row]) -> list[Verdict]:
    """One verdict per record, in the order given; the first rejections hold what was sent.

    Raises `PayloadError` if there is no record, if there are more than
    `settings.MAX_BATCH_RECORDS`, or if it turns out only now that the payload cannot be read.
    """
    if not isinstance(rows, Rows):  # those are counted
        # No row beyond the limit is even made.
        rows = list(islice(rows, settings.MAX_BATCH_RECORDS + 1))
        _check_count(len(rows))
    validator = _validator(record_type.serializer_class, record_type.id_field)
    verdicts: list[Verdict] = []
    rejected = 0
    for index, row in enumerate(rows):
        verdict = validator(row, index, keep=rejected < RECORDS_KEPT)
        rejected += isinstance(verdict, Rejection)
        verdicts.append(verdict)
    return verdicts


def _check_count(count: int) -> None:
    if count > settings.MAX_BATCH_RECORDS:
        raise PayloadError(Code.BATCH_TOO_LARGE)
    if not count:
        raise PayloadError(Code.EMPTY_BATCH)


@cache
def _validator(serializer_class: type[RecordSerializer], id_field: str) -> _Validator:
    return _Validator(serializer_class(), id_field)


class _Validator:
    """What validates the records of one type. Shared by all threads: nothing is kept on it."""

    def __init__(self, serializer: RecordSerializer, id_field: str) -> None:
        self._serializer = serializer
        self._id_field = id_field
        self._fields = dict(serializer.fields)
        self._missing = {
            name: FieldError(
                field=name, code=FieldCode.REQUIRED, message=str(field.error_messages["required"])
            )
            for name, field in self._fields.items()
            if field.required
        }

    def __call__(self, row: Row, index: int, *, keep: bool) -> Verdict:
        """The verdict on a row, the one with this index; `keep` what was sent if it is refused."""
        value = row.value
        if row.problem is not None:
            return Rejection(index=index, line=row.line, errors=(row.problem,))
        if not isinstance(value, dict):
            return Rejection(index=index, line=row.line, errors=(_NOT_AN_OBJECT,))
        if self._missing.keys() <= value.keys():
            try:
                data = self._serializer.run_validation(value)
            except ValidationError as refusal:
                errors = tuple(_field_errors(refusal.detail))
            else:
                ignored = tuple(_shown(one) for one in value if one not in self._fields)
                return Valid(id=data[self._id_field], data=data, line=row.line, ignored=ignored)
        else:
            errors = tuple(self._errors_of_fields(value))
        return Rejection(
            index=index,
            line=row.line,
            id=self._valid_id(value),
            errors=errors,
            record=value if keep else None,
        )

    def _errors_of_fields(self, value: Mapping[str, Any]) -> Iterator[FieldError]:
        """As the serializer tells them of a record that lacks a field, at a tenth of the cost.

        A record of nothing at all is two bytes to send. The rules between fields are not asked
        then, so that each field can be asked by itself.
        """
        for name, field in self._fields.items():
            if name in value:
                try:
                    field.run_validation(value[name])
                except ValidationError as refusal:
                    yield from _field_errors(refusal.detail, name)
            elif name in self._missing:
                yield self._missing[name]

    def _valid_id(self, value: Mapping[str, Any]) -> str | None:
        # Only an id that is one by our rules may be repeated to the sender.
        given = value.get(self._id_field)
        if not isinstance(given, str):
            return None
        try:
            record_id: str = self._fields[self._id_field].run_validation(given)
        except ValidationError:
            return None
        return record_id


def _shown(name: str) -> str:
    return name if 0 < len(name) <= _LONGEST_NAME and name.isprintable() else ODD_NAME


def _field_errors(detail: Any, field: str = "") -> Iterator[FieldError]:
    """DRF's nested error detail as a flat list; an entry of a list is named `subjects[2]`."""
    if isinstance(detail, dict):
        for key, inner in detail.items():
            yield from _field_errors(inner, f"{field}[{key}]" if isinstance(key, int) else key)
    elif isinstance(detail, list):
        for inner in detail:
            yield from _field_errors(inner, field)
    else:
        yield _field_error(field, detail.code, str(detail))


@lru_cache(maxsize=2000)  # fields, entries of short lists, and words: a closed set
def _field_error(field: str, code: str, message: str) -> FieldError:
    """One object for all records that were refused for the same reason."""
    return FieldError(field=field, code=FieldCode(code), message=message)
