"""A first look at a file: what it is, by its content, how its rows lie, and the first of them."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Set
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from ingestion.files import csv_rows, error_columns, raw_rows
from ingestion.files.raw_rows import BAD_BYTES, MARK, Problem, RawRow, text_of
from ingestion.files.shape import (
    LONGEST_NAME,
    LONGEST_RECORD,
    TOO_MANY_COLUMNS,
    CsvOptions,
    Encoding,
    FileFormat,
    Shape,
    UnreadableFileError,
    field_name,
)
from ingestion.outcomes import Code, PayloadError

if TYPE_CHECKING:
    from ingestion.files.workbook import Book

HEAD_RECORDS = 20
# So many rows are looked at, and so much text; what comes below is held to what they show.
_HEAD_ROWS = 5000
_HEAD_CHARACTERS = 2**22

_CHUNK = 2**16
_UTF_16MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_ZIP = b"PK\x03\x04"
# gzip, PDF.
_NOT_TEXT = (b"\x1f\x8b", b"%PDF")
_OLD_EXCEL = b"\xd0\xcf\x11\xe0"


class Sheet(msgspec.Struct, frozen=True):
    """A sheet of a workbook: the line of its header row, and the names in it."""

    name: str
    header_line: int
    header: list[str]


class Look(msgspec.Struct, frozen=True):
    """What a first look found.

    A table has its column names in `header` and its first rows, each as wide, in `rows`; names are
    cut to `LONGEST_NAME`. JSON has its first records in `records`. `sheets` are a workbook's.
    """

    shape: Shape
    sheets: list[Sheet] = []
    header: list[str] = []
    rows: list[list[str]] = []
    records: list[bytes] = []


def look(
    file: BinaryIO, names: Set[str], *, most_unpacked_bytes: int, shape: Shape | None = None
) -> Look:
    """Look at the head of the file, which is read as `shape` says if that is known already.

    `names` are all names that a column of ours may have: where most of them stand is the header
    row. Raises `PayloadError`.
    """
    file_format = shape.file_format if shape else detect(file)
    if file_format is FileFormat.XLSX:
        from ingestion.files.workbook import opened

        with opened(file, most_unpacked_bytes) as book:
            return _look_at_book(book, names, shape)
    if file_format is FileFormat.CSV:
        shape = shape or Shape(file_format=file_format, csv=detect_csv(file, names))
    shape = shape or Shape(file_format=file_format)
    rows = raw_rows.rows(file, shape, most_unpacked_bytes=most_unpacked_bytes)
    if file_format.is_table:
        return _look_at_table(rows, shape)
    records = [one.json for one in islice(rows, HEAD_RECORDS) if one.json is not None]
    return Look(shape=shape, records=records)


def detect(file: BinaryIO) -> FileFormat:
    """The file's format by its content; its name is never asked.

    Raises `PayloadError` if the file is empty or clearly something else.
    """
    file.seek(0)
    head = file.read(LONGEST_RECORD)
    if head.startswith(_ZIP):
        return FileFormat.XLSX
    if head.startswith(_OLD_EXCEL):
        raise UnreadableFileError(
            "This is an old Excel file (.xls), or one with a password. Save it as .xlsx without a "
            "password, or as CSV, and upload that."
        )
    encoding = Encoding.UTF_16 if head.startswith(_UTF_16MARKS) else Encoding.UTF_8
    text = head.decode(encoding, errors="replace").strip()
    if not text:
        raise PayloadError(Code.EMPTY_FILE)
    if head.startswith(_NOT_TEXT) or text.startswith("<"):  # a web page, a spreadsheet as XML
        raise UnreadableFileError(
            "This is no table and no JSON. Save the records as .xlsx or CSV and upload that."
        )
    if text.startswith("["):
        return FileFormat.JSON
    # Not the first line alone: that very one may be broken, or too long. And one record alone is
    # JSON, on one line or on many: the lines of such a record do not stand for themselves.
    lines = list(_first_lines(file))
    if len(lines) > 1 and any(map(_is_record, lines)):
        return FileFormat.NDJSON
    return FileFormat.JSON if text.startswith("{") else FileFormat.CSV


def detect_csv(file: BinaryIO, names: Set[str]) -> CsvOptions:
    """How a CSV file is written: its encoding by all of it, the rest by its head."""
    encoding = _encoding(file)
    with text_of(file, encoding, errors=MARK) as text:
        delimiter, header_line = csv_rows.find_header(text.read(LONGEST_RECORD), names)
    return CsvOptions(encoding=encoding, delimiter=delimiter, header_line=header_line)


def _look_at_book(book: Book, names: Set[str], shape: Shape | None) -> Look:
    """The sheet that names most of ours comes first."""
    from ingestion.files.xlsx_rows import sheet_rows

    heads: dict[str, tuple[int, int, list[str]]] = {}  # sheets may share a part
    found: list[tuple[int, Sheet]] = []
    for name, part in book.sheets.items():
        if part not in heads:
            heads[part] = _find_header(sheet_rows(book, name, 1), names)
        named, line, header = heads[part]
        found.append((named, Sheet(name=name, header_line=line, header=_cut(header))))
    sheets = [sheet for _, sheet in sorted(found, key=lambda one: -one[0])]
    if shape is None:
        best = sheets[0]
        shape = Shape(file_format=FileFormat.XLSX, sheet=best.name, header_line=best.header_line)
    rows = sheet_rows(book, shape.sheet, shape.header_line)
    return msgspec.structs.replace(_look_at_table(rows, shape), sheets=sheets)


def _look_at_table(rows: Iterator[RawRow], shape: Shape) -> Look:
    header = next(rows, RawRow(0))
    if header.problem is Problem.TOO_WIDE:
        raise UnreadableFileError(TOO_MANY_COLUMNS)
    width = len(header.cells)
    head = []
    characters = 0
    for row in islice(rows, _HEAD_ROWS):
        cells = row.cells[:width]
        characters += sum(map(len, cells)) + width
        if characters > _HEAD_CHARACTERS:
            break
        if any(map(str.strip, cells)):
            head.append(cells + [""] * (width - len(cells)))
    return Look(shape=shape, header=_cut(header.cells), rows=head)


def _cut(names: list[str]) -> list[str]:
    return [name[:LONGEST_NAME] for name in names]


def _find_header(rows: Iterator[RawRow], names: Set[str]) -> tuple[int, int, list[str]]:
    """How many of `names` a sheet's header row has, its line, and its cells."""
    best: tuple[int, int, list[str]] | None = None
    for row in islice(rows, HEAD_RECORDS):
        named = len(names & set(map(field_name, row.cells)))
        if best is None and error_columns.added(row.cells):  # an error file's first row
            return named, row.line, row.cells
        if row.cells and (best is None or named > best[0]):
            best = named, row.line, row.cells
    return best or (0, 1, [])


