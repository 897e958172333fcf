"""Gives every request an id and one line in the log."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
from django.conf import settings
from django.http import HttpResponse
from django.urls import Resolver404, ResolverMatch, resolve

from ingestion.api.requests import IdentifiedRequest
from tutormax.request_id import request_id

logger = structlog.get_logger(__name__)


class RequestLogMiddleware:
    """Gives each request its `request_id`, repeats it in `X-Request-ID`, and logs the request.

    A view can add facts to the line, like counts, in `request.log_facts`.
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
            path=logged_path(request.path, request.resolver_match),
            status=response.status_code,
            duration_ms=round((time.perf_counter() - began) * 1000, 2),
            **request.log_facts,
        )
        return response


def logged_path(path: str, match: ResolverMatch | None = None) -> str:
    """The route of the address; give `match` if it is already known.

    The rest of an address, and an unknown address, is the sender's text and may contain anything.
    """
    if path.startswith(settings.STATIC_URL):  # answered before routing
        return settings.STATIC_URL
    try:
        match = match or resolve(path)
    except Resolver404:
        return "unknown"
    return f"/{match.route}" if match.url_name else "unknown"
