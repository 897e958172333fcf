"""Corrections made in place, field by field, in the values of a row that are validated.

An upload stores them as line → field → value; null means that the field was emptied.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ingestion.file_rows import FileRow
from ingestion.records import RecordType

# Rows with longer values are corrected in the error file: a valid record is shorter.
_LONGEST_ROW = 16_000

Fixes = Mapping[str, Mapping[str, Any]]


def fixed(record: Mapping[str, Any], fix: Mapping[str, Any]) -> dict[str, Any]:
    """The record with the corrected fields; an emptied field is absent, others stay the same."""
    emptied = {name for name, value in fix.items() if value is None}
    return {name: value for name, value in {**record, **fix}.items() if name not in emptied}


def fixed_rows(rows: Iterable[FileRow], fixes: Fixes) -> Iterator[FileRow]:
    """The rows with their corrections; their number is the line in the file."""
    for one in rows:
        row = one.row
        if row is not None and row.line is None:  # records of JSON have numbers instead
            row = replace(row, line=one.line)
        fix = fixes.get(str(one.line))
        if fix and row is not None and isinstance(row.value, dict):
            row = replace(row, value=fixed(row.value, fix))
        yield one if row is one.row else replace(one, row=row)


def merged(fixes: Fixes, more: Mapping[int, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """All corrections; if a field is corrected again, the last correction counts."""
    found = {line: dict(fix) for line, fix in fixes.items()}
    for line, fix in more.items():
        found.setdefault(str(line), {}).update(fix)
    return found


def packed(record: Any, record_type: RecordType) -> str | None:
    """The fields of a row with exactly their values, to be stored until the row is corrected.

    None if the row cannot be corrected in place: it is not a record, or it is very long. The text
    is ASCII, so a database can store any value, for example half a surrogate pair.
    """
    if not isinstance(record, dict):
        return None
    known = record_type.fields
    try:
        text = json.dumps({name: value for name, value in record.items() if name in known})
    except RecursionError:
        return None
    return text if len(text) <= _LONGEST_ROW else None


def unpacked(kept: Any) -> dict[str, Any] | None:
    """The fields that `packed` stored."""
    return json.loads(kept) if isinstance(kept, str) else None