def _encoding(file: BinaryIO) -> Encoding:
    """By the byte order mark; without one, UTF-8 unless most of it is none.

    One broken row must not make the whole of a UTF-8 file Windows text. And letters in the
    latter hardly ever look like UTF-8, so of the two readings one is clearly the better.
    """
    file.seek(0)
    mark = file.read(len(codecs.BOM_UTF8))
    if mark.startswith(_UTF_16MARKS):
        return Encoding.UTF_16
    if mark == codecs.BOM_UTF8:
        return Encoding.UTF_8
    good = bad = 0
    with text_of(file, Encoding.UTF_8, errors=MARK) as text:
        for chunk in iter(partial(text.read, _CHUNK), ""):
            if not chunk.isascii():
                marks = chunk.count(BAD_BYTES)
                bad += marks
                good += len(chunk) - len(chunk.encode("ascii", "ignore")) - marks
    return Encoding.UTF_8 if good >= bad else Encoding.CP1252


def _first_lines(file: BinaryIO) -> Iterator[bytes]:
    """The first lines that are not blank; one that is too long for a record gives nothing of it."""
    file.seek(0)
    for _ in range(HEAD_RECORDS):
        line = file.readline(LONGEST_RECORD + 1)
        if not line:
            return
        if len(line) > LONGEST_RECORD:
            while line and not line.endswith(b"\n"):
                line = file.readline(LONGEST_RECORD)
            yield b""
        elif line.strip():
            yield line.removeprefix(codecs.BOM_UTF8)


def _is_record(line: bytes) -> bool:
    try:
        return line.startswith(b"{") and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
