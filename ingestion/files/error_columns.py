"""The two columns that identify an error file: a file of ours with rows to fix.

`_line` is the line of the row in the original. `_problem` says why the row was refused, and ends
with the number of the upload. In JSON these are two names in each record.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ingestion.files.shape import field_name

LINE_COLUMN = "_line"
PROBLEM_COLUMN = "_problem"
_UPLOAD = re.compile(r"\[upload (\d{1,18})\]\s*$")
_LONGEST_PROBLEM = 2000


def problem_text(reasons: Iterable[str], upload: int) -> str:
    """All reasons in one text, with the number of the upload that the row belongs to."""
    return f"{' '.join(reasons)[:_LONGEST_PROBLEM]} [upload {upload}]"


def added(header: Sequence[str]) -> tuple[int, int] | None:
    """The places of the two columns in a header row: the last of each name, as they are added last.

    None if one of them is missing.
    """
    places = {field_name(cell): at for at, cell in enumerate(header)}
    if LINE_COLUMN in places and PROBLEM_COLUMN in places:
        return places[LINE_COLUMN], places[PROBLEM_COLUMN]
    return None


def original(header: Sequence[str]) -> list[int]:
    """The places of the original's columns: all except the two."""
    places = added(header) or ()
    return [at for at in range(len(header)) if at not in places]


def problems(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The texts in the column of problems; empty if there is no such column."""
    places = added(header)
    return [row[places[1]] for row in rows if places[1] < len(row)] if places else []


def are_ours(problems: Iterable[str]) -> bool:
    """Whether a file with both columns and these problems is ours. Somebody may use the two names
    in a table of their own. People who correct rows may clear the problems but do not write any."""
    filled = [text for text in problems if text.strip()]
    return not filled or any(map(_UPLOAD.search, filled))


def upload_of(problems: Iterable[str]) -> int | None:
    """The upload whose rows these problems are about; None if they name different uploads."""
    found = {int(match[1]) for text in problems if (match := _UPLOAD.search(text))}
    return found.pop() if len(found) == 1 else None
