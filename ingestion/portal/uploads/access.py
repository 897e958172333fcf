"""Who may act on an upload, and what people see if it has changed meanwhile."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect

from ingestion.models import Upload


def may_act(request: HttpRequest, one: Upload) -> bool:
    """Whether the signed-in person may act on this upload and see its rows."""
    has_right = request.user.has_perm("ingestion.upload_files")
    is_own = one.uploaded_by_id == request.user.pk
    return has_right and (is_own or request.user.has_perm("ingestion.manage_uploads"))


def own_upload(request: HttpRequest, number: int) -> Upload:
    """The upload, if the person may act on it; otherwise 403."""
    one = get_object_or_404(Upload, pk=number)
    if not may_act(request, one):
        raise PermissionDenied
    return one


def not_now(request: HttpRequest, number: int) -> HttpResponse:
    """Go back to the upload, which has changed."""
    messages.warning(request, "This is no longer possible: the upload has changed.")
    return redirect("admin:upload", number)
