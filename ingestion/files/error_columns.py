"""The two columns by which a file of ours with rows to fix is known again.

`_line` is where the row stands in the original, `_problem` why it was refused, with the number of
the upload at its end. In JSON they are two names in each record.
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
    """All reasons in one text, and the upload by which the corrected file is known again."""
    return f"{' '.join(reasons)[:_LONGEST_PROBLEM]} [upload {upload}]"


def added(header: Sequence[str]) -> tuple[int, int] | None:
    """Where the two columns stand in a header row: the last of each name, as they are added last.

    None if they do not both stand there.
    """
    places = {field_name(cell): at for at, cell in enumerate(header)}
    if LINE_COLUMN in places and PROBLEM_COLUMN in places:
        return places[LINE_COLUMN], places[PROBLEM_COLUMN]
    return None


def original(header: Sequence[str]) -> list[int]:
    """Where the columns of the original stand: all but the two."""
    places = added(header) or ()
    return [at for at in range(len(header)) if at not in places]


def problems(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """What stands in the column of problems; nothing if there is none."""
    places = added(header)
    return [row[places[1]] for row in rows if places[1] < len(row)] if places else []


def are_ours(problems: Iterable[str]) -> bool:
    """Whether a file with both columns and these problems is ours, and not a table of somebody who
    calls two columns so: who mends the rows may also clear the problems, but writes none."""
    filled = [text for text in problems if text.strip()]
    return not filled or any(map(_UPLOAD.search, filled))


def upload_of(problems: Iterable[str]) -> int | None:
    """The upload whose rows these problems are about; None if they do not agree."""
    found = {int(match[1]) for text in problems if (match := _UPLOAD.search(text))}
    return found.pop() if len(found) == 1 else None
