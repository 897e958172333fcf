"""Text in, JSON values out, by the kind of the field that takes them.

For what knows only text: cells of a file, inputs of a form. The serializers are strict and judge
alone: text that can not be converted stays text, and they refuse it with their own code.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from rest_framework.serializers import Field

from ingestion import decoding
from ingestion.fields import Boolean, Integer, IsoDateTime, Number, TextList
from ingestion.outcomes import PayloadError

Converter = Callable[[str], Any]

# Digits of ASCII alone, no thousands separators, no more digits than Python converts.
_WHOLE = re.compile(r"([+-]?[0-9]{1,400})(?:\.0*)?")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]{1,400}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?")
# What spreadsheets make of 2024-05-14T15:00:00.
_SPACED_DATETIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}) +([0-9]{2}:[0-9]{2}.*)")
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def converter(field: Field[Any, Any, Any, Any]) -> Converter:
    """How stripped, non-empty text becomes a value for `field`.

    Whole numbers ("28", "28.0"), numbers, booleans (true, false, yes, no, 1, 0 in any case),
    lists (parted by `;` or `|`, or a JSON array), date and time parted by a space. All other
    kinds, ids above all, keep their text.
    """
    return next((convert for kind, convert in _CONVERTERS if isinstance(field, kind)), str)


def _integer(text: str) -> int | str:
    whole = _WHOLE.fullmatch(text)
    return int(whole[1]) if whole else text


def _number(text: str) -> float | str:
    return float(text) if _DECIMAL.fullmatch(text) else text


def _boolean(text: str) -> bool | str:
    return _WORDS.get(text.lower(), text)


def _text_list(text: str) -> list[Any]:
    if text.startswith("["):
        with suppress(PayloadError):  # no JSON: an entry may well begin with a bracket
            array: list[Any] = decoding.decode(text.encode())
            return array
    return [entry.strip() for entry in re.split("[;|]", text) if entry.strip()]


def _datetime(text: str) -> str:
    spaced = _SPACED_DATETIME.fullmatch(text)
    return f"{spaced[1]}T{spaced[2]}" if spaced else text


_CONVERTERS: tuple[tuple[type[Field[Any, Any, Any, Any]], Converter], ...] = (
    (Integer, _integer),
    (Number, _number),
    (Boolean, _boolean),
    (TextList, _text_list),
    (IsoDateTime, _datetime),
)
