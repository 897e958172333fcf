"""Text in, JSON values out, by the type of the field.

This is for callers that have only text: cells of a file, inputs of a form. Only the strict
serializers validate. Text that cannot be converted stays text, and the serializer refuses it with
its own code.
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
    """Whether the day or the month comes first in dates like 03/04/2026."""

    DAY = "day"
    MONTH = "month"


@dataclass(frozen=True, kw_only=True, slots=True)
class Notation:
    """How a table writes values that people write in several ways.

    Without a `date_order`, dates like 03/04/2026 stay text: the code never guesses the month.
    """

    date_order: DateOrder | None = None
    decimal_comma: bool = False


ISO_NOTATION = Notation()

# ASCII digits only, no thousands separators, and no more digits than Python converts.
_WHOLE = re.compile(r"([+-]?[0-9]{1,400})(?:\.0*)?")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]{1,400}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?")
DECIMAL_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+")
# How spreadsheets write 2024-05-14T15:00:00.
_SPACED_DATETIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}) +([0-9]{2}:[0-9]{2}.*)")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DAY_MONTH_YEAR = re.compile(
    r"([0-9]{1,2})([./-])([0-9]{1,2})\2([0-9]{4})"
    r"(?:[ T,]+([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:\.0*)?)?(?: ?([AaPp])\.?[Mm]\.?)?)?"
)
# Excel writes true and false in the user's language.
_WORDS = dict.fromkeys(("true", "yes", "1", "ja", "wahr"), True)
_WORDS |= dict.fromkeys(("false", "no", "0", "nein", "falsch"), False)


def converter(field: Field[Any, Any, Any, Any], notation: Notation = ISO_NOTATION) -> Converter:
    """The function that converts stripped, non-empty text to a value for `field`.

    It converts whole numbers ("28", "28.0"), numbers, booleans (true, false, yes, no, 1, 0, ja,
    nein, wahr, falsch, in any case), lists (separated by `;` or `|`, or a JSON array), and a date
    and time with a space between them. A date without a time means midnight. Values of all other
    fields, most importantly ids, keep their text.
    """
    if isinstance(field, Number) and notation.decimal_comma:
        return _decimal_comma
    if isinstance(field, IsoDateTime) and notation.date_order:
        order = notation.date_order
        return lambda text: _ordered_datetime(text, order)
    return next((convert for kind, convert in _CONVERTERS if isinstance(field, kind)), str)


def cell_text(value: Any) -> str:
    """The value of a record as the text of a cell. The `converter` of its field reads it back.

    An empty list becomes an empty cell, and an empty cell is read as an absent field.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(map(_stands_for_itself, value)):
        return "; ".join(value)
    return json.dumps(value, ensure_ascii=False)


def possible_orders(text: str) -> frozenset[DateOrder] | None:
    """The orders in which `text` is a date like 03/04/2026; None if it is not written that way."""
    if not _DAY_MONTH_YEAR.fullmatch(text):
        return None
    return frozenset(order for order in DateOrder if _ordered_datetime(text, order) != text)


def _integer(text: str) -> int | str:
    if len(text) < 400 and text.isascii() and text.isdigit():  # mostly; it is faster
        return int(text)
    whole = _WHOLE.fullmatch(text)
    return int(whole[1]) if whole else text


def _number(text: str) -> float | str:
    return float(text) if _DECIMAL.fullmatch(text) else text


def _decimal_comma(text: str) -> float | str:
    return _number(text.replace(",", ".") if DECIMAL_COMMA.fullmatch(text) else text)


def _boolean(text: str) -> bool | str:
    found = _WORDS.get(text)  # mostly in small letters
    return _WORDS.get(text.lower(), text) if found is None else found


def _text_list(text: str) -> list[Any]:
    if text.startswith("["):
        with suppress(PayloadError):  # not JSON: an entry may begin with a bracket
            array: list[Any] = decoding.decode(text.encode())
            return array
    return [entry.strip() for entry in re.split("[;|]", text) if entry.strip()]


def _stands_for_itself(entry: Any) -> bool:
    """Whether the entry can be written between semicolons and is read back unchanged."""
    return (
        isinstance(entry, str)
        and entry == entry.strip() != ""
        and not entry.startswith("[")
        and not re.search("[;|]", entry)
    )


def _datetime(text: str) -> str:
    if text[10:11] == "T":  # mostly
        return text
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
