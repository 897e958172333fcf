"""What a format is: how its files are recognised, inspected, read and written.

A format is one module with one class, and one entry in `ingestion.files.registry`. It knows rows
of text and no records: what a cell means is decided later, in the same way for all formats
(`ingestion.file_rows`).
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from ingestion.files.look import HEAD_RECORDS, Look
from ingestion.files.raw_rows import RawRow
from ingestion.files.shape import LONGEST_RECORD, Shape

UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Zip, gzip, PDF, and the format of Excel before 2007.
_NOT_TEXT = (b"PK\x03\x04", b"\x1f\x8b", b"%PDF", b"\xd0\xcf\x11\xe0")


class Head:
    """The beginning of a file, by which its format is recognised.

    `content` holds its first bytes. `text` is their text without the space around it. It is empty
    if they are not text, or if they begin a web page or another type of XML.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        file.seek(0)
        self.content = file.read(LONGEST_RECORD)
        encoding = "utf-16" if self.content.startswith(UTF_16_MARKS) else "utf-8-sig"
        text = self.content.decode(encoding, errors="replace").strip()
        self.is_blank = not text
        other = self.content.startswith(_NOT_TEXT) or text.startswith("<")
        self.text = "" if other else text

    @property
    def has_nul(self) -> bool:
        """Whether a byte 0 shows that it is not text; among usual encodings only UTF-16 has one."""
        return b"\0" in self.content[:4096] and not self.content.startswith(UTF_16_MARKS)

    def lines(self) -> Iterator[bytes]:
        """The first lines that are not blank; one that is too long for a record becomes empty."""
        self._file.seek(0)
        for _ in range(HEAD_RECORDS):
            line = self._file.readline(LONGEST_RECORD + 1)
            if not line:
                return
            if len(line) > LONGEST_RECORD:
                while line and not line.endswith(b"\n"):
                    line = self._file.readline(LONGEST_RECORD)
                yield b""
            elif line.strip():
                yield line.removeprefix(codecs.BOM_UTF8)


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """Something that a format leaves open, as the check page asks for it.

    `choices` maps each possible value to its words for people. The page asks the `question` if the
    file does not say it for certain.
    """

    name: str
    label: str
    choices: Mapping[str, str]
    question: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column of a file to be written.

    `words` are the only allowed values; empty if any text is allowed. `is_required` means that no
    cell may be empty. `width` is in characters, None for the usual width.
    """

    name: str
    words: Sequence[str] = ()
    is_required: bool = False
    width: int | None = None


class Writer(Protocol):
    """A file that is being written."""

    def add(self, row: Any, *, is_unread: bool = False) -> None:
        """Write a row: the cells of a table, as text, or a record of JSON.

        `is_unread` means that the row could not be read in the original: an Excel error in it stays
        an error. Raises `RecursionError` if a record is nested too deeply; then no part of it is
        written.
        """

    def finish(self) -> None:
        """Complete the file; it stays open."""


class Format(Protocol):
    """A format of files of records.

    `name` is the extension of its files and the stored name; `title` is the name for people. A
    table (`is_table`) has columns, named by a header row; otherwise each row is a record of JSON.
    `has_lines` means that people find a row by its line in the file; otherwise by its number.
    `is_text` means that a file is text in some encoding.
    """

    name: str
    title: str
    media_type: str
    is_table: bool
    has_lines: bool
    is_text: bool
    options: Sequence[Option]

    def recognises(self, head: Head) -> bool:
        """Whether a file with this beginning has this format.

        Raises `UnreadableFileError` if it has a similar format that is not supported.
        """

    def look(
        self, file: BinaryIO, names: Set[str], shape: Shape | None, most_unpacked_bytes: int
    ) -> Look:
        """A first look at the file; it is read as `shape` says if that is known already.

        `names` are all names that a column of ours may have. Raises `PayloadError`.
        """

    def rows(self, file: BinaryIO, shape: Shape, most_unpacked_bytes: int) -> Iterator[RawRow]:
        """Every row in order, with the blank ones; a table's header row comes first. Raises
        `PayloadError`."""

    def words(self, shape: Shape) -> list[str]:
        """The options of the shape in a few words."""

    def writer(self, file: BinaryIO, shape: Shape, columns: Sequence[Column]) -> Writer:
        """Begin a file of the format with this shape; a table has these columns."""
