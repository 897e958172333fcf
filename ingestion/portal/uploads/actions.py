"""The actions of staff on an upload: queue it, cancel it, continue it, recall its rows."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.humanize.templatetags.humanize import intcomma
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect

from ingestion.models import Activity, Upload
from ingestion.outcomes import StoreError
from ingestion.portal import activity
from ingestion.portal.pages import portal_view
from ingestion.portal.store_changes import store_change, tell_failure
from ingestion.portal.uploads.access import not_now, own_upload
from ingestion.uploads import actions
from ingestion.uploads.actions import NotNowError


@portal_view("upload_files", methods=["POST"])
def queue(request: HttpRequest, number: int) -> HttpResponse:
    """POST /admin/uploads/<n>/queue: queue the ready rows."""
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
        # The number of queued rows is known when the worker has ended.
        activity.record(
            request, Activity.Action.CANCELLED, record_type=upload.record_type, upload=upload
        )
        messages.info(
            request,
            "No more rows will be queued. Soon this page shows how many rows were queued.",
        )
    return redirect("admin:upload", number)


@portal_view("upload_files", methods=["POST"])
def retry(request: HttpRequest, number: int) -> HttpResponse:
    """POST /admin/uploads/<n>/retry: continue an upload that failed."""
    try:
        actions.retry(own_upload(request, number))
    except NotNowError:
        return not_now(request, number)
    return redirect("admin:upload", number)


@portal_view("recall_rows", methods=["POST"])
def recall(request: HttpRequest, number: int) -> HttpResponse:
    """POST /admin/uploads/<n>/recall: take the rows that nobody has read off the queue."""
    upload = get_object_or_404(Upload, pk=number)
    reason = request.POST.get("reason", "")[:500]
    try:
        with store_change(
            request,
            Activity.Action.RECALLED,
            record_type=upload.record_type,
            upload=upload,
            reason=reason,
            in_slices=True,
        ) as change:
            count = change.facts["rows"] = actions.recall(upload)
    except NotNowError:
        return not_now(request, number)
    except StoreError as fault:
        tell_failure(request, fault, where="upload")
        return redirect("admin:upload", number)
    if count:
        messages.success(request, f"{intcomma(count)} rows were taken off the queue.")
    else:
        messages.info(request, "No row was left on the queue: consumers have read all of them.")
    return redirect("admin:upload", number)


def _note(request: HttpRequest, what: Activity.Action, upload: Upload, rows: int) -> None:
    facts = {"rows": rows}
    activity.record(request, what, record_type=upload.record_type, upload=upload, facts=facts)
