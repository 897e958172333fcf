"""How a file becomes rows: CSV, JSON and NDJSON, streamed, with a bounded part of it in memory.

A file is a binary file that can seek; it is read from its beginning and left open. A record that
can not be read is a row with a problem and spoils no other. Where nothing more can be read at all
(JSON that breaks off, no column that we know) a `PayloadError` ends the rows.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from itertools import islice
from typing import Any, BinaryIO, TextIO

from ingestion import csv_rows, decoding, json_rows
from ingestion.csv_rows import CsvOptions, Encoding
from ingestion.decoding import Row
from ingestion.outcomes import Code, FieldCode, FieldError, PayloadError
from ingestion.records import RECORD_TYPES, RecordType

# The longest record that is read, in bytes or characters: more than three times what a valid one
# can have with all its characters written as \u escapes.
LONGEST_RECORD = 2**18

_CHUNK = 2**16
_HEAD_RECORDS = 20
_UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# ZIP (and with it XLSX), old Excel, gzip, PDF.
_NOT_TEXT = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"\x1f\x8b", b"%PDF")


class FileFormat(StrEnum):
    """The formats that are read."""

    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"


def detect(file: BinaryIO) -> FileFormat:
    """The file's format by its content; its name is never asked.

    Raises `PayloadError` where the file is empty or clearly something else.
    """
    file.seek(0)
    head = file.read(LONGEST_RECORD)
    encoding = Encoding.UTF_16 if head.startswith(_UTF_16_MARKS) else Encoding.UTF_8
    text = head.decode(encoding, errors="replace").strip()
    if not text:
        raise PayloadError(Code.EMPTY_FILE)
    if head.startswith(_NOT_TEXT) or text.startswith("<"):  # a web page, a spreadsheet as XML
        raise PayloadError(Code.UNKNOWN_FILE_FORMAT)
    if text.startswith("["):
        return FileFormat.JSON
    # Not the first line alone: that very one may be broken. And one record alone is JSON, on one
    # line or on many: the lines of such a record do not stand for themselves.
    lines = [line for line in text.split("\n", _HEAD_RECORDS) if line.strip()]
    if len(lines) > 1 and any(map(_is_record, lines)):
        return FileFormat.NDJSON
    return FileFormat.JSON if text.startswith("{") else FileFormat.CSV


def detect_csv(file: BinaryIO) -> CsvOptions:
    """How a CSV file is written: its encoding by all of it, the rest by its head."""
    encoding = _encoding(file)
    with _text(file, encoding, errors=_MARK) as text:
        delimiter, header_line = csv_rows.find_header(text.read(_CHUNK))
    return CsvOptions(encoding=encoding, delimiter=delimiter, header_line=header_line)


def guess_record_type(
    file: BinaryIO, file_format: FileFormat, csv_options: CsvOptions | None = None
) -> RecordType | None:
    """The only record type whose required fields are all in the first records; None if unsure.

    Raises `PayloadError` as `read` does.
    """
    if file_format is FileFormat.CSV:
        options = csv_options or detect_csv(file)
        with _text(file, options.encoding, errors=_MARK) as text:
            names = set(csv_rows.column_names(text, options, longest_row=LONGEST_RECORD))
    else:
        rows = _json(file) if file_format is FileFormat.JSON else _ndjson(file)
        values = [row.value for row in islice(rows, _HEAD_RECORDS)]
        names = {name for value in values if isinstance(value, dict) for name in value}
    fitting = [kind for kind in RECORD_TYPES.values() if _required(kind) <= names]
    return fitting[0] if len(fitting) == 1 else None


def read(
    file: BinaryIO,
    file_format: FileFormat,
    record_type: RecordType,
    csv_options: CsvOptions | None = None,
) -> Iterator[Row]:
    """The rows of a file, in order; blank ones are passed over.

    The columns of CSV are matched to fields by name, in any case, with spaces or dashes for
    underscores; other columns are dropped, and of two columns of one name the last filled one
    counts. An empty cell is an absent field; other cells are stripped and converted
    (`ingestion.cells`). `csv_options` default to what `detect_csv` finds. Raises `PayloadError`.
    """
    if file_format is FileFormat.JSON:
        return _json(file)
    if file_format is FileFormat.NDJSON:
        return _ndjson(file)
    return _csv(file, record_type, csv_options or detect_csv(file))


def _json(file: BinaryIO) -> Iterator[Row]:
    with _text(file, "utf-8") as text:
        yield from json_rows.rows(text, longest_record=LONGEST_RECORD)


def _csv(file: BinaryIO, record_type: RecordType, options: CsvOptions) -> Iterator[Row]:
    with _text(file, options.encoding, errors=_MARK) as text:
        yield from csv_rows.rows(text, record_type, options, longest_row=LONGEST_RECORD)


def _ndjson(file: BinaryIO) -> Iterator[Row]:
    file.seek(0)
    line = 0
    while content := file.readline(LONGEST_RECORD + 1):
        line += 1
        if len(content) > LONGEST_RECORD:
            while content and not content.endswith(b"\n"):
                content = file.readline(LONGEST_RECORD)
            yield Row(line=line, problem=_TOO_LONG)
        elif content.strip(b" \t\r\n"):
            yield decoding.decode_line(content, line)


@contextmanager
def _text(file: BinaryIO, encoding: str, errors: str = "strict") -> Iterator[TextIO]:
    """`file` from its beginning as text with its own line ends; `file` itself stays open."""
    file.seek(0)
    text = io.TextIOWrapper(file, encoding, errors, newline="")
    try:
        yield text
    except UnicodeDecodeError:
        raise PayloadError(Code.MALFORMED_ENCODING) from None
    finally:
        if not file.closed:  # rows may be left before their end, and end after their file
            text.detach()


def _encoding(file: BinaryIO) -> Encoding:
    """By the byte order mark; without one, UTF-8 unless most of it is none.

    One broken row must not make the whole of a UTF-8 file Windows text. And letters in the
    latter hardly ever look like UTF-8, so of the two readings one is clearly the better.
    """
    file.seek(0)
    mark = file.read(len(codecs.BOM_UTF8))
    if mark.startswith(_UTF_16_MARKS):
        return Encoding.UTF_16
    if mark == codecs.BOM_UTF8:
        return Encoding.UTF_8
    good = bad = 0
    with _text(file, Encoding.UTF_8, errors=_MARK) as text:
        for chunk in iter(partial(text.read, _CHUNK), ""):
            if not chunk.isascii():
                marks = chunk.count(csv_rows.BAD_BYTES)
                bad += marks
                good += len(chunk) - len(chunk.encode("ascii", "ignore")) - marks
    return Encoding.UTF_8 if good >= bad else Encoding.CP1252


def _mark_bad_bytes(fault: Any) -> tuple[str, int]:
    return csv_rows.BAD_BYTES, fault.end


_MARK = "ingestion.mark_bad_bytes"
# Python's own handler of this kind, surrogateescape, can not mark what is wrong in UTF-16.
codecs.register_error(_MARK, _mark_bad_bytes)


def _is_record(line: str) -> bool:
    try:
        return line.startswith("{") and isinstance(decoding.decode(line.encode()), dict)
    except PayloadError:
        return False


def _required(kind: RecordType) -> set[str]:
    fields = kind.serializer_class().fields
    return {name for name, field in fields.items() if field.required}


_TOO_LONG = FieldError(
    field=None,
    code=FieldCode.MALFORMED_LINE,
    message="This line is far longer than a valid record can be.",
)
