"""The serializers, compiled: JSON to records in about two microseconds each.

The serializers are the contract. The compiled form is derived from their fields and rules. If it
accepts a record, the serializer accepts it too, with the same result and the same bytes. It leaves
everything else (an error, an unknown field, a text that needs a closer look) to the serializer. The
serializer decides, and writes the rejection.

A record becomes a `msgspec.Struct`: the C decoder checks types, ranges, lengths and choices. A type
cannot check everything, for example the characters of an id. Such texts of many records are joined
and checked together, because one Python call for each text would cost more than everything else.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec
import structlog
from django.core.validators import (
    MaxLengthValidator,
    MaxValueValidator,
    MinLengthValidator,
    MinValueValidator,
    ProhibitNullCharactersValidator,
)
from msgspec import UNSET, Meta, UnsetType
from rest_framework.fields import Field, empty
from rest_framework.validators import ProhibitSurrogateCharactersValidator

from ingestion.fields import (
    DATETIME_PATTERN,
    WHITE_SPACE,
    Boolean,
    Choice,
    Email,
    Identifier,
    Integer,
    IsoDateTime,
    Number,
    Text,
    TextList,
)
from ingestion.serializers import RecordSerializer, Rule
from ingestion.strict_json import MOST_VALUES

logger = structlog.get_logger(__name__)

Record = msgspec.Struct
Texts = list[str]
CheckOfTexts = Callable[[Texts], bool]
Check = Callable[[Sequence[Record]], bool]

_split = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Compiled:
    """One record type as a decoder.

    msgspec encodes its records to the same bytes as the serializer's records. Its methods take JSON
    text, or values that were read already, and return None for each record that the serializer must
    decide on. Safe for all threads.
    """

    def __init__(self, serializer: RecordSerializer) -> None:
        """Raises `TypeError` with the field's name if a field has an unknown type."""
        fields = serializer.fields
        for method in ("validate", "to_internal_value", "run_validation"):
            if getattr(type(serializer), method) is not getattr(RecordSerializer, method):
                raise TypeError(f"{method}() is its own")
        for name in fields:
            if hasattr(serializer, f"validate_{name}"):
                raise TypeError(f"validate_{name}() is its own")
        record = msgspec.defstruct(
            type(serializer).__name__,
            [_attribute(name, field) for name, field in fields.items()],
            kw_only=True,
            forbid_unknown_fields=True,
            gc=False,
        )
        self._record = record
        # In each record, every required field has its name in quotes, a colon, a value, and a comma
        # or brace. An error of the decoder costs a microsecond, and thousands fit in a small body.
        self.least_bytes = sum(len(name) + 5 for name, one in fields.items() if one.required)
        self._decode_one = msgspec.json.Decoder(record).decode
        self._decode_many = msgspec.json.Decoder(list[record]).decode  # type: ignore[valid-type]
        fields_of_check: dict[CheckOfTexts, dict[str, Any]] = {}
        for named, given in fields.items():
            for check in _checks_of_texts(given):
                fields_of_check.setdefault(check, {})[named] = given
        self._checks: list[Check] = [
            _check_of_fields(checked, check) for check, checked in fields_of_check.items()
        ]
        self._checks += map(_check_of_rule, serializer.rules)
        texts = {name: field for name, field in fields.items() if _text_of(field)}
        self._can_be_encoded = _check_of_fields(texts, _can_be_encoded)

    def array(self, content: bytes) -> list[Record | None] | None:
        """The records in this JSON array, in order; None if it may not be a JSON array."""
        try:
            parts = _split(content)
        except _NOT_CERTAIN:
            return None
        # A key may be repeated any number of times, so only the length limits how many values a
        # record has.
        if max(map(len, parts), default=0) <= MOST_VALUES:
            try:
                return self._certain(self._decode_many(content))
            except _NOT_CERTAIN:
                pass
        return self.each(parts)

    def all(self, texts: Iterable[bytes]) -> list[Record] | None:
        """The record in each of these JSON texts; None if the serializer must decide on any.

        It stops at the first such text, so that a body of nothing but errors costs little.
        """
        found = []
        for text in texts:
            record = self._decoded(text)
            if record is None:
                return None
            found.append(record)
        return self._all_certain(found)

    def all_of_array(self, content: bytes) -> list[Record] | None:
        """The same for the records in a JSON array, of the size of one record at most."""
        if len(content) > MOST_VALUES:
            return None
        try:
            return self._all_certain(self._decode_many(content))
        except _NOT_CERTAIN:
            return None

    def _all_certain(self, records: list[Record]) -> list[Record] | None:
        return records if all(holds(records) for holds in self._checks) else None

    def each(self, texts: Iterable[bytes | msgspec.Raw]) -> list[Record | None]:
        """The record in each of these JSON texts."""
        return self._certain([self._decoded(text) for text in texts])

    def values(self, values: Iterable[Any]) -> list[Record | None]:
        """The record in each of these values, such as a row of a table has them."""
        return self._certain(
            [self._converted(value) for value in values], further=(self._can_be_encoded,)
        )

    def _converted(self, value: Any) -> Record | None:
        if type(value) is not dict or not _OF_JSON.issuperset(map(type, value.values())):
            return None
        try:
            record: Record = msgspec.convert(value, self._record)
        except _NOT_CERTAIN:
            return None
        return record

    def _decoded(self, text: bytes | msgspec.Raw) -> Record | None:
        if not self.least_bytes <= len(text) <= MOST_VALUES:
            return None
        try:
            record: Record = self._decode_one(text)
        except _NOT_CERTAIN:
            return None
        return record

    def _certain(
        self, records: list[Record | None], *, further: Sequence[Check] = ()
    ) -> list[Record | None]:
        """The same records, but None for each that fails a check which no type can express."""
        given = [one for one in records if one is not None]
        for holds in (*further, *self._checks):
            if not holds(given):
                records = [one if one is not None and holds([one]) else None for one in records]
                given = [one for one in records if one is not None]
        return records


