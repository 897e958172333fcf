"""The content of an XLSX workbook: its sheets, its shared texts, and what its numbers mean.

Everything is limited before it is read: the unpacked size that the archive states (zipfile reads
no byte more than that), its entries, its sheets, the parts that describe it, its shared texts. A
document type declaration is refused: entities need one, and workbooks never have one. openpyxl
knows number formats and dates.
"""

from __future__ import annotations

import errno
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, time
from decimal import Decimal
from posixpath import dirname, join, normpath
from typing import IO, Any, BinaryIO
from xml.parsers import expat

from openpyxl.styles.numbers import BUILTIN_FORMATS, is_date_format, is_timedelta_format
from openpyxl.utils.datetime import MAC_EPOCH, WINDOWS_EPOCH, from_excel

from ingestion.files.shape import LONGEST_NAME, MOST_SHEETS, UnreadableFileError

_MOST_ENTRIES = 5000
_MOST_TEXTS_BYTES = 100 * 2**20
_MOST_TEXTS = 5_000_000
# The unpacked size of a part that describes the workbook: hundreds of times what Excel writes.
_MOST_DESCRIPTION_BYTES = 16 * 2**20
# Tables of records shrink to a fifth or a twentieth; only zip bombs shrink more than this.
_MOST_RATIO = 250
_CHUNK = 2**16

# Number formats that Excel knows without a code: dates and times of Chinese, Japanese and Korean
# (27 to 36, 50 to 58) and of Thai (ECMA-376, 18.8.30).
_DATES_OF_ASIA = (*range(27, 37), *range(50, 59), *range(71, 79), 80, 81)

# Excel keeps fifteen digits of a number.
_EXACT_BELOW = 1e15
_NO_MEMORY = expat.errors.XML_ERROR_NO_MEMORY

_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
_ZEROS = re.compile(r"0{2,}")

Handlers = dict[str, Callable[[dict[str, str]], None]]


@dataclass(kw_only=True, slots=True)
class Book:
    """An open workbook: the parts of its sheets by name, and how numbers become text."""

    archive: zipfile.ZipFile
    sheets: dict[str, str] = field(default_factory=dict)
    formats: list[Callable[[str], str]] = field(default_factory=list)
    texts_part: str | None = None
    _texts: list[str] | None = None

    @property
    def texts(self) -> list[str]:
        """The texts that cells share; they are read once for the whole workbook."""
        if self._texts is None:
            self._texts = _texts(self.archive, self.texts_part) if self.texts_part else []
        return self._texts


@contextmanager
def opened(file: BinaryIO, most_unpacked_bytes: int) -> Iterator[Book]:
    """The workbook, within its limits; errors inside it become `UnreadableFileError`."""
    try:
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            _check_bounds(archive, most_unpacked_bytes)
            yield _open(archive)
    except (
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        expat.ExpatError,
        zlib.error,
        NotImplementedError,  # a compression that zipfile does not know
        RuntimeError,  # an entry with a password
        EOFError,
        LookupError,
        ValueError,
        OverflowError,
        OSError,  # a place before the beginning of the file
        struct.error,
    ) as fault:
        if isinstance(fault, OSError) and fault.errno != errno.EINVAL:
            raise
        if isinstance(fault, expat.ExpatError) and fault.code == expat.errors.codes[_NO_MEMORY]:
            raise MemoryError from fault
        raise UnreadableFileError(
            "The workbook is damaged or protected. Open it in Excel, save it as a new .xlsx file "
            "without a password, and upload that."
        ) from fault


def _check_bounds(archive: zipfile.ZipFile, most_unpacked_bytes: int) -> None:
    entries = archive.infolist()
    unpacked = sum(entry.file_size for entry in entries)
    packed = sum(entry.compress_size for entry in entries)
    if (
        len(entries) > _MOST_ENTRIES
        or unpacked > most_unpacked_bytes
        or unpacked > _MOST_RATIO * max(packed, _CHUNK)
    ):
        raise UnreadableFileError(
            "The workbook is too large after unpacking. Save the sheet as CSV and upload that."
        )


