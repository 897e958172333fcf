"""Payloads in, rows out: how records are framed, and how much of them is read.

No decoded row is kept longer than it takes to judge it, however the payload is framed.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any

from django.conf import settings

from ingestion import strict_json
from ingestion.outcomes import Code, FieldCode, FieldError, PayloadError

BYTES_CHARGED_AS_A_RECORD = 8192


class Framing(StrEnum):
    """How records lie in a payload."""

    RECORD = "record"
    ARRAY = "array"
    LINES = "lines"


@dataclass(frozen=True, kw_only=True, slots=True)
class Payload:
    """Raw bytes of a request or a file, unpacked, and how records lie in them."""

    content: bytes
    framing: Framing


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One would-be record: a JSON value, or the reason why it could not be read.

    `line` is its 1-based line in the payload, None where the payload has no lines.
    """

    value: Any = None
    line: int | None = None
    problem: FieldError | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """The rows of a payload, in order: how many there are, and each decoded when its turn comes.

    `row` decodes the one with this index. `lines` are those of NDJSON, each with its number from 1.
    """

    count: int
    row: Callable[[int], Row]
    lines: Sequence[tuple[int, bytes]] = ()

    def __iter__(self) -> Iterator[Row]:
        return map(self.row, range(self.count))


def rows(payload: Payload, *, most: int) -> Rows:
    """The rows of a payload. Beyond `most` no further one is looked for: `count` is then larger.

    Raises `PayloadError` if the payload as a whole cannot be read or has the wrong shape, in
    the worst case while the rows are gone through. A line of NDJSON that cannot be read is a row
    with a problem and spoils no other line.
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
    """Raise `PayloadError` if the payload has more values than any may have."""
    # However it is framed, so that a million small lines cost no more than one long array.
    signs = strict_json.signs(payload.content) + _line_feeds(payload)
    if signs > max(1_000_000, 100 * settings.MAX_BATCH_RECORDS):
        raise PayloadError(Code.TOO_MANY_VALUES)


def size_in_records(payload: Payload) -> int:
    """For how many records a payload counts by its size alone, one at the least.

    Work that is no record (blank lines, white space, fields that are dropped) is paid for too.
    """
    size_bytes = len(payload.content)
    return max(1, _line_feeds(payload), -(-size_bytes // BYTES_CHARGED_AS_A_RECORD))


def decode(content: bytes) -> Any:
    """The one JSON value that `content` holds, of the size of a record; raises `PayloadError`."""
    return strict_json.value(strict_json.text_of(content))


def decode_line(content: bytes, line: int) -> Row:
    """One line of NDJSON as a row; what cannot be read becomes the row's problem."""
    try:
        return Row(value=decode(content), line=line)
    except PayloadError as fault:
        if fault.code is Code.TOO_MANY_VALUES:  # a limit of the whole payload
            raise
        return Row(line=line, problem=_MALFORMED_LINE)


def _record(text: str) -> dict[str, Any]:
    if strict_json.is_array(text):
        # Many records at the address for one: it may be long, and must be told all the same.
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
