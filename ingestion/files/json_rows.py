"""JSON text, an array of records or one record, as a stream of the texts of its records.

As strict as `ingestion.decoding`: Python's own parser, NaN and Infinity refused, of keys that come
twice the last one counts. A streaming parser (ijson) was tried and left: it turns half a surrogate
pair into a question mark, and large numbers into errors or decimals.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NoReturn, TextIO

from ingestion.outcomes import Code, PayloadError

# So far a value is looked at in search of its end.
_LONGEST_VALUE = 2**24
_CHUNK = 2**16


def texts(text: TextIO, *, longest_record: int) -> Iterator[str | None]:
    """The records of the array, or the one record; None for one of more than `longest_record`
    characters.

    Raises `PayloadError` if the JSON breaks off, maybe after the first records.
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
    """JSON text of which only the value at hand is in memory."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._buffer = ""
        self._at = 0
        self._ended = False

    def next_character(self) -> str:
        """The next character that is no white space, still to be taken; empty at the end."""
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
                _, end = _decoder.raw_decode(self._buffer, self._at)
            except RecursionError:
                raise PayloadError(Code.TOO_DEEP) from None
            except ValueError:  # no JSON, or its end is still to be read
                end = 0
            # What looks like a whole number may go on in the file: something must follow it.
            if end and (self._ended or _followed.match(self._buffer, end)):
                break
            if self._ended or len(self._buffer) - self._at > _LONGEST_VALUE:
                raise PayloadError(Code.MALFORMED_JSON)
            self._read_on()
        start, self._at = self._at, end
        return self._buffer[start:end] if end - start <= longest_record else None

    def _read_on(self) -> None:
        # Doubles what is not taken yet, so that a long value is parsed a few times only.
        rest = self._buffer[self._at :]
        more = self._text.read(max(_CHUNK, len(rest)))
        self._buffer, self._at, self._ended = rest + more, 0, not more


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse_constant)
_SPACE = (" ", "\t", "\r", "\n")
_followed = re.compile(r"[ \t\r\n]*[,\]]")
