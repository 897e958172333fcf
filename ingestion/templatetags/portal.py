"""`{% load portal %}`: the icons and words that all pages share."""

from __future__ import annotations

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from ingestion.files import registry
from ingestion.times import duration

register = template.Library()


@register.simple_tag
def icon(name: str) -> SafeString:
    """An icon of `templates/portal/icons.html`. Screen readers read only the words beside it."""
    return format_html('<svg class="icon" aria-hidden="true"><use href="#i-{}"/></svg>', name)


register.filter("duration", duration)
register.simple_tag(registry.titles, name="file_formats")
