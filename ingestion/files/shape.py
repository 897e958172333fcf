"""How rows lie in a file, and how much of a file is read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from ingestion.outcomes import Code, PayloadError

# The longest record that is read, in bytes or characters: more than three times what a valid one
# can have with all its characters written as \u escapes.
LONGEST_RECORD = 2**18
# Signs before a value in a JSON record. Texts may hold such signs too, so it is many times what a
# valid record has: a limit on memory, not on what is valid.
MOST_SIGNS = 20_000
MOST_COLUMNS = 500
MOST_SHEETS = 100
LONGEST_NAME = 255


class FileFormat(StrEnum):
    """The formats that are read."""

    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"
    XLSX = "xlsx"

    @property
    def is_table(self) -> bool:
        """Whether it has columns, named by a header row."""
        return self in (FileFormat.CSV, FileFormat.XLSX)


class Encoding(StrEnum):
    """The encodings in which a CSV file is read, by Python's names."""

    UTF_8 = "utf-8-sig"  # with a byte order mark or without
    UTF_16 = "utf-16"
    CP1252 = "cp1252"


@dataclass(frozen=True, kw_only=True, slots=True)
class CsvOptions:
    """How a CSV file is written. `header_line` is the 1-based line where its header row starts."""

    encoding: Encoding
    delimiter: str
    header_line: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Where the rows of a file lie. `csv` is set for CSV, `sheet` and `header_line` for XLSX."""

    file_format: FileFormat
    csv: CsvOptions | None = None
    sheet: str = ""
    header_line: int = 1


class UnreadableFileError(PayloadError):
    """The file cannot be read. `advice` is for people: why, and what to do."""

    def __init__(self, advice: str) -> None:
        super().__init__(Code.UNKNOWN_FILE_FORMAT)
        self.advice = advice


TOO_MANY_COLUMNS = (
    f"The table has more than {MOST_COLUMNS} columns. Delete those that are not needed and upload "
    "it again."
)


def field_name(cell: str) -> str:
    """A column's name as a field's name: "Tutor ID" is tutor_id."""
    return re.sub(r"[\s-]+", "_", cell.strip()).lower()
