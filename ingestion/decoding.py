"""Bytes in, JSON values out: strict, whatever was sent.

RFC 8259 in UTF-8, with what Python's parser takes beyond it (NaN, Infinity, a byte order mark)
refused. Of keys that come twice, the last one counts.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NoReturn

from django.conf import settings

from ingestion.outcomes import Code, FieldCode, FieldError, PayloadError


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


def decode(content: bytes) -> Any:
    """The JSON value that `content` holds; raises `PayloadError` where it holds none."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise PayloadError(Code.MALFORMED_ENCODING) from None
    if text.startswith("\ufeff"):
        raise PayloadError(Code.MALFORMED_ENCODING)
    if not text.strip(" \t\r\n"):
        raise PayloadError(Code.EMPTY_BODY)
    if _may_hold_too_many_values(content):
        raise PayloadError(Code.TOO_MANY_VALUES)
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise PayloadError(Code.TOO_DEEP) from None
    except ValueError:  # not JSON, or a number of more digits than Python converts
        raise PayloadError(Code.MALFORMED_JSON) from None


def rows(payload: Payload) -> Iterator[Row]:
    """The rows of a payload, in order.

    Raises `PayloadError` where the payload as a whole can not be read or has the wrong shape.
    A line of NDJSON that can not be read is a row with a problem and spoils no other line.
    """
    if payload.framing is Framing.LINES:
        yield from _lines(payload.content)
        return
    value = decode(payload.content)
    if payload.framing is Framing.RECORD:
        if not isinstance(value, dict):
            raise PayloadError(Code.NOT_AN_OBJECT)
        yield Row(value=value)
        return
    if not isinstance(value, list):
        raise PayloadError(Code.NOT_AN_ARRAY)
    for item in value:
        yield Row(value=item)


def decode_line(content: bytes, line: int) -> Row:
    """One line of NDJSON as a row; what can not be read becomes the row's problem."""
    try:
        return Row(value=decode(content), line=line)
    except PayloadError as fault:
        if fault.code is Code.TOO_MANY_VALUES:  # a limit of the whole payload
            raise
        return Row(line=line, problem=_MALFORMED_LINE)


def _lines(content: bytes) -> Iterator[Row]:
    # Only a line feed ends a line of NDJSON; JSON texts may hold the other line separators.
    # One after the other: millions of lines are not cut up before the limit stops them.
    for line, text in enumerate(io.BytesIO(content), start=1):
        if text.strip(b" \t\r\n"):
            yield decode_line(text, line)


def _may_hold_too_many_values(content: bytes) -> bool:
    """Whether there are more signs before a value than a hundred for each record of a batch.

    An empty list is two bytes to send and some fifty in memory: the limit on bytes is none there.
    Signs in texts count as well: to tell them apart would take longer than to decode it all.
    """
    signs = content.count(b",") + content.count(b"[") + content.count(b"{")
    return signs > max(1_000_000, 100 * settings.MAX_BATCH_RECORDS)


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


_MALFORMED_LINE = FieldError(
    field=None, code=FieldCode.MALFORMED_JSON, message="This line is not valid JSON in UTF-8."
)
