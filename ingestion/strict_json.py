"""JSON text to values, as strict as RFC 8259: Python's parser without its extensions.

NaN, Infinity and a byte order mark are refused. If a key comes twice, the last one counts.

While Python's parser runs, all other threads wait. So it never gets more than one record at a time,
or more values than a record can have.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

from ingestion.outcomes import Code, PayloadError

MOST_VALUES = 20_000
"""No record has more signs before a value than this: the largest valid one has about fifty."""

_SPACE = " \t\r\n"
# The first piece of text in which the end of a value is searched.
_PIECE = 4096
# If a text is cut inside a word or a number, the parser reports an error this close to its end.
_LONGEST_WORD = 16
# No record is nested so deeply, and the parser gives up within it.
_DEEP = 2**16


def text_of(content: bytes) -> str:
    """The text of `content`. Raises `PayloadError` if it is not text, or is blank."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise PayloadError(Code.MALFORMED_ENCODING) from None
    if text.startswith("\ufeff"):
        raise PayloadError(Code.MALFORMED_ENCODING)
    if not text.strip(_SPACE):
        raise PayloadError(Code.EMPTY_BODY)
    return text


def value(text: str) -> Any:
    """The only value in a text, up to the size of a record. Raises `PayloadError`."""
    if _has_too_many(text):
        raise _too_many(text)
    try:
        return decoder.decode(text)
    except RecursionError:
        raise PayloadError(Code.TOO_DEEP) from None
    except json.JSONDecodeError as fault:
        raise _malformed(text, fault.pos) from None
    except ValueError:  # NaN, or a number of more digits than Python converts
        raise PayloadError(Code.MALFORMED_JSON) from None


def is_array(text: str) -> bool:
    """Whether an array begins here."""
    return text.lstrip(_SPACE).startswith("[")


def entries(text: str) -> Iterator[int]:
    """Where each entry of an array begins. Raises `PayloadError`, maybe after the first entries.

    If all entries were read without an error, the text is one array of JSON values.
    """
    at = _after_space(text, _after_space(text, 0) + 1)
    separator = text[at : at + 1]
    if separator != "]":
        separator = ","
        at -= 1
    while separator == ",":
        at = _after_space(text, at + 1)
        yield at
        at = _after_space(text, _end(text, at))
        separator = text[at : at + 1]
    if separator != "]":
        raise _malformed(text, at)
    behind = _after_space(text, at + 1)
    if behind < len(text):
        raise _malformed(text, behind)


def entry(text: str, at: int) -> Any:
    """The entry at a place that `entries` found."""
    try:
        return decoder.raw_decode(text, at)[0]
    except RecursionError:  # the stack may be deeper here than it was in `entries`
        raise PayloadError(Code.TOO_DEEP) from None


def signs(content: bytes | str, start: int = 0, end: int = sys.maxsize) -> int:
    """How many signs stand before a value; signs inside texts count too.

    An empty list takes two bytes to send and about fifty in memory, so a limit on bytes is not
    enough. Leaving out the signs inside texts would take longer than decoding everything.
    """
    if isinstance(content, str):
        return sum(content.count(sign, start, end) for sign in ",[{")
    return sum(content.count(sign, start, end) for sign in b",[{")


def _end(text: str, at: int) -> int:
    """The end of the value that begins at `at`.

    The parser cannot be stopped. So it gets a piece of the text, and a longer piece if the value
    may continue. Each piece has so few values that the parser is finished soon.
    """
    length = _PIECE
    while True:
        piece = text[at : at + length]
        is_last = at + length >= len(text)
        try:
            _, end = decoder.raw_decode(piece)
        except RecursionError:
            raise PayloadError(Code.TOO_DEEP) from None
        except json.JSONDecodeError as fault:
            cut = len(piece) - fault.pos < _LONGEST_WORD or fault.msg.startswith("Unterminated")
            if is_last or not cut:
                raise _malformed(text, at + fault.pos) from None
        except ValueError:
            raise PayloadError(Code.MALFORMED_JSON) from None
        else:
            # A number at the end of a piece may continue after it.
            if is_last or len(piece) - end >= _LONGEST_WORD:
                piece = piece[:end]
                break
        if _has_too_many(piece):
            break
        more = 3 * length
        while more > _PIECE and signs(text, at + length, at + length + more) > MOST_VALUES:
            more //= 2
        length += more
    if _has_too_many(piece):
        raise _too_many(piece)
    return at + len(piece)


def _after_space(text: str, at: int) -> int:
    while match := _space.match(text, at):
        at = match.end()
    return at


def _has_too_many(text: str) -> bool:
    return len(text) > MOST_VALUES and signs(text) > MOST_VALUES


def _too_many(text: str) -> PayloadError:
    at = _after_space(text, 0)
    try:
        _, end = decoder.raw_decode(text[at : at + _DEEP])
    except RecursionError:
        return PayloadError(Code.TOO_DEEP)
    except ValueError:
        return PayloadError(Code.TOO_MANY_VALUES)
    behind = _after_space(text, at + end)
    if behind < len(text):  # a second value, such as the next line
        return _malformed(text, behind)
    return PayloadError(Code.TOO_MANY_VALUES)


def _malformed(text: str, at: int) -> PayloadError:
    """Says where the error is, but never what stands there: it may be student data."""
    line = text.count("\n", 0, at) + 1
    column = at - text.rfind("\n", 0, at)
    detail = f"It goes wrong at line {line}, column {column}."
    return PayloadError(Code.MALFORMED_JSON, detail=detail)


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


decoder = json.JSONDecoder(parse_constant=_refuse_constant)
"""Python's decoder without its extensions, for one value in the middle of a text."""
_space = re.compile(rf"[{_SPACE}]{{1,65536}}")
