"""The types of values that a record has, as strict DRF serializer fields.

Strict means: a JSON value of another type is refused and never converted (no number as text, no
`1` for `true`), and a text is returned exactly as it was sent. Files and forms know only text, so
they convert their cells before they come here. Messages are for people and never repeat a value.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Any, NoReturn

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail

from ingestion.outcomes import FieldCode

LARGEST_INTEGER = 2_147_483_647
# Longer texts are refused before their characters are checked. By its standard, an e-mail address
# has at most 320, and a time with nine decimals and an offset has 35.
_LONGEST_EMAIL = 320
_LONGEST_DATETIME = 35

# Written out, because `\s` and `\d` match other characters in Python than in the patterns of
# OpenAPI (JavaScript's). So the schema promises exactly what the server accepts.
WHITE_SPACE = r"\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
_CONTROL = r"\x00-\x1f\x7f-\x9f"

ANY_PATTERN = r"^[^\x00]*$"
NOT_BLANK_PATTERN = rf"^[^\x00]*[^\x00{WHITE_SPACE}][^\x00]*$"
ID_PATTERN = rf"^[^{WHITE_SPACE}{_CONTROL}]+$"

# ISO 8601, extended format. The pattern knows the whole calendar; year 0 does not exist.
_DAY = (
    r"(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    r"|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    r"|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_LEAP = r"(?:0[48]|[2468][048]|[13579][26])"
_LEAP_YEAR = rf"(?:[0-9]{{2}}{_LEAP}|{_LEAP}00)"
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,9})?)?"
_OFFSET = r"(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])?"
DATETIME_PATTERN = rf"^(?!0000)(?:[0-9]{{4}}-{_DAY}|{_LEAP_YEAR}-02-29)T{_TIME}{_OFFSET}$"

_unstorable = re.compile(r"[\x00\ud800-\udfff]")
_not_blank = re.compile(rf"[^{WHITE_SPACE}]")
_id = re.compile(ID_PATTERN.strip("^$"))
_datetime = re.compile(DATETIME_PATTERN.removeprefix("^").removesuffix("$"))


class _Refused(serializers.ValidationError):
    """A refusal with a finished detail: DRF's own class would copy and translate it."""

    def __init__(self, detail: list[ErrorDetail]) -> None:
        self.detail = detail  # type: ignore[assignment]


@lru_cache(maxsize=1000)
def _detail(message: str, code: str) -> list[ErrorDetail]:
    return [ErrorDetail(message, code)]


class _Field(serializers.Field[Any, Any, Any, Any]):
    """The base of all fields: `other_names` are names that people use for its column in files.

    Refusals with the same cause share one object: a small request can cause ten thousand of them.
    """

    default_error_messages = {
        FieldCode.REQUIRED: "This field is required.",
        FieldCode.NULL: "This field may not be null.",
    }

    def __init__(self, *, other_names: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.other_names = other_names

    def fail(self, key: str, **facts: Any) -> NoReturn:
        raise _Refused(_detail(self.error_messages[key].format(**facts), key))


class Text(_Field, serializers.CharField):
    """Text of at most `max_length` characters, kept as it is; blank only with `allow_blank`.

    NUL and lone surrogates are refused: they cannot be stored, and UTF-8 cannot hold the latter.
    """

    default_error_messages = {
        FieldCode.NOT_TEXT: "Must be text.",
        FieldCode.BLANK: "Must not be empty.",
        FieldCode.MAX_LENGTH: "Must have at most {max_length} characters.",
        FieldCode.INVALID_CHARACTER: "Must not hold a NUL character or half a surrogate pair.",
    }
    format: str | None = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, **kwargs)

    @property
    def pattern(self) -> str | None:
        """The pattern for its characters in the OpenAPI schema."""
        return ANY_PATTERN if self.allow_blank else NOT_BLANK_PATTERN

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail(FieldCode.NOT_TEXT)
        # The length is checked first: checking each character of a megabyte of text would cost too
        # much.
        if self.max_length is not None and len(data) > self.max_length:
            self.fail(FieldCode.MAX_LENGTH, max_length=self.max_length)
        if _unstorable.search(data):
            self.fail(FieldCode.INVALID_CHARACTER)
        if not self.allow_blank and not _not_blank.search(data):
            self.fail(FieldCode.BLANK)
        return data


class Identifier(Text):
    """An id: 1 to 64 characters, no white space, no control characters."""

    default_error_messages = {
        FieldCode.INVALID_ID: "Must have no spaces and no control characters.",
    }
    pattern = ID_PATTERN

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=64, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        if not _id.fullmatch(text):
            self.fail(FieldCode.INVALID_ID)
        return text