def _open(archive: zipfile.ZipFile) -> Book:
    names = set(archive.namelist())
    if "mimetype" in names:
        raise UnreadableFileError(
            "This is an OpenDocument file. Save it as .xlsx (Excel workbook) or CSV and upload "
            "that."
        )
    main = next(
        (target for kind, target in _relations(archive, "").values() if kind == "officeDocument"),
        None,
    )
    if main is None or main not in names or main.endswith(".bin"):
        raise UnreadableFileError(
            "This is not an Excel workbook that the portal can read. Save it as .xlsx or CSV and "
            "upload that."
        )
    relations = _relations(archive, main)
    book = Book(archive=archive)
    hidden: dict[str, str] = {}
    epoch = WINDOWS_EPOCH

    def properties(attributes: dict[str, str]) -> None:
        nonlocal epoch
        if attributes.get("date1904") in ("1", "true"):
            epoch = MAC_EPOCH

    def sheet(attributes: dict[str, str]) -> None:
        kind, target = relations.get(attributes.get("id", ""), ("", ""))
        name = attributes.get("name", "")
        if len(name) > LONGEST_NAME:
            raise UnreadableFileError(
                f"A sheet's name is longer than {LONGEST_NAME} characters. Rename it in Excel."
            )
        if kind == "worksheet" and target in names:
            visible = attributes.get("state", "visible") == "visible"
            (book.sheets if visible else hidden)[name] = target
        if len(book.sheets) + len(hidden) > MOST_SHEETS:
            raise UnreadableFileError(
                f"The workbook has more than {MOST_SHEETS} sheets. Save the sheet with the records "
                "as a workbook of its own, or as CSV, and upload that."
            )

    _parse(archive, main, {"workbookPr": properties, "sheet": sheet})
    book.sheets = book.sheets or hidden
    if not book.sheets:
        raise UnreadableFileError("The workbook has no sheet with cells.")
    parts = {kind: target for kind, target in relations.values() if target in names}
    book.formats = _formats(archive, parts.get("styles"), epoch)
    book.texts_part = parts.get("sharedStrings")
    return book


def _relations(archive: zipfile.ZipFile, part: str) -> dict[str, tuple[str, str]]:
    """For a part of the workbook: id → (type, name of the other part)."""
    folder, _, name = part.rpartition("/")
    relations = join(folder, "_rels", f"{name}.rels")
    found: dict[str, tuple[str, str]] = {}

    def relationship(attributes: dict[str, str]) -> None:
        target = attributes.get("Target", "")
        absolute = target.lstrip("/") if target.startswith("/") else join(dirname(part), target)
        kind = attributes.get("Type", "").rpartition("/")[2]
        found[attributes.get("Id", "")] = (kind, normpath(absolute))
        if len(found) > _MOST_ENTRIES:
            raise UnreadableFileError(
                "The workbook has too many parts. Save the sheet as CSV and upload that."
            )

    if relations in archive.namelist():
        _parse(archive, relations, {"Relationship": relationship})
    return found


def _formats(
    archive: zipfile.ZipFile, part: str | None, epoch: datetime
) -> list[Callable[[str], str]]:
    """How a number becomes text, for each style."""
    codes = {**dict.fromkeys(_DATES_OF_ASIA, "yyyy-mm-dd"), **BUILTIN_FORMATS}
    styles: list[int] = []
    in_cell_styles = False

    def number_format(attributes: dict[str, str]) -> None:
        codes[int(attributes["numFmtId"])] = attributes.get("formatCode", "")

    def cell_styles(_: dict[str, str]) -> None:
        nonlocal in_cell_styles
        in_cell_styles = True

    def other_styles(_: dict[str, str]) -> None:
        nonlocal in_cell_styles
        in_cell_styles = False

    def style(attributes: dict[str, str]) -> None:
        if in_cell_styles and len(styles) < 2**16:
            styles.append(int(attributes.get("numFmtId", 0)))

    if part is not None:
        handlers = {
            "numFmt": number_format,
            "cellStyleXfs": other_styles,
            "cellXfs": cell_styles,
            "cellStyles": other_styles,
            "xf": style,
        }
        _parse(archive, part, handlers)
    return [_format(codes.get(style, ""), epoch) for style in styles] or [number_text]


def _format(code: str, epoch: datetime) -> Callable[[str], str]:
    if _ZEROS.fullmatch(code):
        return lambda text: number_text(text).zfill(len(code))
    if is_date_format(code) and not is_timedelta_format(code):
        return lambda text: _date(text, epoch)
    return number_text


