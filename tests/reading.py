"""Reads files in a given format, whatever their content."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from ingestion import file_rows
from ingestion.columns import our_names
from ingestion.decoding import Row
from ingestion.files import csv, registry
from ingestion.files.look import Look
from ingestion.files.shape import Shape
from ingestion.records import RecordType


def detect_csv(file: BinaryIO) -> Shape:
    """How a CSV file is written."""
    return csv.detect(file, our_names())


def read_as(
    file: BinaryIO, file_format: str, record_type: RecordType, shape: Shape | None = None
) -> Iterator[Row]:
    """The rows of the file."""
    form = registry.FORMATS[file_format]
    found = Look(shape=Shape(file_format=file_format))
    if form.is_table:
        found = form.look(file, our_names(), shape, 2**30)
    return file_rows.read(file, record_type, found)
