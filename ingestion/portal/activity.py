"""Who did what: one function to note it, and the page that shows it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from typing import Any

from django.contrib.admin import RelatedOnlyFieldListFilter, action, display
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.timezone import now

from ingestion.formulas import guarded
from ingestion.models import Activity, Upload
from ingestion.portal.lists import ListOnly
from ingestion.records import RecordType

_COLUMNS = ("at", "who", "what", "record type", "upload", "reason", "facts")
# Of longer ids so much is shown; all of it stands in the export.
_LONGEST_WORD = 20
_SHOWN_CHARACTERS = 8


def record(
    request: HttpRequest,
    what: Activity.Action,
    *,
    record_type: RecordType | None = None,
    upload: Upload | None = None,
    reason: str = "",
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Note that the signed-in person did `what`, once it is done.

    `facts` are counts and ids; never what a record holds.
    """
    person = request.user
    if not isinstance(person, User):
        raise TypeError("Only somebody who is signed in does things in the portal.")
    Activity.objects.create(
        user=person,
        user_name=person.get_username(),
        action=what,
        record_type=record_type.path if record_type else "",
        upload=upload,
        reason=_storable(reason),
        facts={name: _storable(value) for name, value in (facts or {}).items()},
    )


def _storable(value: Any) -> Any:
    # PostgreSQL stores no NUL. An id that a stranger put on a queue may hold one.
    return value.replace("\x00", "\ufffd") if isinstance(value, str) else value


class ActivityAdmin(ListOnly):
    """The log to read, to search and to take along; nothing in it can be changed."""

    list_title = "Activity"
    change_list_template = "portal/activity.html"
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
        """The upload, linked to its page, or else the record type."""
        if entry.upload is None:
            return entry.get_record_type_display()
        address = reverse("admin:upload", args=[entry.upload.pk])
        return format_html('<a href="{}">{}</a>', address, entry.upload.file_name)

    @display(description="details")
    def details(self, entry: Activity) -> str:
        """The facts by their names, whose order no database keeps; of a long id its beginning."""
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
    """A file for `csv.writer` that hands each line back to who writes it."""

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
            entry.record_type,
            entry.upload.file_name if entry.upload else "",
            entry.reason,
            json.dumps(entry.facts, ensure_ascii=False, sort_keys=True) if entry.facts else "",
        )
        yield write([guarded(cell) for cell in cells])
