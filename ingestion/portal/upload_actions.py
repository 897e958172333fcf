"""What staff do with an upload: queue it, cancel it, fix rows, go on, take rows back."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from django.contrib import messages
from django.contrib.humanize.templatetags.humanize import intcomma
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse

from ingestion.models import Activity, Upload
from ingestion.outcomes import FieldCode, FieldError, StoreError, trouble
from ingestion.portal import activity
from ingestion.portal.pages import page, portal_view
from ingestion.portal.record_fields import RecordField, record_fields
from ingestion.portal.upload_pages import not_now, own_upload
from ingestion.portal.upload_state import field_root
from ingestion.uploads import actions
from ingestion.uploads.actions import NotNowError

# A rule between two fields may be mended in either.
_PARTNERS = {
    FieldCode.FIRST_SESSION_MISMATCH: "session_number",
    FieldCode.NO_SHOW_HAS_START: "no_show",
    FieldCode.FIRST_SESSION_ONLY: "is_first_session",
}


@portal_view("upload_files", methods=["POST"])
def queue(request: HttpRequest, number: int) -> HttpResponse:
    """POST /admin/uploads/<n>/queue: the ready rows go onto the queue."""
    upload = own_upload(request, number)
    try:
        actions.confirm(upload)
    except NotNowError:
        return not_now(request, number)
    _note(request, Activity.Action.QUEUED, upload, upload.rows_ready)
    return redirect("admin:upload", number)


@portal_view("upload_files", methods=["POST"])
def cancel(request: HttpRequest, number: int) -> HttpResponse:
    """POST /admin/uploads/<n>/cancel."""
    upload = own_upload(request, number)
    try:
        actions.cancel(upload)
    except NotNowError:
        return not_now(request, number)
    if upload.state == Upload.State.CANCELLED:
        _note(request, Activity.Action.CANCELLED, upload, 0)
        messages.success(request, "Cancelled: nothing of this file was queued.")
    else:
        # How many rows are queued is known once the worker has ended.
        activity.record(request, Activity.Action.CANCELLED, record_type=upload.kind, upload=upload)
        messages.info(
            request,
            "No more rows will be queued. In a moment this page tells how many are queued already.",
        )
    return redirect("admin:upload", number)


@portal_view("upload_files", methods=["POST"])
def retry(request: HttpRequest, number: int) -> HttpResponse:
    """POST /admin/uploads/<n>/retry: go on with an upload that failed."""
    try:
        actions.retry(own_upload(request, number))
    except NotNowError:
        return not_now(request, number)
    return redirect("admin:upload", number)


@portal_view("recall_rows", methods=["POST"])
def recall(request: HttpRequest, number: int) -> HttpResponse:
    """POST /admin/uploads/<n>/recall: rows that nobody has read come off the queue."""
    upload = get_object_or_404(Upload, pk=number)
    try:
        count = actions.recall(upload)
    except NotNowError:
        return not_now(request, number)
    except StoreError as fault:
        messages.error(request, f"Nothing is known to be recalled: {trouble(fault)}")
        return redirect("admin:upload", number)
    reason = request.POST.get("reason", "")[:500]
    _note(request, Activity.Action.RECALLED, upload, count, reason=reason)
    if count:
        messages.success(request, f"{intcomma(count)} rows are off the queue.")
    else:
        messages.info(request, "No row was left on the queue: all are read already.")
    return redirect("admin:upload", number)


@portal_view("upload_files", methods=["GET", "HEAD", "POST"])
def fix(request: HttpRequest, number: int) -> HttpResponse:
    """GET and POST /admin/uploads/<n>/fix: the first bad rows, to be corrected in place."""
    upload = own_upload(request, number)
    if upload.state != Upload.State.REVIEW or upload.kind is None:
        return not_now(request, number)
    rows = [_FixRow(row, record_fields(upload.kind)) for row in upload.findings.get("bad", [])]
    rows = [row for row in rows if row.inputs]
    beyond = upload.rows_invalid - len(rows)
    if request.method == "POST":
        corrections = {row.line: row.typed(request) for row in rows}
        changed = {line: texts for line, texts in corrections.items() if texts}
        try:
            refused = actions.fix(upload, changed)
        except NotNowError:
            return not_now(request, number)
        count = len(changed) - len(refused)
        if count:
            _note(request, Activity.Action.FIXED, upload, count)
        if not refused:
            words = f"{count} rows fixed." if count != 1 else "1 row fixed."
            messages.success(request, words if count else "Nothing was changed.")
            return redirect("admin:upload", number)
        rows = [row.refused(refused[row.line], request) for row in rows if row.line in refused]
        if count:
            messages.success(request, f"{count} fixed; {len(refused)} still need a look.")
    return page(
        request,
        "portal/upload_fix.html",
        title="Fix rows",
        crumbs=[(f"Upload {number}", reverse("admin:upload", args=[number]))],
        context={"upload": upload, "rows": rows, "more": beyond},
        status=HTTPStatus.UNPROCESSABLE_ENTITY if request.method == "POST" else HTTPStatus.OK,
    )


def _note(
    request: HttpRequest, what: Activity.Action, upload: Upload, rows: int, *, reason: str = ""
) -> None:
    activity.record(
        request,
        what,
        record_type=upload.kind,
        upload=upload,
        reason=reason,
        facts={"rows": rows},
    )


class _FixRow:
    """A bad row as inputs: the fields at fault, and those that a broken rule joins them to."""

    def __init__(self, row: dict[str, Any], fields: list[RecordField]) -> None:
        self.line: int = row["line"]
        self._fields = {field.name: field for field in fields}
        self._values: dict[str, str] = row["fields"] or {}
        errors = [
            FieldError(field=field or None, code=FieldCode(code), message=message)
            for field, code, message in row["errors"]
        ]
        self.name = self._values.get(fields[0].name, "")
        self.inputs = [] if row["fields"] is None else self._inputs(errors, self._values)

    def typed(self, request: HttpRequest) -> dict[str, str]:
        """What was changed, by field."""
        return {
            one["field"].name: text
            for one in self.inputs
            if (text := request.POST.get(one["name"])) is not None and text != one["value"]
        }

    def refused(self, errors: tuple[FieldError, ...], request: HttpRequest) -> _FixRow:
        """The same row with what was typed, and why that is still not valid."""
        self.inputs = self._inputs(list(errors), {**self._values, **self.typed(request)})
        return self

    def _inputs(self, errors: list[FieldError], values: dict[str, str]) -> list[dict[str, Any]]:
        messages: dict[str, list[str]] = {}
        for error in errors:
            messages.setdefault(field_root(error.field or ""), []).append(error.message)
            if partner := _PARTNERS.get(error.code):
                messages.setdefault(partner, [])
        return [
            {
                "name": f"fix-{self.line}-{name}",
                "field": self._fields[name],
                "value": values.get(name, ""),
                "messages": found,
            }
            for name, found in messages.items()
            if name in self._fields
        ]
