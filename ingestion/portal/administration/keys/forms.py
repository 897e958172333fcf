"""The forms for creating and ending keys."""

from __future__ import annotations

from typing import Any

from django import forms

from ingestion.api_keys import OVERLAPS, SCOPES

_DAYS = ((30, "30 days"), (90, "90 days"), (180, "180 days"), (365, "One year"))
_OVERLAP_WORDS = {
    "none": "End at once",
    "1h": "End in 1 hour",
    "1d": "End in 1 day",
    "7d": "End in 7 days",
}


class _LifetimeForm(forms.Form):
    """How long the key is valid."""

    days = forms.TypedChoiceField(
        choices=_DAYS,
        coerce=int,
        initial=90,
        label="Good for",
        help_text="The client needs another one before it ends.",
    )


class CreateForm(_LifetimeForm):
    """The client's name, and what it may do."""

    name = forms.CharField(
        max_length=63,
        label="Name of the client",
        help_text="For example scheduler or crm-sync. All records of the client have it as their "
        "source. It cannot be changed.",
        widget=forms.TextInput({"autocomplete": "off", "autocapitalize": "none"}),
        error_messages={"required": "Name the program that will use the key."},
    )
    scopes = forms.MultipleChoiceField(
        choices=list(SCOPES.items()),
        widget=forms.CheckboxSelectMultiple,
        label="What it may do",
        error_messages={"required": "Choose at least one."},
    )
    field_order = ("name", "scopes", "days")


class RotateForm(_LifetimeForm):
    """When the existing keys end."""

    overlap = forms.ChoiceField(
        choices=[(word, _OVERLAP_WORDS[word]) for word in OVERLAPS],
        initial="1d",
        label="The old keys",
        help_text="Allow enough time to install the new key on the client.",
    )
    newest = forms.IntegerField(widget=forms.HiddenInput)
    field_order = ("days", "overlap", "newest")

    def clean_overlap(self) -> Any:
        """As a duration."""
        return OVERLAPS[self.cleaned_data["overlap"]]
