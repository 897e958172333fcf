"""Files of records read here and now, in this process: for commands, whose file is their own.

What staff send is read in a limited process instead, by `ingestion.files.limited`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from django.conf import settings

from ingestion import decoding
from ingestion.decoding import Row
from ingestion.file_rows import FileRows, layout_of
from ingestion.files import look as looks
from ingestion.files import raw_rows
from ingestion.files.look import Look
from ingestion.files.shape import Shape, field_name
from ingestion.records import RECORD_TYPES, RecordType


def our_names() -> frozenset[str]:
    """All names that a column of ours may have."""
    names: set[str] = set()
    for record_type in RECORD_TYPES.values():
        names.update(record_type.serializer_class().fields)
    return frozenset(names)


def look(file: BinaryIO, shape: Shape | None = None) -> Look:
    """A first look at the file: what it is, how its rows lie. Raises `PayloadError`."""
    return looks.look(
        file, our_names(), most_unpacked_bytes=settings.MAX_UNPACKED_BYTES, shape=shape
    )


def guess_record_type(found: Look) -> RecordType | None:
    """The only record type whose required fields are all in the first records; None if unsure."""
    if found.shape.file_format.is_table:
        names = set(map(field_name, found.header))
    else:
        values = [decoding.decode_line(record, 1).value for record in found.records]
        names = {name for value in values if isinstance(value, dict) for name in value}
    fitting = [
        record_type
        for record_type in RECORD_TYPES.values()
        if required_fields(record_type) <= names
    ]
    return fitting[0] if len(fitting) == 1 else None


def required_fields(record_type: RecordType) -> set[str]:
    """The fields without which no record of this type is valid."""
    fields = record_type.serializer_class().fields
    return {name for name, field in fields.items() if field.required}


def read(file: BinaryIO, record_type: RecordType, found: Look | None = None) -> Iterator[Row]:
    """The rows of a file, in order; blank ones are passed over.

    The columns of a table are matched to fields by name, in any case, with spaces or dashes for
    underscores; other columns are dropped, and of two columns of one name the last filled one
    counts. An empty cell is an absent field; other cells are stripped and converted
    (`ingestion.cells`). `found` is what a first look did, if there was one. Raises `PayloadError`.
    """
    layout = layout_of(found or look(file))
    raws = raw_rows.rows(file, layout.shape, most_unpacked_bytes=settings.MAX_UNPACKED_BYTES)
    for one in FileRows(raws, layout, record_type):
        if one.row is not None:
            yield one.row
