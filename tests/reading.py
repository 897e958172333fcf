"""Files read as one format, whatever they look like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from ingestion import readers
from ingestion.decoding import Row
from ingestion.files import look
from ingestion.files.look import Look
from ingestion.files.shape import CsvOptions, FileFormat, Shape
from ingestion.records import RecordType


def detect_csv(file: BinaryIO) -> CsvOptions:
    """How a CSV file is written."""
    return look.detect_csv(file, readers.our_names())


def read_as(
    file: BinaryIO, file_format: FileFormat, record_type: RecordType, csv: CsvOptions | None = None
) -> Iterator[Row]:
    """The rows of the file."""
    shape = None
    if file_format is FileFormat.CSV:
        shape = Shape(file_format=file_format, csv=csv or detect_csv(file))
    elif file_format is not FileFormat.XLSX:
        return readers.read(file, record_type, Look(shape=Shape(file_format=file_format)))
    return readers.read(file, record_type, readers.look(file, shape))