def number_text(text: str) -> str:
    """A number as Excel shows it in full: 123 and not 123.0, 0.92 and not 0.92000000000000004."""
    if text.isdecimal():
        return text
    number = float(f"{float(text):.15g}")  # the digits that Excel itself uses
    if number.is_integer() and abs(number) < _EXACT_BELOW:
        return str(int(number))
    return format(Decimal(repr(number)), "f") if number and abs(number) < _EXACT_BELOW else text


def loses_digits(text: str) -> bool:
    """Whether Excel replaced digits of a number that is too long by zeros or an exponent."""
    return not text.isdecimal() and abs(float(text)) >= _EXACT_BELOW


def _date(text: str, epoch: datetime) -> str:
    number = float(text)
    try:
        value = from_excel(number, epoch) if number >= 0 else None
    except (ValueError, OverflowError):
        value = None
    # Excel itself shows nothing for a date outside its calendar.
    return value.isoformat() if isinstance(value, datetime | time) else number_text(text)


def _texts(archive: zipfile.ZipFile, part: str) -> list[str]:
    if archive.getinfo(part).file_size > _MOST_TEXTS_BYTES:
        raise UnreadableFileError(
            "The workbook has too much text. Save the sheet as CSV and upload that."
        )
    texts: list[str] = []
    pieces: list[str] = []
    reader = _TextReader(pieces)

    def end(name: str) -> None:
        reader.end(name)
        if name == "si":
            texts.append(unescaped("".join(pieces)))
            pieces.clear()
            if len(texts) > _MOST_TEXTS:
                raise ValueError("too many shared texts")

    with archive.open(part) as source:
        for _ in feed(source, reader.start, end, reader.text):
            pass
    return texts


class _TextReader:
    """Collects the text in <t>, except where it says how a text is pronounced."""

    def __init__(self, pieces: list[str]) -> None:
        self._pieces = pieces
        self._taken = False
        self._spoken = False

    def start(self, name: str, _: dict[str, str]) -> None:
        if name == "rPh":
            self._spoken = True
        self._taken = name == "t" and not self._spoken

    def end(self, name: str) -> None:
        if name == "rPh":
            self._spoken = False
        self._taken = False

    def text(self, text: str) -> None:
        if self._taken:
            self._pieces.append(text)


def unescaped(text: str) -> str:
    """The text without Excel's escapes such as _x000D_, for characters that XML cannot hold."""
    return _ESCAPED.sub(lambda code: chr(int(code[1], 16)), text) if "_x" in text else text


def _parse(archive: zipfile.ZipFile, part: str, handlers: Handlers) -> None:
    """Call the handler of each element that has one with the element's attributes."""

    def start(name: str, attributes: dict[str, str]) -> None:
        if handler := handlers.get(name):
            handler({key.rpartition(":")[2]: value for key, value in attributes.items()})

    if archive.getinfo(part).file_size > _MOST_DESCRIPTION_BYTES:
        raise UnreadableFileError(
            "The workbook describes too many things. Save the sheet as CSV and upload that."
        )
    with archive.open(part) as source:
        for _ in feed(source, start):
            pass


def feed(
    source: IO[bytes],
    start: Callable[[str, dict[str, str]], None],
    end: Callable[[str], None] | None = None,
    text: Callable[[str], None] | None = None,
) -> Iterator[None]:
    """Parse an XML part in pieces; pauses after each piece, so that the caller can take results."""
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse_doctype
    local = _LocalNames()
    parser.StartElementHandler = lambda name, attributes: start(local[name], attributes)
    if end is not None:
        parser.EndElementHandler = lambda name: end(local[name])
    if text is not None:
        parser.CharacterDataHandler = text
    while chunk := source.read(_CHUNK):
        parser.Parse(chunk, False)
        yield
    parser.Parse(b"", True)
    yield


def _refuse_doctype(*_: Any) -> None:
    raise ValueError("a document type declaration in a workbook")


class _LocalNames(dict[str, str]):
    """Names without their prefix: each program chooses the prefix of a namespace itself."""

    def __missing__(self, name: str) -> str:
        local = name.rpartition(":")[2]
        if len(self) < 1000:
            self[name] = local
        return local
