"""The page that shows who did what, and its export."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator

from django.contrib.admin import RelatedOnlyFieldListFilter, action, display
from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.timezone import now

from ingestion.formulas import escape_formulas
from ingestion.models import Activity
from ingestion.portal.lists import ListOnly

_COLUMNS = ("at", "who", "what", "record type", "upload", "reason", "facts")
# Longer ids are cut to this length; the export holds them in full.
_LONGEST_WORD = 20
_SHOWN_CHARACTERS = 8


class ActivityAdmin(ListOnly):
    """The log to read, search and export; nothing in it can be changed."""

    list_title = "Activity"
    change_list_template = "portal/administration/activity.html"
    list_display = ("when", "user_name", "what", "about", "reason", "details")
    list_filter = ("action", "record_type", ("user", RelatedOnlyFieldListFilter))
    list_select_related = ("upload",)
    search_fields = ("user_name", "reason", "upload__file_name")
    date_hierarchy = "at"
    actions = ("export",)

    @display(description="when", ordering="at")
    def when(self, entry: Activity) -> str:
        """To the second, in UTC."""
        return f"{entry.at:%Y-%m-%d %H:%M:%S}"

    @display(description="what", ordering="action")
    def what(self, entry: Activity) -> str:
        """What was done, in words."""
        return entry.get_action_display()

    @display(description="about")
    def about(self, entry: Activity) -> str:
        """The upload with a link to its page, or else the record type."""
        if entry.upload is None:
            return entry.record_type.title if entry.record_type else ""
        address = reverse("admin:upload", args=[entry.upload.pk])
        return format_html('<a href="{}">{}</a>', address, entry.upload.file_name)

    @display(description="details")
    def details(self, entry: Activity) -> str:
        """The facts, sorted by name because databases keep no order; long ids are cut."""
        return format_html_join(
            ", ",
            "{} {}",
            (
                (name.replace("_", " "), _shown(str(value)))
                for name, value in sorted(entry.facts.items())
            ),
        )

    @action(description="Export as CSV")
    def export(self, request: HttpRequest, queryset: QuerySet[Activity]) -> StreamingHttpResponse:
        """The entries as CSV, in the list's order."""
        return StreamingHttpResponse(
            _csv(queryset.select_related("upload")),
            content_type="text/csv; charset=utf-8",
            headers={
                "Content-Disposition": f'attachment; filename="activity-{now():%Y-%m-%d}.csv"'
            },
        )


def _shown(value: str) -> str:
    if " " in value or len(value) <= _LONGEST_WORD:
        return value
    return format_html('<span title="{}">{}…</span>', value, value[:_SHOWN_CHARACTERS])


class _Line:
    """A file for `csv.writer` that returns each line to the caller that writes it."""

    def write(self, text: str) -> str:
        return text


def _csv(entries: QuerySet[Activity]) -> Iterator[str]:
    write = csv.writer(_Line(), quoting=csv.QUOTE_ALL).writerow
    yield "\ufeff" + write(_COLUMNS)  # the mark lets Excel read UTF-8
    for entry in entries.iterator():
        cells = (
            entry.at.isoformat(),
            entry.user_name,
            entry.get_action_display(),
            entry.record_type.path if entry.record_type else "",
            entry.upload.file_name if entry.upload else "",
            entry.reason,
            json.dumps(entry.facts, ensure_ascii=False, sort_keys=True) if entry.facts else "",
        )
        yield write([escape_formulas(cell) for cell in cells])