def _check_of_fields(fields: Mapping[str, Any], check: CheckOfTexts) -> Check:
    """The check on all texts that these fields of the records have."""
    lists = [attrgetter(name) for name, field in fields.items() if isinstance(field, TextList)]
    single = [name for name, field in fields.items() if not isinstance(field, TextList)]
    if len(single) == 1:
        single *= 2  # with one name, a getter gives a value and no tuple of values
    values_of = attrgetter(*single) if single else None

    def holds(records: Sequence[Record]) -> bool:
        texts = [text for one in records for text in values_of(one) if text] if values_of else []
        for value_of in lists:
            texts += [text for value in map(value_of, records) if value for text in value]
        return check(texts)

    return holds


def _check_of_rule(rule: Rule) -> Check:
    values_of = [attrgetter(name) for name in rule.fields]
    return lambda records: all(
        map(rule.holds, *(map(_given, map(value_of, records)) for value_of in values_of))
    )


# These classes check nothing that the types and the checks in this module do not check too.
_SAID_BY_TYPES = {
    MaxLengthValidator,
    MinLengthValidator,
    MaxValueValidator,
    MinValueValidator,
    ProhibitNullCharactersValidator,
    ProhibitSurrogateCharactersValidator,
}

# A tuple, for example, would be taken for a list.
_OF_JSON = frozenset({bool, dict, float, int, list, str, type(None)})

# msgspec raises these for input that it does not accept: not JSON, not UTF-8, nested too deeply.
_NOT_CERTAIN = (msgspec.DecodeError, UnicodeError, RecursionError)


def compiled(serializer: RecordSerializer) -> Compiled | None:
    """The compiled serializer; None, and a line in the log, if it cannot be compiled."""
    try:
        return Compiled(serializer)
    except TypeError as cause:
        logger.warning("serializer_not_compiled", type=type(serializer).__name__, fault=str(cause))
        return None


def _given(value: Any) -> Any:
    return None if value is UNSET else value


def _attribute(name: str, field: Field[Any, Any, Any, Any]) -> tuple[Any, ...]:
    """The field as an attribute of the struct: name, type and, if it may be absent, its default."""
    for validator in field.validators:
        if type(validator) not in _SAID_BY_TYPES:
            raise TypeError(f"{name}: {type(validator).__name__}")
    taken = _type(name, field)
    if field.allow_null:
        taken |= None
    if field.required:
        return name, taken
    if field.default is empty:
        return name, taken | UnsetType, UNSET
    return name, taken, field.default


