"""A value of a record as the text of an input, and back.

The rule of every form: a value that nobody touched stays exactly the same or is refused; it never
becomes another value. So a form shows what a value means, and reads text by its meaning.
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

# Inputs of these kinds take any text.
_TEXTS = (Kind.ID, Kind.EMAIL, Kind.TEXT, Kind.LONG_TEXT)
# A page cannot hold these characters: a browser would get another character instead.
_NOT_IN_PAGES = re.compile(r"[\x00\ud800-\udfff]")
# The browser's own input for date and time omits the seconds if they are zero.
_WITHOUT_SECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d")


class FieldText:
    """One field of a record type: the text of its values in an input, and back."""

    def __init__(self, described: RecordField, field: Field) -> None:
        self.described = described
        self._kind = described.kind
        self._field = field
        self._convert = converter(field)

    def meant(self, value: Any) -> Any:
        """The value that the field would read from this JSON value in a file.

        A boolean field reads "no" and 0 as false, a number field reads "30" as a number, and an id
        field reads a number as its digits. Any other value stays the same.
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
        """The text of the value in its input; a value that does not fit the field as JSON."""
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
        """The value of the typed text; `ABSENT` if nothing was typed. It does not validate."""
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
        """Whether the input would change the value."""
        return not _same(self.value(self.text(value)), value)


def lines(typed: str) -> str:
    """Text as the browser received it: a browser sends every line end back as CR LF."""
    return typed.replace("\r\n", "\n").replace("\r", "\n")


def from_json(text: str) -> Any:
    """The value of the text as JSON; `ABSENT` if the text is not JSON."""
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
