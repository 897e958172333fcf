"""What every request gets: an id, and one line in the log."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
from django.conf import settings
from django.http import HttpResponse

from ingestion.api.requests import IdentifiedRequest
from tutormax.request_id import request_id

logger = structlog.get_logger(__name__)


class RequestLogMiddleware:
    """Gives each request its `request_id`, repeats it in `X-Request-ID`, and logs the request.

    A view may leave facts for the line, like counts, in `request.log_facts`.
    """

    def __init__(self, get_response: Callable[[IdentifiedRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: IdentifiedRequest) -> HttpResponse:
        """Answer the request."""
        began = time.perf_counter()
        request.request_id = request_id(request.headers.get("X-Request-ID"))
        request.log_facts = {}
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request.request_id)
        response = self._get_response(request)
        response["X-Request-ID"] = request.request_id
        logger.info(
            "request",
            method=request.method,
            path=_loggable_path(request),
            status=response.status_code,
            duration_ms=round((time.perf_counter() - began) * 1000, 2),
            **request.log_facts,
        )
        return response


def _loggable_path(request: IdentifiedRequest) -> str:
    """The address as it is routed: the rest of it, like an address that is none of ours, is the
    sender's text and may hold anything."""
    match = request.resolver_match
    if match is not None and match.url_name:
        return f"/{match.route}"
    # Static files are answered before anything is routed.
    return settings.STATIC_URL if request.path.startswith(settings.STATIC_URL) else "unknown"