def _type(name: str, field: Any) -> Any:
    if type(field) is TextList:
        most, least = field.max_length, field.min_length
        entries = list[_type(name, field.child)]  # type: ignore[misc,valid-type]
        return Annotated[entries, Meta(min_length=least, max_length=most)]
    if isinstance(field, Text) and type(field) in _CHECKS_OF_TEXTS:
        least = 0 if field.allow_blank else 1
        return Annotated[str, Meta(min_length=least, max_length=field.max_length)]
    if type(field) is Integer:
        return Annotated[int, _range(field)]
    if type(field) is Number:  # whole numbers stay whole
        return Annotated[int, _range(field)] | Annotated[float, _finite_range(field)]
    if type(field) is Boolean:
        return bool
    if type(field) is Choice:
        return Literal[tuple(field.choices)]
    raise TypeError(f"{name}: {type(field).__name__}")


def _range(field: Any) -> Meta:
    return Meta(ge=field.min_value, le=field.max_value)


def _finite_range(field: Any) -> Meta:
    """The range of a float; without bounds of its own, a cell's infinity would become null."""
    least, most = field.min_value, field.max_value
    return Meta(
        ge=-sys.float_info.max if least is None else least,
        le=sys.float_info.max if most is None else most,
    )


def _checks_of_texts(field: Any) -> Iterable[CheckOfTexts]:
    if text := _text_of(field):
        yield from _CHECKS_OF_TEXTS[type(text)]
        if type(text) is Text and not text.allow_blank:
            yield _none_is_blank


def _text_of(field: Any) -> Text | None:
    """The field for its texts, if it holds texts."""
    text = field.child if isinstance(field, TextList) else field
    return text if isinstance(text, Text) else None


def _can_be_encoded(texts: Texts) -> bool:
    """Whether there is no half of a character, which JSON in UTF-8 cannot have."""
    joined = "".join(texts)
    try:
        joined.encode()
    except UnicodeEncodeError:
        return False
    return True


def _are_plain_ids(texts: Texts) -> bool:
    """Whether all ids are printable ASCII without spaces; rarer valid characters fail here."""
    joined = "".join(texts)
    return joined.isascii() and joined.isprintable() and " " not in joined


def _hold_no_nul(texts: Texts) -> bool:
    return "\0" not in "".join(texts)


# Only a text that begins with white space can be blank.
_begins_blank = re.compile(rf"\n[{WHITE_SPACE}]")


def _none_is_blank(texts: Texts) -> bool:
    return not _begins_blank.search("\n" + "\n".join(texts))


# Most match the first alternative, which is twice as fast.
_plain_datetimes = re.compile(
    r"(?:(?!0000)[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])"
    r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\n)*"
)
_datetimes = re.compile(rf"(?:{DATETIME_PATTERN.strip('^$')}\n)*")


def _are_datetimes(texts: Texts) -> bool:
    return _are_all(texts, _plain_datetimes) or _are_all(texts, _datetimes)


def _are_all(texts: Texts, lines: re.Pattern[str]) -> bool:
    """Whether each text matches; `lines` matches any number of such lines."""
    joined = "\n".join([*texts, ""])
    # A text that holds a line feed would count as two.
    return bool(lines.fullmatch(joined)) and joined.count("\n") == len(texts)


# The plainest addresses: Django's validator accepts all of these and more.
_plain_emails = re.compile(
    r"(?:[A-Za-z0-9_+-]{1,30}(?:\.[A-Za-z0-9_+-]{1,30}){0,3}"
    r"@(?:[A-Za-z0-9]{1,30}\.){1,4}[A-Za-z]{2,20}\n)*"
)


def _are_plain_emails(texts: Texts) -> bool:
    return _are_all(texts, _plain_emails)


_CHECKS_OF_TEXTS: dict[type[Text], tuple[CheckOfTexts, ...]] = {
    Text: (_hold_no_nul,),
    Identifier: (_are_plain_ids,),
    Email: (_are_plain_emails,),
    IsoDateTime: (_are_datetimes,),
}
