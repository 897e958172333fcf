"""Text in, JSON values out, by the kind of the field that takes them.

For what knows only text: cells of a file, inputs of a form. The serializers are strict and judge
alone: text that cannot be converted stays text, and they refuse it with their own code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from rest_framework.serializers import Field

from ingestion import decoding
from ingestion.fields import Boolean, Integer, IsoDateTime, Number, TextList
from ingestion.outcomes import PayloadError

Converter = Callable[[str], Any]


class DateOrder(StrEnum):
    """What comes first in dates like 03/04/2026."""

    DAY = "day"
    MONTH = "month"


@dataclass(frozen=True, kw_only=True, slots=True)
class Notation:
    """How a table writes what is written in several ways.

    Without a `date_order` dates like 03/04/2026 stay text: which is the month is never guessed.
    """

    date_order: DateOrder | None = None
    decimal_comma: bool = False


ISO_NOTATION = Notation()

# Digits of ASCII alone, no thousands separators, no more digits than Python converts.
_WHOLE = re.compile(r"([+-]?[0-9]{1,400})(?:\.0*)?")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]{1,400}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?")
DECIMAL_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+")
# What spreadsheets make of 2024-05-14T15:00:00.
_SPACED_DATETIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}) +([0-9]{2}:[0-9]{2}.*)")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DAY_MONTH_YEAR = re.compile(
    r"([0-9]{1,2})([./-])([0-9]{1,2})\2([0-9]{4})"
    r"(?:[ T,]+([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:\.0*)?)?(?: ?([AaPp])\.?[Mm]\.?)?)?"
)
# Excel writes true and false in the language of who uses it.
_WORDS = dict.fromkeys(("true", "yes", "1", "ja", "wahr"), True)
_WORDS |= dict.fromkeys(("false", "no", "0", "nein", "falsch"), False)


def converter(field: Field[Any, Any, Any, Any], notation: Notation = ISO_NOTATION) -> Converter:
    """How stripped, non-empty text becomes a value for `field`.

    Whole numbers ("28", "28.0"), numbers, booleans (true, false, yes, no, 1, 0, ja, nein, wahr,
    falsch, in any case), lists (separated by `;` or `|`, or a JSON array), date and time with a
    space between them. A date without a time means midnight. All other kinds, most of all ids,
    keep their text.
    """
    if isinstance(field, Number) and notation.decimal_comma:
        return _decimal_comma
    if isinstance(field, IsoDateTime) and notation.date_order:
        order = notation.date_order
        return lambda text: _ordered_datetime(text, order)
    return next((convert for kind, convert in _CONVERTERS if isinstance(field, kind)), str)


def cell_text(value: Any) -> str:
    """A value of a record as a cell of a file; the `converter` of its field reads it back.

    An empty list is an empty cell, which is read as an absent field.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(map(_stands_for_itself, value)):
        return "; ".join(value)
    return json.dumps(value, ensure_ascii=False)


def possible_orders(text: str) -> frozenset[DateOrder] | None:
    """In which orders `text` is a date like 03/04/2026; None where it is written otherwise."""
    if not _DAY_MONTH_YEAR.fullmatch(text):
        return None
    return frozenset(order for order in DateOrder if _ordered_datetime(text, order) != text)


def _integer(text: str) -> int | str:
    whole = _WHOLE.fullmatch(text)
    return int(whole[1]) if whole else text


def _number(text: str) -> float | str:
    return float(text) if _DECIMAL.fullmatch(text) else text


def _decimal_comma(text: str) -> float | str:
    return _number(text.replace(",", ".") if DECIMAL_COMMA.fullmatch(text) else text)


def _boolean(text: str) -> bool | str:
    return _WORDS.get(text.lower(), text)


def _text_list(text: str) -> list[Any]:
    if text.startswith("["):
        with suppress(PayloadError):  # no JSON: an entry may well begin with a bracket
            array: list[Any] = decoding.decode(text.encode())
            return array
    return [entry.strip() for entry in re.split("[;|]", text) if entry.strip()]


def _stands_for_itself(entry: Any) -> bool:
    """Whether it is an entry of a list that is read as it is between two semicolons."""
    return (
        isinstance(entry, str)
        and entry == entry.strip() != ""
        and not entry.startswith("[")
        and not re.search("[;|]", entry)
    )


def _datetime(text: str) -> str:
    if _DATE.fullmatch(text):
        return f"{text}T00:00:00"
    spaced = _SPACED_DATETIME.fullmatch(text)
    return f"{spaced[1]}T{spaced[2]}" if spaced else text


def _ordered_datetime(text: str, order: DateOrder) -> str:
    parts = _DAY_MONTH_YEAR.fullmatch(text)
    if not parts:
        return _datetime(text)
    first, second, year = int(parts[1]), int(parts[3]), int(parts[4])
    day, month = (first, second) if order is DateOrder.DAY else (second, first)
    hour, minute, second = (int(parts[n] or 0) for n in (5, 6, 7))
    try:
        if half := parts[8]:
            if not 1 <= hour <= 12:
                return text
            hour = hour % 12 + (12 if half in "Pp" else 0)
        return datetime(year, month, day, hour, minute, second).isoformat()  # noqa: DTZ001 (naive stays naive)
    except ValueError:
        return text


_CONVERTERS: tuple[tuple[type[Field[Any, Any, Any, Any]], Converter], ...] = (
    (Integer, _integer),
    (Number, _number),
    (Boolean, _boolean),
    (TextList, _text_list),
    (IsoDateTime, _datetime),
)
