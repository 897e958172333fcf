"""The result of reading a file, limited for any file: causes with examples, and rows."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ingestion.cells import cell_text
from ingestion.file_rows import FileRow
from ingestion.outcomes import FieldCode, FieldError

ROWS_SHOWN = 50
_MOST_CAUSES = 100
_EXAMPLES = 5
# Longer cells are cut: these rows are only shown.
_LONGEST_CELL = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class BadRow:
    """A row that needs fixing: what was `found` in its fields, and its packed fields
    (`ingestion.uploads.fixes`)."""

    line: int
    fields: str | None
    found: Mapping[str, Any]
    errors: Sequence[FieldError]


@dataclass(kw_only=True, slots=True)
class Findings:
    """The findings, added row by row."""

    good: list[dict[str, Any]] = field(default_factory=list)
    bad: list[dict[str, Any]] = field(default_factory=list)
    duplicates: list[dict[str, int]] = field(default_factory=list)
    _counts: defaultdict[tuple[str, str, str], int] = field(
        default_factory=lambda: defaultdict(int)
    )
    _lines: dict[tuple[str, str, str], list[int]] = field(default_factory=dict)
    _left_out: int = 0

    def add_good(self, row: FileRow) -> None:
        """Add a row that is ready."""
        if len(self.good) < ROWS_SHOWN:
            self.good.append({"line": row.line, "cells": shown(row.raw)})

    def add_duplicate(self, row: FileRow) -> None:
        """Add a row whose record came earlier in the file."""
        if len(self.duplicates) < ROWS_SHOWN:
            self.duplicates.append({"line": row.line, "cells": shown(row.raw)})

    def add_bad(self, row: BadRow) -> None:
        """Add a row that needs fixing."""
        for error in row.errors:
            # Entries of a list are one field: subjects[0] and subjects[7] are the same cause.
            name = field_root(error.field or "")
            cause = (name, error.code.value, error.message)
            if cause not in self._counts and len(self._counts) >= _MOST_CAUSES:
                self._left_out += 1
                continue
            self._counts[cause] += 1
            lines = self._lines.setdefault(cause, [])
            if len(lines) < _EXAMPLES and row.line not in lines:
                lines.append(row.line)
        if len(self.bad) < ROWS_SHOWN:
            self.bad.append(
                {
                    "line": row.line,
                    "fields": row.fields,
                    "found": {
                        name: _cut(cell_text(row.found.get(name)))
                        for name in {field_root(one.field or "") for one in row.errors}
                    },
                    "errors": [[one.field or "", one.code, one.message] for one in row.errors],
                }
            )

    def to_json(self) -> dict[str, Any]:
        """The form that is stored with the upload: the most frequent causes first."""
        causes = sorted(self._counts.items(), key=lambda one: -one[1])
        return {
            "causes": [
                {
                    "field": name,
                    "code": code,
                    "message": message,
                    "advice": FieldCode(code).advice,
                    "count": count,
                    "lines": self._lines[name, code, message],
                }
                for (name, code, message), count in causes
            ],
            "causes_left_out": self._left_out,
            "good": self.good,
            "bad": self.bad,
            "duplicates": self.duplicates,
        }


def field_root(field: str) -> str:
    """The field to which an error of a list entry belongs: `subjects[2]` gives subjects."""
    return re.sub(r"\[.*", "", field)


def shown(raw: Any) -> Any:
    """The cells of a table, or the values of a JSON record by name, as short texts."""
    if isinstance(raw, list):
        return [_cut(cell) for cell in raw]
    if isinstance(raw, dict):
        return {_cut(name): _cut(cell_text(value)) for name, value in list(raw.items())[:60]}
    return [_cut(cell_text(raw))]


def _cut(text: Any) -> str:
    short = str(text)
    return short if len(short) <= _LONGEST_CELL else f"{short[:_LONGEST_CELL]}…"
