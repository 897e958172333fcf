"""All uploads: the stock list, to search and filter."""

from __future__ import annotations

from django.contrib.admin import RelatedOnlyFieldListFilter, display
from django.contrib.humanize.templatetags.humanize import intcomma
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from ingestion.models import Upload
from ingestion.portal.lists import ListOnly

_LOOKS = {
    Upload.State.CHECK: "warn",
    Upload.State.REVIEW: "warn",
    Upload.State.INSPECTING: "info",
    Upload.State.READING: "info",
    Upload.State.QUEUEING: "info",
    Upload.State.CANCELLING: "info",
    Upload.State.DONE: "ok",
    Upload.State.FAILED: "bad",
}


_NOT_LISTED = ("findings", "verdicts", "fixes", "layout", "inspection")


class UploadAdmin(ListOnly):
    """Every file that staff uploaded. The actions on an upload are on its own page."""

    list_title = "Uploads"
    change_list_template = "portal/uploads/list.html"
    list_display = ("name", "records", "standing", "read", "to_fix", "queued", "who", "when")
    list_filter = ("state", "record_type", ("uploaded_by", RelatedOnlyFieldListFilter))
    list_select_related = ("uploaded_by",)
    search_fields = ("file_name", "sha256", "uploaded_by__username")
    date_hierarchy = "uploaded_at"
    actions = None

    def get_queryset(self, request: HttpRequest) -> QuerySet[Upload]:
        """Without the fields that only the pages of one upload show."""
        return super().get_queryset(request).defer(*_NOT_LISTED)

    @display(description="file", ordering="file_name")
    def name(self, upload: Upload) -> str:
        """Number and name, linked to the upload's page."""
        address = reverse("admin:upload", args=[upload.pk])
        return format_html(
            '<a href="{}">{}</a> <span class="quiet">#{}</span>',
            address,
            upload.file_name,
            upload.pk,
        )

    @display(description="records", ordering="record_type")
    def records(self, upload: Upload) -> str:
        """The record type."""
        return upload.record_type.path.capitalize() if upload.record_type else ""

    @display(description="state", ordering="state")
    def standing(self, upload: Upload) -> str:
        """The state, in a colour that shows who must act."""
        look = _LOOKS.get(Upload.State(upload.state), "")
        return format_html('<span class="badge {}">{}</span>', look, upload.get_state_display())

    @display(description="rows", ordering="rows_read")
    def read(self, upload: Upload) -> str:
        """The number of rows."""
        return intcomma(upload.rows_read) if upload.read_at else ""

    @display(description="to fix", ordering="rows_invalid")
    def to_fix(self, upload: Upload) -> str:
        """The number of rows that need fixing."""
        return intcomma(upload.rows_invalid) if upload.rows_invalid else ""

    @display(description="queued", ordering="rows_queued")
    def queued(self, upload: Upload) -> str:
        """The number of queued rows."""
        return intcomma(upload.rows_queued) if upload.rows_queued else ""

    @display(description="who", ordering="uploaded_by__username")
    def who(self, upload: Upload) -> str:
        """Who uploaded it."""
        return upload.uploaded_by.get_username() if upload.uploaded_by else ""

    @display(description="when", ordering="uploaded_at")
    def when(self, upload: Upload) -> str:
        """The time of the upload, in UTC."""
        return f"{upload.uploaded_at:%Y-%m-%d %H:%M}"
