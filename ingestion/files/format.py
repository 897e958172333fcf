"""What a format is: how a file of it is recognised, looked at, read and written.

A format is one module with one class, and one entry in `ingestion.files.registry`. It knows rows
of text and nothing of records: what a cell means is decided after it, for all formats at once
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
# Zip, gzip, PDF, and what Excel wrote before 2007.
_NOT_TEXT = (b"PK\x03\x04", b"\x1f\x8b", b"%PDF", b"\xd0\xcf\x11\xe0")


class Head:
    """The beginning of a file, by which its format is recognised.

    `content` are its first bytes. `text` is what they say without the space around it, empty if
    they are no text, or the text of a web page or of another kind of XML.
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
        """Whether a byte 0 shows that it is no text: no usual encoding but UTF-16 has one."""
        return b"\0" in self.content[:4096] and not self.content.startswith(UTF_16_MARKS)

    def lines(self) -> Iterator[bytes]:
        """The first lines that are not blank; of one too long for a record, nothing but that."""
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

    `choices` are its possible values, each with its words for people. `question` is what the page
    asks if the file does not say it for certain.
    """

    name: str
    label: str
    choices: Mapping[str, str]
    question: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column of a file to be written.

    `words` are the only values that it may have; empty if any text may stand in it. `is_required`
    says that no cell may be empty. `width` is in characters, None for the usual one.
    """

    name: str
    words: Sequence[str] = ()
    is_required: bool = False
    width: int | None = None


class Writer(Protocol):
    """A file that is being written."""

    def add(self, row: Any, *, is_unread: bool = False) -> None:
        """Write a row: the cells of a table, as text, or a record of JSON.

        `is_unread` says that the row could not be read in the original: an error of Excel in it
        stays one. Raises `RecursionError` if a record is nested too deeply; then nothing of it is
        written.
        """

    def finish(self) -> None:
        """Complete the file, which stays open."""


class Format(Protocol):
    """A format of files of records.

    `name` is the ending of its files, and how it is kept; `title` is what people call it. A table
    (`is_table`) has columns, named by a header row; else each row is a record of JSON.
    `has_lines` says that people find a row by its line in the file; else by its number.
    `is_text` says that a file is text in some encoding.
    """

    name: str
    title: str
    media_type: str
    is_table: bool
    has_lines: bool
    is_text: bool
    options: Sequence[Option]

    def recognises(self, head: Head) -> bool:
        """Whether a file that begins so is of this format.

        Raises `UnreadableFileError` if it is a relative of it that is not read.
        """

    def look(
        self, file: BinaryIO, names: Set[str], shape: Shape | None, most_unpacked_bytes: int
    ) -> Look:
        """A first look at the file, which is read as `shape` says if that is known already.

        `names` are all names that a column of ours may have. Raises `PayloadError`.
        """

    def rows(self, file: BinaryIO, shape: Shape, most_unpacked_bytes: int) -> Iterator[RawRow]:
        """Every row, the blank ones too, in order; a table's header row first. Raises
        `PayloadError`."""

    def words(self, shape: Shape) -> list[str]:
        """What the options of the shape are, in a few words."""

    def writer(self, file: BinaryIO, shape: Shape, columns: Sequence[Column]) -> Writer:
        """Begin a file of the format, laid out as `shape` says; a table has these columns."""
