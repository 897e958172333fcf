"""What is valid: a payload or rows in, one verdict per record out.

The serializer decides. One instance per record type is built once and shared by all threads:
building one for every record costs five times the validation itself, and `run_validation` keeps
nothing on the serializer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

from django.conf import settings
from rest_framework.exceptions import ValidationError

from ingestion import decoding
from ingestion.decoding import Payload, Row
from ingestion.outcomes import Code, FieldCode, FieldError, PayloadError, Rejection
from ingestion.records import RecordType
from ingestion.serializers import RecordSerializer


@dataclass(frozen=True, kw_only=True, slots=True)
class Valid:
    """A record that passed: its id, what goes on the queue, and its line where it has one."""

    id: str
    data: Mapping[str, Any]
    line: int | None = None


Verdict = Valid | Rejection

_NOT_AN_OBJECT = FieldError(
    field=None, code=FieldCode.NOT_AN_OBJECT, message="Must be a JSON object with named fields."
)


def judge(
    record_type: RecordType,
    payload: Payload | Iterable[Row],
    *,
    admit: Callable[[int], None] | None = None,
) -> list[Verdict]:
    """One verdict per record, in the order given.

    `admit` is told how many records there are before any is judged, and may raise. Raises
    `PayloadError` where there is no record, where there are more than `settings.MAX_BATCH_RECORDS`,
    or where the payload as a whole can not be read.
    """
    # Counted first: a batch over the limit is refused before its records are judged, and no row
    # beyond the limit is even made.
    found = decoding.rows(payload) if isinstance(payload, Payload) else payload
    rows = list(islice(found, settings.MAX_BATCH_RECORDS + 1))
    if len(rows) > settings.MAX_BATCH_RECORDS:
        raise PayloadError(Code.BATCH_TOO_LARGE)
    if not rows:
        raise PayloadError(Code.EMPTY_BATCH)
    if admit:
        admit(len(rows))
    serializer = _serializer(record_type.serializer_class)
    return [_judge_row(record_type, serializer, row, index) for index, row in enumerate(rows)]


def _judge_row(
    record_type: RecordType, serializer: RecordSerializer, row: Row, index: int
) -> Verdict:
    if row.problem is not None:
        return Rejection(index=index, line=row.line, errors=(row.problem,))
    if not isinstance(row.value, dict):
        return Rejection(index=index, line=row.line, errors=(_NOT_AN_OBJECT,))
    try:
        data = serializer.run_validation(row.value)
    except ValidationError as refusal:
        return Rejection(
            index=index,
            line=row.line,
            id=_valid_id(record_type, serializer, row.value),
            errors=tuple(_field_errors(refusal.detail)),
            record=row.value,
        )
    return Valid(id=data[record_type.id_field], data=data, line=row.line)


@cache
def _serializer(serializer_class: type[RecordSerializer]) -> RecordSerializer:
    return serializer_class()


def _valid_id(
    record_type: RecordType, serializer: RecordSerializer, value: Mapping[str, Any]
) -> str | None:
    # Only an id that is one by our rules may be repeated to the sender.
    id_field = record_type.id_field
    try:
        record_id: str = serializer.fields[id_field].run_validation(value.get(id_field))
    except ValidationError:
        return None
    return record_id


def _field_errors(detail: Any, field: str = "") -> Iterator[FieldError]:
    """DRF's nested error detail as a flat list; an entry of a list is named `subjects[2]`."""
    if isinstance(detail, dict):
        for key, inner in detail.items():
            yield from _field_errors(inner, f"{field}[{key}]" if isinstance(key, int) else key)
    elif isinstance(detail, list):
        for inner in detail:
            yield from _field_errors(inner, field)
    else:
        yield FieldError(field=field, code=FieldCode(detail.code), message=str(detail))
