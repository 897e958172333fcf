"""JSON: an array of records, or one record.

It is as strict as `ingestion.decoding`: Python's own parser, NaN and Infinity refused. If a key
comes twice, the last one counts. The streaming parser ijson was tried and not used: it turns half a
surrogate pair into a question mark, and large numbers into errors or decimals.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, BinaryIO, TextIO

from ingestion.files.format import Column, Head, Option
from ingestion.files.look import Look, look_at_records
from ingestion.files.raw_rows import Problem, RawRow, json_row, text_of
from ingestion.files.shape import LONGEST_RECORD, Shape
from ingestion.outcomes import Code, PayloadError
from ingestion.strict_json import decoder

# The end of a value is searched up to this length.
_LONGEST_VALUE = 2**24
_CHUNK = 2**16
_STRING_OR_INFINITY = re.compile(r'"(?:[^"\\]|\\.)*"|Infinity')


class Json:
    """The format."""

    name = "json"
    title = "JSON"
    media_type = "application/json"
    is_table = False
    has_lines = False
    is_text = True
    options: Sequence[Option] = ()

    def recognises(self, head: Head) -> bool:
        """An array, or a single record on one line or more."""
        return head.text.startswith(("[", "{"))

    def look(
        self, file: BinaryIO, names: Set[str], shape: Shape | None, most_unpacked_bytes: int
    ) -> Look:
        """The first records."""
        shape = shape or Shape(file_format=self.name)
        return look_at_records(self.rows(file, shape, most_unpacked_bytes), shape)

    def rows(self, file: BinaryIO, shape: Shape, most_unpacked_bytes: int) -> Iterator[RawRow]:
        """The records, each with its number from 1."""
        with text_of(file, "utf-8-sig") as text:
            for number, record in enumerate(_texts(text, longest_record=LONGEST_RECORD), start=1):
                if record is None:
                    yield RawRow(number, problem=Problem.TOO_LONG)
                else:
                    yield json_row(number, record.encode())

    def words(self, shape: Shape) -> list[str]:
        """JSON has no options."""
        return []

    def writer(self, file: BinaryIO, shape: Shape, columns: Sequence[Column]) -> JsonWriter:
        """An array, with each record on a line of its own."""
        return JsonWriter(file, b"[", b",\n", b"]\n")


class JsonWriter:
    """Writes records, with text before, between and after them."""

    def __init__(self, file: BinaryIO, before: bytes, between: bytes, behind: bytes) -> None:
        self._file = file
        self._next = before
        self._between = between
        self._behind = behind

    def add(self, row: Any, *, is_unread: bool = False) -> None:
        """Write a record."""
        self._file.write(self._next + _json(row))
        self._next = self._between

    def finish(self) -> None:
        """Complete the file."""
        self._file.write(self._behind)


def _json(record: Mapping[str, Any]) -> bytes:
    """The record in JSON. JSON has no infinity: one that we read was a number that is too large."""
    try:
        return _without_infinity(json.dumps(record, ensure_ascii=False)).encode()
    except UnicodeEncodeError:  # half a surrogate pair can be written only as an escape
        return _without_infinity(json.dumps(record)).encode()


def _without_infinity(text: str) -> str:
    if "Infinity" not in text:
        return text
    return _STRING_OR_INFINITY.sub(
        lambda found: "1e999" if found[0] == "Infinity" else found[0], text
    )


def _texts(text: TextIO, *, longest_record: int) -> Iterator[str | None]:
    """The records of the array, or the one record; None for a record with more than
    `longest_record` characters.

    Raises `PayloadError` if the JSON is incomplete, maybe after the first records.
    """
    source = _Source(text)
    opening = source.next_character()
    if opening == "\ufeff":
        raise PayloadError(Code.MALFORMED_ENCODING)
    if opening == "{":
        yield source.take_value(longest_record)
    elif opening == "[":
        yield from source.take_items(longest_record)
    else:
        raise PayloadError(Code.NOT_AN_ARRAY)
    if source.next_character():
        raise PayloadError(Code.MALFORMED_JSON)


class _Source:
    """JSON text; only the current value is in memory."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._buffer = ""
        self._at = 0
        self._ended = False

    def next_character(self) -> str:
        """The next character that is no white space, without taking it; empty at the end."""
        while True:
            while self._buffer[self._at : self._at + 1] in _SPACE:
                self._at += 1
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if self._ended:
                return ""
            self._read_on()

    def take_items(self, longest_record: int) -> Iterator[str | None]:
        """The texts of the values of the array that begins here."""
        self._at += 1
        if self.next_character() == "]":
            self._at += 1
            return
        separator = ","
        while separator == ",":
            self.next_character()
            yield self.take_value(longest_record)
            separator = self.next_character()
            self._at += 1
        if separator != "]":
            raise PayloadError(Code.MALFORMED_JSON)

    def take_value(self, longest_record: int) -> str | None:
        """The text of the value that begins here."""
        while True:
            try:
                _, end = decoder.raw_decode(self._buffer, self._at)
            except RecursionError:
                raise PayloadError(Code.TOO_DEEP) from None
            except ValueError:  # not JSON, or its end is not read yet
                end = 0
            # Something must follow a whole number: the file may continue it.
            if end and (self._ended or _followed.match(self._buffer, end)):
                break
            if self._ended or len(self._buffer) - self._at > _LONGEST_VALUE:
                raise PayloadError(Code.MALFORMED_JSON)
            self._read_on()
        start, self._at = self._at, end
        return self._buffer[start:end] if end - start <= longest_record else None

    def _read_on(self) -> None:
        # Doubles the text that is not taken yet, so that a long value is parsed only a few times.
        rest = self._buffer[self._at :]
        more = self._text.read(max(_CHUNK, len(rest)))
        self._buffer, self._at, self._ended = rest + more, 0, not more


_SPACE = (" ", "\t", "\r", "\n")
_followed = re.compile(r"[ \t\r\n]*[,\]]")
