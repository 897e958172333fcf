"""A value of a record as the text of an input, and back.

The law of every form: what nobody touches goes out as it came in, or is refused; never as something
else. So a form shows what a value means, and takes text for what it means.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from ingestion import decoding
from ingestion.cells import converter
from ingestion.outcomes import PayloadError
from ingestion.portal.record_fields import Field, Kind, RecordField

ABSENT: Final = object()
"""The value of a field that the record does not have."""

# Inputs of these kinds take text as it is.
_TEXTS = (Kind.ID, Kind.EMAIL, Kind.TEXT, Kind.LONG_TEXT)
# A page cannot carry these: a browser gets another character in their place.
_NOT_IN_PAGES = re.compile(r"[\x00\ud800-\udfff]")
# The browser's own input for date and time leaves seconds out if they are zero.
_WITHOUT_SECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d")


class FieldText:
    """One field of a record type: what its values look like in an input, and the way back."""

    def __init__(self, described: RecordField, field: Field) -> None:
        self.described = described
        self._kind = described.kind
        self._field = field
        self._convert = converter(field)

    def meant(self, value: Any) -> Any:
        """What a JSON value means to this field, if the reader of files would understand it.

        "no" and 0 are false to a field that is yes or no, "30" is a number to one that wants a
        number, and an id that came as a number is that number's digits. All else stays as it is.
        """
        if value is None:
            told = self._field.allow_null or self._field.required or self._kind is Kind.CHOICE
            return None if told else ABSENT
        number = isinstance(value, int) and not isinstance(value, bool)
        if self._kind in _TEXTS:
            return str(value) if number else value
        if self._kind is Kind.CHOICE:
            return value
        if number and self._kind is Kind.BOOLEAN:
            found = self._convert(str(value))
            return found if isinstance(found, bool) else value
        if not isinstance(value, str):
            return value
        text = value.strip()
        if not text:
            return ABSENT
        found = self._convert(text)
        return found if self._kind is Kind.DATETIME or not isinstance(found, str) else value

    def text(self, value: Any) -> str:
        """The value as its input shows it; what is none for this field, as JSON."""
        if value is ABSENT or value is None:
            return ""
        if isinstance(value, str):
            return json.dumps(value) if _NOT_IN_PAGES.search(value) else value
        if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
            lines = "\n".join(value)
            if not _NOT_IN_PAGES.search(lines) and self.value(lines) == value:
                return lines
        return json.dumps(value, ensure_ascii=bool(_NOT_IN_PAGES.search(str(value))))

    def value(self, typed: str) -> Any:
        """What was typed, as a value; `ABSENT` if nothing was. It validates nothing."""
        typed = lines(typed)
        text = typed.strip()
        if not text:
            return ABSENT
        match self._kind:
            case Kind.LIST:
                array = from_json(text) if text.startswith("[") else None
                if isinstance(array, list):
                    return array
                return [line.strip() for line in typed.split("\n") if line.strip()]
            case Kind.LONG_TEXT:
                return typed
            case Kind.DATETIME if _WITHOUT_SECONDS.fullmatch(text):
                return f"{text}:00"
        return self._convert(text)

    def loses(self, value: Any) -> bool:
        """Whether the way through the input would make something else of the value."""
        return not _same(self.value(self.text(value)), value)


def lines(typed: str) -> str:
    """Text as the browser got it: on its way back each end of a line becomes CR LF."""
    return typed.replace("\r\n", "\n").replace("\r", "\n")


def from_json(text: str) -> Any:
    """The value that the text holds as JSON; `ABSENT` if it holds none."""
    try:
        return decoding.decode(text.encode(errors="replace"))
    except PayloadError:
        return ABSENT


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
