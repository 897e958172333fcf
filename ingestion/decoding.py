"""Payloads in, rows out: how records are framed, and how much of them is read.

Whatever the framing, a decoded row is kept only until it is validated.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any

import msgspec
from django.conf import settings

from ingestion import strict_json
from ingestion.outcomes import Code, FieldCode, FieldError, PayloadError

BYTES_CHARGED_AS_A_RECORD = 8192


class Framing(StrEnum):
    """How the records of a payload are separated."""

    RECORD = "record"
    ARRAY = "array"
    LINES = "lines"


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """The unpacked bytes of a request or a file, and how its records are separated."""

    content: bytes
    framing: Framing


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A JSON value that may be a record, or the reason why it could not be read.

    `line` is its 1-based line in the payload, None if the payload has no lines.
    """

    value: Any = None
    line: int | None = None
    problem: FieldError | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """The rows of a payload, in order: their number, and each row decoded only when it is needed.

    `row` decodes the row with this index. `lines` are the lines of NDJSON with their numbers from
    1.
    """

    count: int
    row: Callable[[int], Row]
    lines: Sequence[tuple[int, bytes]] = ()

    def __iter__(self) -> Iterator[Row]:
        return map(self.row, range(self.count))


def rows(payload: Payload, *, most: int) -> Rows:
    """The rows of a payload. The search ends after `most` rows: `count` is then larger than `most`.

    Raises `PayloadError` if the whole payload cannot be read or has the wrong shape; sometimes this
    shows only while the rows are read. A line of NDJSON that cannot be read becomes a row with a
    problem, and the other lines are not affected.
    """
    check_size(payload)
    content = payload.content
    if payload.framing is Framing.LINES:
        lines = list(islice(_lines(content), most + 1))
        return Rows(
            count=len(lines), lines=lines, row=lambda at: decode_line(lines[at][1], lines[at][0])
        )
    text = strict_json.text_of(content)
    if payload.framing is Framing.RECORD:
        record = _record(text)
        return Rows(count=1, row=lambda _: Row(value=record))
    if not strict_json.is_array(text):
        strict_json.value(text)
        raise PayloadError(Code.NOT_AN_ARRAY)
    places = list(islice(strict_json.entries(text), most + 1))
    return Rows(count=len(places), row=lambda at: Row(value=strict_json.entry(text, places[at])))


def check_size(payload: Payload) -> None:
    """Raise `PayloadError` if the payload has more values than allowed."""
    most = max(1_000_000, 100 * settings.MAX_BATCH_RECORDS)
    # For every framing, so that a million small lines cost no more than one long array.
    if (
        len(payload.content) > most
        and strict_json.signs(payload.content) + _line_feeds(payload) > most
    ):
        raise PayloadError(Code.TOO_MANY_VALUES)


def size_in_records(payload: Payload) -> int:
    """How many records a payload counts as because of its size, at least one.

    A sender also pays for work that is no record: blank lines, white space, unknown fields.
    """
    size_bytes = len(payload.content)
    return max(1, _line_feeds(payload), -(-size_bytes // BYTES_CHARGED_AS_A_RECORD))


def decode(content: bytes) -> Any:
    """The only JSON value in `content`, up to the size of a record; raises `PayloadError`."""
    return strict_json.value(strict_json.text_of(content))


def decode_line(content: bytes, line: int | None) -> Row:
    """One line of NDJSON as a row; if it cannot be read, the row has a problem."""
    try:
        return Row(value=decode(content), line=line)
    except PayloadError as fault:
        if fault.code is Code.TOO_MANY_VALUES:  # a limit of the whole payload
            raise
        return Row(line=line, problem=_MALFORMED_LINE)


def _record(text: str) -> dict[str, Any]:
    if strict_json.is_array(text):
        # Several records at the address for one record: check all of it, even if it is long.
        deque(strict_json.entries(text), maxlen=0)
        raise PayloadError(Code.NOT_AN_OBJECT)
    value = strict_json.value(text)
    if not isinstance(value, dict):
        raise PayloadError(Code.NOT_AN_OBJECT)
    return value


def _lines(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, each with its number from 1."""
    # Only a line feed ends a line of NDJSON; JSON texts may hold the other line separators.
    for line, text in enumerate(io.BytesIO(content), start=1):
        if text.strip(b" \t\r\n"):
            yield line, text


def _line_feeds(payload: Payload) -> int:
    return payload.content.count(b"\n") if payload.framing is Framing.LINES else 0


_MALFORMED_LINE = FieldError(
    field=None, code=FieldCode.MALFORMED_JSON, message="This line is not valid JSON in UTF-8."
)
