"""What staff must say before they change something."""

from __future__ import annotations

from django import forms


class ReasonForm(forms.Form):
    """Why."""

    reason = forms.CharField(
        max_length=300,
        help_text="It stays in the activity log under your name.",
        widget=forms.TextInput({"autocomplete": "off"}),
        error_messages={"required": "Give a reason, so that others know why."},
    )
