"""The keys of API clients."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from ingestion.portal.pages import page, portal_view


@portal_view("manage_keys")
def keys(request: HttpRequest) -> HttpResponse:
    """GET /admin/keys/."""
    return page(request, "portal/keys.html", title="Keys")
