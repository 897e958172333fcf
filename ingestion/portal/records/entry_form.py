"""A form for one record, made from the serializer; it converts input but does not validate it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any

from django import forms

from ingestion.outcomes import FieldError
from ingestion.portal.record_fields import Kind, RecordField, record_fields
from ingestion.portal.records.field_texts import ABSENT, FieldText, from_json, lines
from ingestion.records import RecordType

# Values that the browser's own inputs can show; any other value would look empty there.
_LOCAL_DATETIME = re.compile(r"[1-9]\d{3}-\d\d-\d\dT\d\d:\d\d(:\d\d)?")
_HTML_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?")


class EntryForm(forms.Form):
    """The fields of one record type; `data` is what was posted, `record` is the initial record.

    If its input would change a value, a hidden input holds the value as JSON. If the visible input
    comes back unchanged, the value of the record stays the same.
    """

    def __init__(
        self,
        record_type: RecordType,
        data: Mapping[str, Any] | None = None,
        *,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        self._texts = _field_texts(record_type)
        super().__init__(data)
        for one in self._texts:
            self._add(one, (record or {}).get(one.described.name, ABSENT))

    def _add(self, one: FieldText, value: Any) -> None:
        field = one.described
        begin, carried = field.default or "", ""
        if value is not ABSENT:
            value = one.meant(value)
            begin = one.text(value)
            carried = json.dumps(value) if value is not ABSENT and one.loses(value) else ""
        if self.is_bound:
            begin, carried = (self.data.get(name, "") for name in (field.name, _hidden(field)))
        self.fields[field.name] = forms.Field(
            required=False,
            label=field.label,
            help_text=_hint(field),
            initial=begin,
            widget=_widget(field, begin, plain=bool(carried)),
        )
        if carried:
            self.fields[_hidden(field)] = forms.Field(
                required=False, initial=carried, widget=forms.HiddenInput
            )

    def record(self) -> dict[str, Any]:
        """The typed values as a record; empty inputs are absent fields."""
        self.full_clean()
        found = {one.described.name: self._value(one) for one in self._texts}
        return {name: value for name, value in found.items() if value is not ABSENT}

    def refuse(self, errors: tuple[FieldError, ...]) -> None:
        """Put the validator's messages beside their fields."""
        for error in errors:
            name, _, rest = (error.field or "").partition("[")
            message = error.message
            if rest:
                message = f"Entry {int(rest.rstrip(']')) + 1}: {message}"
            self.add_error(name or None, message)

    def _value(self, one: FieldText) -> Any:
        typed = self.cleaned_data[one.described.name] or ""
        if carried := self.cleaned_data.get(_hidden(one.described)):
            value = from_json(carried)
            if value is not ABSENT and lines(typed) == lines(one.text(value)):
                return value
        return one.value(typed)


@cache
def _field_texts(record_type: RecordType) -> tuple[FieldText, ...]:
    fields = record_type.fields
    return tuple(FieldText(one, fields[one.name]) for one in record_fields(record_type))


def _hidden(field: RecordField) -> str:
    return f"as-sent-{field.name}"


def _hint(field: RecordField) -> str:
    bounded = field.kind in (Kind.INTEGER, Kind.NUMBER) and field.most is not None
    if bounded and "from" not in field.meaning:
        return f"{field.meaning} {field.rule.capitalize()}."
    return f"{field.meaning} One entry on each line." if field.kind is Kind.LIST else field.meaning


def _widget(field: RecordField, text: str, *, plain: bool) -> forms.Widget:
    """The input for `text`: the browser's own type of input only if that can show the text."""
    attrs: dict[str, Any] = {"autocomplete": "off"}
    if field.required:
        attrs["required"] = True
    match field.kind:
        case Kind.BOOLEAN:
            blank = ("", "Choose one" if field.required else "Not said")
            return _select(attrs, [blank, ("true", "Yes"), ("false", "No")], text)
        case Kind.CHOICE:
            undecided = [] if field.default and text else [("", "Choose one")]
            return _select(attrs, [*undecided, *((word, word) for word in field.choices)], text)
        case Kind.LIST:
            return forms.Textarea({**attrs, "rows": max(3, min(text.count("\n") + 1, 12))})
        case Kind.LONG_TEXT:
            return forms.Textarea({**attrs, "rows": 5})
    if "\n" in lines(text):
        return forms.Textarea({**attrs, "rows": 3})
    if plain:
        return forms.TextInput(attrs)
    match field.kind:
        case Kind.INTEGER | Kind.NUMBER if not text or _HTML_NUMBER.fullmatch(text):
            step = "1" if field.kind is Kind.INTEGER else "any"
            limits = {"min": field.least, "max": field.most, "step": step}
            attrs |= {name: limit for name, limit in limits.items() if limit is not None}
            return forms.NumberInput(attrs)
        case Kind.DATETIME if not text or _is_local_datetime(text):
            return forms.TextInput({**attrs, "type": "datetime-local", "step": "1"})
        case Kind.EMAIL if text == text.strip():
            return forms.EmailInput(attrs)
    return forms.TextInput(attrs)


def _is_local_datetime(text: str) -> bool:
    if not _LOCAL_DATETIME.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:  # 30 February
        return False
    return True


def _select(attrs: dict[str, Any], choices: list[tuple[str, str]], text: str) -> forms.Select:
    """A choice. If `text` is not among the choices, it is shown too, and refused if sent."""
    if text not in (value for value, _ in choices):
        choices = [(text, f"{text} (as sent)"), *choices]
    return forms.Select(attrs, choices)
