"""A form for one record, made from the serializer; it converts what is typed and judges nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django import forms

from ingestion.cells import converter
from ingestion.outcomes import FieldError
from ingestion.portal.record_fields import Kind, RecordField, record_fields
from ingestion.records import RecordType

# What the browser's own input for date and time can show; an offset or finer fractions it drops.
_LOCAL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,3})?)?")
# It leaves seconds out where they are zero.
_WITHOUT_SECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d")


class EntryForm(forms.Form):
    """The fields of one record type: `data` is what was posted, `record` what to begin with."""

    def __init__(
        self,
        record_type: RecordType,
        data: Mapping[str, Any] | None = None,
        *,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        self._record_fields = record_fields(record_type)
        self._converters = {
            name: converter(field) for name, field in record_type.serializer_class().fields.items()
        }
        super().__init__(data)
        for field in self._record_fields:
            begin = _begin(field, (record or {}).get(field.name, field.default))
            shown = begin if data is None else data.get(field.name)
            self.fields[field.name] = forms.Field(
                required=False,
                label=field.label,
                help_text=_hint(field),
                initial=begin,
                widget=_widget(field, shown),
            )

    def record(self) -> dict[str, Any]:
        """What was filled in, as a record; what was left empty is absent."""
        self.full_clean()
        found: dict[str, Any] = {}
        for field in self._record_fields:
            typed = self.cleaned_data[field.name]
            if isinstance(typed, bool):
                found[field.name] = typed
            elif typed and typed.strip():
                found[field.name] = self._value(field, typed)
        return found

    def refuse(self, errors: tuple[FieldError, ...]) -> None:
        """Put the validator's messages beside the fields that they are about."""
        for error in errors:
            name, _, rest = (error.field or "").partition("[")
            message = error.message
            if rest:
                message = f"Entry {int(rest.rstrip(']')) + 1}: {message}"
            self.add_error(name or None, message)

    def _value(self, field: RecordField, typed: str) -> Any:
        if field.kind is Kind.LIST:
            return [line.strip() for line in typed.splitlines() if line.strip()]
        if field.kind is Kind.LONG_TEXT:
            return typed.replace("\r\n", "\n")
        typed = typed.strip()
        if field.kind is Kind.DATETIME and _WITHOUT_SECONDS.fullmatch(typed):
            typed += ":00"
        return self._converters[field.name](typed)


def _begin(field: RecordField, value: Any) -> Any:
    """A value of a record as its input shows it."""
    if isinstance(value, list):
        return "\n".join(map(str, value))
    if isinstance(value, bool) and not field.required:
        return "true" if value else "false"
    return value


def _hint(field: RecordField) -> str:
    bounded = field.kind in (Kind.INTEGER, Kind.NUMBER) and field.most is not None
    if bounded and "from" not in field.meaning:
        return f"{field.meaning} {field.rule.capitalize()}."
    return f"{field.meaning} One entry a line." if field.kind is Kind.LIST else field.meaning


def _widget(field: RecordField, value: Any) -> forms.Widget:
    attrs: dict[str, Any] = {"autocomplete": "off"}
    if field.required:
        attrs["required"] = True
    match field.kind:
        case Kind.BOOLEAN if field.required:
            return forms.CheckboxInput()
        case Kind.BOOLEAN:
            words = [("", "Not said"), ("true", "Yes"), ("false", "No")]
            return forms.Select(attrs, words)
        case Kind.CHOICE:
            blank = [] if field.default else [("", "Choose one")]
            return forms.Select(attrs, [*blank, *((word, word) for word in field.choices)])
        case Kind.LIST:
            return forms.Textarea({**attrs, "rows": 3})
        case Kind.LONG_TEXT:
            return forms.Textarea({**attrs, "rows": 5})
        case Kind.INTEGER | Kind.NUMBER:
            step = "1" if field.kind is Kind.INTEGER else "any"
            limits = {"min": field.least, "max": field.most, "step": step}
            attrs |= {name: limit for name, limit in limits.items() if limit is not None}
            return forms.NumberInput(attrs)
        case Kind.DATETIME if not value or _LOCAL.fullmatch(str(value)):
            return forms.TextInput({**attrs, "type": "datetime-local", "step": "1"})
        case Kind.EMAIL:
            return forms.EmailInput(attrs)
    return forms.TextInput(attrs)
