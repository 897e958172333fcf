"""The forms of the upload pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from django import forms
from django.conf import settings
from django.core.files.base import ContentFile, File
from django.template.defaultfilters import filesizeformat

from ingestion.cells import DateOrder, Notation
from ingestion.file_rows import Layout
from ingestion.portal.record_fields import record_fields
from ingestion.records import RECORD_TYPES, RecordType
from ingestion.uploads.inspection import Inspection, Question

_LAST_LINE = 10_000


class UploadForm(forms.Form):
    """A file or pasted rows, and optionally their record type."""

    record_type = forms.ChoiceField(
        required=False, choices=[("", ""), *((path, path) for path in RECORD_TYPES)]
    )
    file = forms.FileField(required=False)
    rows = forms.CharField(
        required=False,
        strip=False,
        widget=forms.Textarea({"rows": 6, "class": "code", "spellcheck": "false"}),
    )

    def clean(self) -> dict[str, Any]:
        """One file, within the limit."""
        found = super().clean() or {}
        file, rows = found.get("file"), found.get("rows") or ""
        if "file" in self.errors:
            return found
        if file is None and not rows.strip():
            raise forms.ValidationError("Choose a file, or paste rows.")
        if file is not None and rows.strip():
            raise forms.ValidationError("Choose a file or paste rows, not both.")
        if file is not None and file.size > settings.MAX_UPLOAD_BYTES:
            limit = filesizeformat(settings.MAX_UPLOAD_BYTES)
            raise forms.ValidationError(f"The file is larger than {limit}. Split it.")
        return found

    @property
    def chosen_type(self) -> RecordType | None:
        """The chosen type; None if the file should tell it."""
        return RECORD_TYPES.get(self.cleaned_data["record_type"])

    @property
    def content(self) -> tuple[File[bytes], str]:
        """The content that was sent, and its name."""
        file = self.cleaned_data["file"]
        if file is not None:
            return file, file.name
        rows: str = self.cleaned_data["rows"]
        # The mark states the encoding of the pasted rows for certain.
        return ContentFile(rows.encode("utf-8-sig", errors="replace")), "pasted rows"


class CheckForm(forms.Form):
    """How a file is read: what was found, and what staff may change."""

    def __init__(self, found: Inspection, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(data)
        self.found = found
        layout = found.layout
        types = [(path, one.title.capitalize()) for path, one in RECORD_TYPES.items()]
        blank = [] if found.record_type else [("", "Choose one")]
        self._add(
            "record_type", "Records", [*blank, *types], found.record_type and found.record_type.path
        )
        shape = layout.shape
        for option in layout.format.options:
            self._add(option.name, option.label, option.choices.items(), shape.options[option.name])
        if found.sheets:
            self._add("sheet", "Sheet", [(name, name) for name in found.sheets], shape.sheet)
        if layout.format.is_table:
            self.fields["header_line"] = forms.IntegerField(
                label="Line with the column names",
                min_value=1,
                max_value=_LAST_LINE,
                initial=shape.header_line,
            )
            self._add_notation(layout.notation)
            self._add_columns()

    @property
    def structure(self) -> Iterator[forms.BoundField]:
        """All fields of the form except the columns."""
        return (self[name] for name in self.fields if not name.startswith("column-"))

    @property
    def columns(self) -> Iterator[tuple[Any, forms.BoundField]]:
        """Each column of the file, with the field for its choice."""
        return ((column, self[f"column-{at}"]) for at, column in enumerate(self.found.columns))

    @property
    def chosen_type(self) -> RecordType:
        """The chosen type."""
        return RECORD_TYPES[self.cleaned_data["record_type"]]

    @property
    def layout(self) -> Layout:
        """The choices, with the columns."""
        chosen = self.cleaned_data
        layout = self.found.layout
        if not layout.format.is_table:
            return layout
        shape = replace(
            layout.shape,
            sheet=chosen.get("sheet", ""),
            header_line=chosen["header_line"],
            options={option.name: chosen[option.name] for option in layout.format.options},
        )
        order = chosen["date_order"]
        return replace(
            layout,
            shape=shape,
            notation=Notation(
                date_order=DateOrder(order) if order else None,
                decimal_comma=chosen["decimal"] == ",",
            ),
            columns=tuple(chosen[f"column-{at}"] or None for at in range(len(self.found.columns))),
        )

    @property
    def changes_structure(self) -> bool:
        """Whether the columns must be found again."""
        options = (option.name for option in self.found.layout.format.options)
        names = ("record_type", "sheet", "header_line", *options)
        return any(name in self.changed_data for name in names)

    def clean(self) -> dict[str, Any]:
        """No field twice, and an order for the dates."""
        found = super().clean() or {}
        taken: dict[str, str] = {}
        for at, column in enumerate(self.found.columns):
            field = found.get(f"column-{at}")
            if field and field in taken and not self.changes_structure:
                self.add_error(f"column-{at}", f"“{taken[field]}” is already this field.")
            elif field:
                taken[field] = column.name
        return found

    def _add(self, name: str, label: str, choices: Any, initial: Any) -> None:
        self.fields[name] = forms.ChoiceField(label=label, choices=list(choices), initial=initial)

    def _add_notation(self, notation: Notation) -> None:
        asked = Question.DATE_ORDER in self.found.questions
        none = "Choose one" if asked else "No such dates, or year first: 2026-04-03"
        self.fields["date_order"] = forms.ChoiceField(
            label="Dates like 03/04/2026 are",
            choices=[
                ("", none),
                (DateOrder.DAY, "3 April: the day comes first"),
                (DateOrder.MONTH, "March 4: the month comes first"),
            ],
            required=asked and "look" not in self.data,
            initial=notation.date_order or "",
            error_messages={"required": "Say which comes first: the file does not show it."},
        )
        self.fields["decimal"] = forms.ChoiceField(
            label="Decimal mark",
            choices=[(".", "Point: 0.92"), (",", "Comma: 0,92")],
            initial="," if notation.decimal_comma else ".",
        )

    def _add_columns(self) -> None:
        record_type = self.found.record_type or next(iter(RECORD_TYPES.values()))
        fields: Sequence[tuple[str, str]] = [
            (field.name, f"{field.name} *" if field.required else field.name)
            for field in record_fields(record_type)
        ]
        for at, column in enumerate(self.found.columns):
            self.fields[f"column-{at}"] = forms.ChoiceField(
                label=column.name or f"Column {at + 1}",
                choices=[("", "Not used"), *fields],
                required=False,
                initial=column.field or "",
            )


def layout_words(found: Layout) -> str:
    """The layout in a few words: "CSV, UTF-8, separated by semicolon"."""
    shape = found.shape
    words = [found.format.title, *found.format.words(shape)]
    if shape.sheet:
        words.append(f"sheet “{shape.sheet}”")
    if shape.header_line > 1:
        words.append(f"column names in line {shape.header_line}")
    if found.notation.date_order:
        words.append(f"{found.notation.date_order} first in dates")
    if found.notation.decimal_comma:
        words.append("decimal comma")
    return ", ".join(words)