class Email(Text):
    """An e-mail address, as Django's own validator understands it."""

    default_error_messages = {
        FieldCode.INVALID_EMAIL: "Must be an e-mail address, like name@example.com.",
    }
    format = "email"
    pattern = None

    def to_internal_value(self, data: Any) -> str:
        if isinstance(data, str) and len(data) > _LONGEST_EMAIL:
            self.fail(FieldCode.INVALID_EMAIL)
        text = super().to_internal_value(data)
        try:
            validate_email(text)
        except ValidationError:
            self.fail(FieldCode.INVALID_EMAIL)
        return text


class IsoDateTime(Text):
    """ISO 8601 date and time, with or without an offset, kept exactly as written.

    It stays text: to parse and print it could only change it, and the server must never apply a
    time zone of its own.
    """

    default_error_messages = {
        FieldCode.INVALID_DATETIME: "Must be a date and time like 2024-05-14T15:00:00, "
        "with or without an offset (Z, +02:00).",
    }
    format = "date-time"
    pattern = DATETIME_PATTERN

    def to_internal_value(self, data: Any) -> str:
        if isinstance(data, str) and len(data) > _LONGEST_DATETIME:
            self.fail(FieldCode.INVALID_DATETIME)
        text = super().to_internal_value(data)
        if not _datetime.fullmatch(text):
            self.fail(FieldCode.INVALID_DATETIME)
        return text


class Integer(_Field, serializers.IntegerField):
    """A whole number. In JSON, 62.0 is a whole number, but true and "62" are not."""

    default_error_messages = {
        FieldCode.NOT_AN_INTEGER: "Must be a whole number.",
        FieldCode.MIN_VALUE: "Must be at least {min_value}.",
        FieldCode.MAX_VALUE: "Must be at most {max_value}.",
    }

    def __init__(self, *, max_value: int = LARGEST_INTEGER, **kwargs: Any) -> None:
        super().__init__(max_value=max_value, **kwargs)

    def to_internal_value(self, data: Any) -> int:
        whole = isinstance(data, int) or (isinstance(data, float) and data.is_integer())
        if isinstance(data, bool) or not whole:
            self.fail(FieldCode.NOT_AN_INTEGER)
        return int(data)


class Number(_Field, serializers.FloatField):
    """A finite number; it may have decimals."""

    default_error_messages = {
        FieldCode.NOT_A_NUMBER: "Must be a number.",
        FieldCode.MIN_VALUE: "Must be at least {min_value}.",
        FieldCode.MAX_VALUE: "Must be at most {max_value}.",
    }

    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float):
            self.fail(FieldCode.NOT_A_NUMBER)
        # 1e999 is valid JSON, and Python reads it as infinity; a cell of a file may hold nan.
        if isinstance(data, float) and not math.isfinite(data):
            self.fail(FieldCode.NOT_A_NUMBER)
        return data


class Boolean(_Field, serializers.BooleanField):
    """true or false, and no similar value."""

    default_error_messages = {FieldCode.NOT_A_BOOLEAN: "Must be true or false."}

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail(FieldCode.NOT_A_BOOLEAN)
        return data


class Choice(_Field, serializers.ChoiceField):
    """One of a fixed set of words, in exactly this spelling."""

    def __init__(self, choices: tuple[str, ...], **kwargs: Any) -> None:
        message = f"Must be one of: {', '.join(choices)}."
        super().__init__(
            choices=choices,
            error_messages={FieldCode.INVALID_CHOICE: message},
            **kwargs,
        )

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str) or data not in self.choices:
            self.fail(FieldCode.INVALID_CHOICE)
        return data


class TextList(_Field, serializers.ListField):
    """A list of `min_length` to `max_length` texts of at most 100 characters each."""

    default_error_messages = {
        FieldCode.NOT_A_LIST: "Must be a list of texts.",
        FieldCode.MIN_LENGTH: "Must have at least {min_length} entry.",
        FieldCode.MAX_LENGTH: "Must have at most {max_length} entries.",
    }

    def __init__(self, *, max_length: int, **kwargs: Any) -> None:
        super().__init__(child=Text(max_length=100), max_length=max_length, **kwargs)
        self._most = max_length

    def to_internal_value(self, data: Any) -> list[Any]:
        if not isinstance(data, list):
            self.fail(FieldCode.NOT_A_LIST)
        # The length is checked first: a list of a million entries must not cost a million checks.
        if len(data) > self._most:
            self.fail(FieldCode.MAX_LENGTH, max_length=self._most)
        return [] if not data else super().to_internal_value(data)
