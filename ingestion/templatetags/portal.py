"""`{% load portal %}`: the icons and the wording of durations that all pages share."""

from __future__ import annotations

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


@register.simple_tag
def icon(name: str) -> SafeString:
    """An icon of `templates/portal/icons.html`. It says nothing to a screen reader: words do."""
    return format_html('<svg class="icon" aria-hidden="true"><use href="#i-{}"/></svg>', name)


@register.filter
def duration(seconds: float | None) -> str:
    """Seconds as people say them, the two largest units: `4 min 10 s`, `3 h 5 min`, `2 d 1 h`.

    Nothing for None.
    """
    if seconds is None:
        return ""
    rest = int(seconds)
    parts: list[tuple[int, str]] = []
    for size, unit in _UNITS:
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append((count, unit))
    parts.append((rest, "s"))
    return " ".join(f"{count} {unit}" for count, unit in parts[:2] if count) or "0 s"
