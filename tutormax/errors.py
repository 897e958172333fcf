"""Django's error handlers: pages for people in the portal, the contract's JSON everywhere else."""

from __future__ import annotations

from django.http import HttpResponse

from ingestion.api import errors as api
from ingestion.api.requests import IdentifiedRequest
from ingestion.portal import errors as portal
from ingestion.portal.policy import in_portal


def bad_request(request: IdentifiedRequest, exception: Exception) -> HttpResponse:
    """handler400."""
    answer = portal.bad_request if in_portal(request) else api.bad_request
    return answer(request, exception)


def permission_denied(request: IdentifiedRequest, exception: Exception) -> HttpResponse:
    """handler403."""
    answer = portal.permission_denied if in_portal(request) else api.permission_denied
    return answer(request, exception)


def page_not_found(request: IdentifiedRequest, exception: Exception) -> HttpResponse:
    """handler404."""
    answer = portal.page_not_found if in_portal(request) else api.page_not_found
    return answer(request, exception)


def server_error(request: IdentifiedRequest) -> HttpResponse:
    """handler500."""
    answer = portal.server_error if in_portal(request) else api.server_error
    return answer(request)
