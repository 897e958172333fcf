"""What staff must say before they change a queue: a reason, and how many or how long."""

from __future__ import annotations

from typing import Any

from django import forms

from ingestion.portal.forms import ReasonForm

_LASTING = (
    ("", "Until somebody resumes it"),
    ("15", "For 15 minutes"),
    ("60", "For 1 hour"),
    ("240", "For 4 hours"),
    ("1440", "For 24 hours"),
)


class PauseForm(ReasonForm):
    """Why, and for how long."""

    minutes = forms.TypedChoiceField(
        choices=_LASTING, coerce=int, empty_value=None, required=False, label="How long"
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["reason"].help_text = "Senders and all staff can see it. It is logged."


class PutBackForm(ReasonForm):
    """A reason, which is optional."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["reason"].required = False
        self.fields["reason"].label = "Reason (optional)"


class DiscardForm(ReasonForm):
    """A reason, and the count, which must be typed so that nobody discards by mistake."""

    def __init__(self, *args: Any, chosen: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._chosen = chosen
        self.fields["count"] = forms.IntegerField(
            label=f"Type {chosen} to confirm",
            widget=forms.TextInput({"autocomplete": "off", "inputmode": "numeric"}),
            error_messages={
                "required": f"Type {chosen}, the number of messages.",
                "invalid": f"Type {chosen}, the number of messages.",
            },
        )

    def clean_count(self) -> int:
        """The typed number; it must be the number of chosen messages."""
        count: int = self.cleaned_data["count"]
        if count != self._chosen:
            raise forms.ValidationError(
                f"{self._chosen} messages are selected: type {self._chosen}."
            )
        return count
