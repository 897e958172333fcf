"""Where the rows of a file are, and how much of a file is read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ingestion.outcomes import Code, PayloadError

# The longest record that is read, in bytes or characters: more than three times as long as a valid
# record with all its characters written as \u escapes.
LONGEST_RECORD = 2**18
# Signs before a value in a JSON record. Texts may hold such signs too, so the limit is many times
# what a valid record has. It limits memory and does not decide what is valid.
MOST_SIGNS = 20_000
MOST_COLUMNS = 500
MOST_SHEETS = 100
LONGEST_NAME = 255


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Where the rows of a file are.

    `sheet` is the name of their sheet, if the file has sheets. `header_line` is the 1-based line
    where the header row of a table starts. `options` say how the file is written, if its format
    leaves that open (`Format.options`).
    """

    file_format: str
    sheet: str = ""
    header_line: int = 1
    options: dict[str, str] = field(default_factory=dict)


class UnreadableFileError(PayloadError):
    """The file cannot be read. `advice` tells people why, and what to do."""

    def __init__(self, advice: str) -> None:
        super().__init__(Code.UNKNOWN_FILE_FORMAT)
        self.advice = advice


TOO_MANY_COLUMNS = (
    f"The table has more than {MOST_COLUMNS} columns. Delete those that are not needed and upload "
    "it again."
)


def field_name(cell: str) -> str:
    """The field name for a column's name: "Tutor ID" becomes tutor_id."""
    return re.sub(r"[\s-]+", "_", cell.strip()).lower()
