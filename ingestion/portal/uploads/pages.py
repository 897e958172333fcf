"""The pages for a file from staff, in order: upload, check, review, receipt."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse

from ingestion.files import error_columns
from ingestion.files.registry import FORMATS
from ingestion.models import Activity, Upload
from ingestion.portal import activity
from ingestion.portal.pages import page, portal_view
from ingestion.portal.record_fields import record_fields
from ingestion.portal.uploads.access import may_act, not_now, own_upload
from ingestion.portal.uploads.forms import CheckForm, UploadForm, layout_words
from ingestion.portal.uploads.state import bad_rows, causes, progress, timeline
from ingestion.records import RECORD_TYPES
from ingestion.uploads import actions, inspection, layouts
from ingestion.uploads.actions import NotNowError
from ingestion.uploads.inspection import Question

State = Upload.State


@portal_view("upload_files", methods=["GET", "HEAD", "POST"])
def new_upload(request: HttpRequest) -> HttpResponse:
    """GET and POST /admin/upload/."""
    form = UploadForm(request.POST or None, request.FILES or None)
    # Only people who may act on an upload may upload its corrected rows.
    number = _number(request.POST.get("fixes") or request.GET.get("fixes"))
    parent = own_upload(request, number) if number else None
    if request.method == "POST" and form.is_valid():
        content, name = form.content
        upload = actions.create(
            content, name, request.user.pk, record_type=form.chosen_type, parent=parent
        )
        activity.record(
            request,
            Activity.Action.UPLOADED,
            record_type=upload.record_type,
            upload=upload,
            facts={"bytes": upload.size_bytes},
        )
        return redirect("admin:upload", upload.pk)
    status = HTTPStatus.UNPROCESSABLE_ENTITY if form.errors else HTTPStatus.OK
    return page(
        request,
        "portal/uploads/new.html",
        title="New upload",
        context={
            "form": form,
            "record_types": [
                (record_type, record_fields(record_type)) for record_type in RECORD_TYPES.values()
            ],
            "formats": FORMATS,
            "parent": parent,
            "max_bytes": settings.MAX_UPLOAD_BYTES,
            "max_rows": settings.MAX_UPLOAD_ROWS,
            "keep_days": settings.UPLOAD_KEEP_DAYS,
        },
        status=status,
    )


@portal_view("view_portal")
def upload(request: HttpRequest, number: int) -> HttpResponse:
    """GET /admin/uploads/<n>/: the next step of the upload, and its receipt at the end."""
    one = get_object_or_404(Upload.objects.select_related("uploaded_by", "parent"), pk=number)
    if one.state == State.CHECK and may_act(request, one):
        return redirect("admin:upload-check", number)
    review = one.state == State.REVIEW
    return page(
        request,
        "portal/uploads/review.html" if review else "portal/uploads/upload.html",
        title=f"Upload {number}",
        context=_upload_context(request, one),
    )


@portal_view("view_portal")
def upload_progress(request: HttpRequest, number: int) -> HttpResponse:
    """GET /admin/uploads/<n>/progress: the current numbers, for the script of the page."""
    return JsonResponse(progress(get_object_or_404(Upload, pk=number)).as_json())


@portal_view("upload_files", methods=["GET", "HEAD", "POST"])
def upload_check(request: HttpRequest, number: int) -> HttpResponse:
    """GET and POST /admin/uploads/<n>/check/."""
    one = own_upload(request, number)
    if one.confirmed_at is not None or one.state not in (State.CHECK, State.REVIEW, State.FAILED):
        return redirect("admin:upload", number)
    found = actions.found(one)
    if found is None:
        return redirect("admin:upload", number)
    form = CheckForm(found, request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            if answer := _answer(request, one, form):
                return answer
        except NotNowError:
            return not_now(request, number)
        else:
            form.add_error("date_order", "Say which comes first: the file does not show it.")
    status = HTTPStatus.UNPROCESSABLE_ENTITY if form.errors else HTTPStatus.OK
    return page(
        request,
        "portal/uploads/check.html",
        title="Check",
        crumbs=[(f"Upload {number}", reverse("admin:upload", args=[number]))],
        context={
            "upload": one,
            "found": found,
            "form": form,
            "questions": found.questions,
            "options": found.layout.format.options,
            "layout": layout_words(found.layout),
        },
        status=status,
    )


@portal_view("view_portal")
def upload_file(request: HttpRequest, number: int, which: str) -> FileResponse:
    """GET /admin/uploads/<n>/<original or to-fix>: a download, never a page."""
    one = get_object_or_404(Upload, pk=number)
    if not may_act(request, one):
        raise PermissionDenied
    file = one.file if which == "original" else one.error_file
    if not file:
        raise Http404
    layout = layouts.from_json(one.layout)
    stem = PurePosixPath(one.file_name).stem
    name = one.file_name
    if which != "original" and layout is not None:
        name = f"{stem}-to-fix.{layout.format.name}"
    return FileResponse(
        file.open("rb"), as_attachment=True, filename=name, content_type="application/octet-stream"
    )


def _answer(request: HttpRequest, one: Upload, form: CheckForm) -> HttpResponse | None:
    """Apply the choices; None if the date order must be asked for first."""
    if form.changes_structure or "look" in request.POST:
        actions.look_again(one, form.chosen_type, form.layout)
        if "look" not in request.POST:
            messages.info(request, "The file is now read differently: check its columns again.")
        return redirect("admin:upload", one.pk)
    answered = inspection.answered(form.found, form.chosen_type, form.layout)
    if Question.DATE_ORDER in answered.questions:
        return None
    actions.answer(one, answered)
    return redirect("admin:upload", one.pk)


def _upload_context(request: HttpRequest, one: Upload) -> Mapping[str, Any]:
    acts = may_act(request, one)
    sees_rows = acts or request.user.has_perm("ingestion.see_payloads")
    layout = layouts.from_json(one.layout)
    same = Upload.objects.filter(sha256=one.sha256).exclude(pk=one.pk).order_by("-pk")
    children = list(one.children.order_by("pk"))
    header = one.findings.get("header", [])
    columns = (layout and layout.columns) or ()
    added = (error_columns.added(header) or ()) if layout and layout.armed else ()
    unused = [
        name
        for at, (name, field) in enumerate(zip(header, columns, strict=False))
        if name.strip() and not field and at not in added
    ]
    return {
        "upload": one,
        "record_type": one.record_type,
        "may_act": acts,
        "sees_rows": sees_rows,
        "layout": layout_words(layout) if layout else "",
        "is_table": layout is not None and layout.format.is_table,
        "is_lines": layout is None or layout.format.has_lines,
        "checkable": bool(one.inspection),
        "dropped": unused,
        "progress": progress(one),
        "timeline": timeline(one),
        "causes": causes(one),
        "bad_rows": bad_rows(one) if sees_rows else [],
        "good_rows": one.findings.get("good", []) if sees_rows else [],
        "duplicates": one.findings.get("duplicates", []),
        "header": header,
        "same": same[:5],
        "children": children,
        "fixed_rows": sum(child.rows_queued for child in children),
        "keep_days": settings.UPLOAD_KEEP_DAYS,
        "fixable": any(row.get("fields") is not None for row in one.findings.get("bad", [])),
    }


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else 0
