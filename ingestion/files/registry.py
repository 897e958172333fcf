"""The formats that are read and written. A new format is one module and one entry here."""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import BinaryIO

from ingestion.files.csv import Csv
from ingestion.files.format import Format, Head
from ingestion.files.json import Json
from ingestion.files.look import Look
from ingestion.files.ndjson import Ndjson
from ingestion.files.raw_rows import RawRow
from ingestion.files.shape import Shape, UnreadableFileError
from ingestion.files.xlsx import Xlsx
from ingestion.outcomes import Code, PayloadError

FORMATS: dict[str, Format] = {one.name: one for one in (Csv(), Xlsx(), Json(), Ndjson())}
"""The formats by name. The last one is asked first about a file; CSV accepts any text."""


def titles() -> str:
    """The names of the formats as part of a sentence: "CSV, Excel (.xlsx), JSON or NDJSON"."""
    *others, last = (one.title for one in FORMATS.values())
    return f"{', '.join(others)} or {last}"


def recognise(file: BinaryIO) -> Format:
    """The file's format by its content; its name is ignored.

    Raises `PayloadError` if the file is empty or clearly something else.
    """
    head = Head(file)
    if head.is_blank:
        raise PayloadError(Code.EMPTY_FILE)
    for one in reversed(FORMATS.values()):
        if one.recognises(head):
            return one
    raise UnreadableFileError(
        "This is not a table and not JSON. Save the records as .xlsx or CSV and upload that file."
    )


def look(
    file: BinaryIO, names: Set[str], *, most_unpacked_bytes: int, shape: Shape | None = None
) -> Look:
    """Look at the beginning of the file; it is read as `shape` says if that is known already.

    `names` are all names that a column of ours may have: the row with most of them is the header
    row. Raises `PayloadError`.
    """
    found = FORMATS[shape.file_format] if shape else recognise(file)
    return found.look(file, names, shape, most_unpacked_bytes)


def rows(file: BinaryIO, shape: Shape, *, most_unpacked_bytes: int) -> Iterator[RawRow]:
    """Every row of a file in order, with the blank ones; a table's header row comes first.

    Raises `PayloadError`.
    """
    return FORMATS[shape.file_format].rows(file, shape, most_unpacked_bytes)
