"""One shape for every error, and the one place that maps a fault to its HTTP status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog
from django.http import JsonResponse
from rest_framework import exceptions
from rest_framework.response import Response

from ingestion.api.requests import IdentifiedRequest
from ingestion.outcomes import ANSWERS, Code, FieldError, IntakeError, utc_timestamp

logger = structlog.get_logger(__name__)

# What the framework raises by itself, in our words.
_FRAMEWORK_CODES: tuple[tuple[type[exceptions.APIException], Code], ...] = (
    (exceptions.MethodNotAllowed, Code.METHOD_NOT_ALLOWED),
    (exceptions.NotAuthenticated, Code.UNAUTHENTICATED),
    (exceptions.AuthenticationFailed, Code.UNAUTHENTICATED),
    (exceptions.PermissionDenied, Code.FORBIDDEN),
    (exceptions.UnsupportedMediaType, Code.UNSUPPORTED_MEDIA_TYPE),
    (exceptions.NotFound, Code.NOT_FOUND),
)


def field_errors_document(errors: Sequence[FieldError]) -> list[dict[str, str | None]]:
    """The `errors` list of the contract: field, code and message of each."""
    return [
        {"field": error.field, "code": error.code.value, "message": error.message}
        for error in errors
    ]


def error_document(
    code: Code,
    *,
    request_id: str,
    errors: Sequence[FieldError] = (),
    outcome_unknown: bool = False,
) -> dict[str, Any]:
    """The body of every refused request (contract, section 2, Errors)."""
    document: dict[str, Any] = {
        "success": False,
        "error": ANSWERS[code].sentence,
        "code": code.value,
        "timestamp": utc_timestamp(),
        "request_id": request_id,
    }
    if errors:
        document["errors"] = field_errors_document(errors)
    if outcome_unknown:
        document["outcome"] = "unknown"
    return document


def exception_handler(fault: Exception, context: dict[str, Any]) -> Response:
    """Django REST framework's hook: whatever a view raises becomes an answer in our shape.

    A fault of our own is logged with its trace and told as a plain 500.
    """
    request = context["request"]
    headers: dict[str, str] = {}
    outcome_unknown = False
    if isinstance(fault, IntakeError):
        code = fault.code
        outcome_unknown = fault.outcome_unknown
        if fault.retry_after_seconds is not None:
            headers["Retry-After"] = str(fault.retry_after_seconds)
    else:
        code = next((word for kind, word in _FRAMEWORK_CODES if isinstance(fault, kind)), None) or (
            Code.INTERNAL_ERROR
        )
    if isinstance(fault, exceptions.MethodNotAllowed):
        headers["Allow"] = ", ".join(context["view"].allowed_methods)
    if code is Code.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Api-Key"
    if code is Code.UNSUPPORTED_ENCODING:
        headers["Accept-Encoding"] = "gzip, identity"
    if code is Code.INTERNAL_ERROR:
        logger.error("request_failed", exc_info=fault)
    request.log_facts["code"] = code.value
    return Response(
        error_document(code, request_id=request.request_id, outcome_unknown=outcome_unknown),
        status=ANSWERS[code].status,
        headers=headers,
    )


def _answer(request: IdentifiedRequest, code: Code) -> JsonResponse:
    return JsonResponse(
        error_document(code, request_id=request.request_id), status=ANSWERS[code].status
    )


def bad_request(request: IdentifiedRequest, exception: Exception) -> JsonResponse:
    """Django's handler400."""
    return _answer(request, Code.MALFORMED_REQUEST)


def permission_denied(request: IdentifiedRequest, exception: Exception) -> JsonResponse:
    """Django's handler403."""
    return _answer(request, Code.FORBIDDEN)


def page_not_found(request: IdentifiedRequest, exception: Exception) -> JsonResponse:
    """Django's handler404."""
    return _answer(request, Code.NOT_FOUND)


def server_error(request: IdentifiedRequest) -> JsonResponse:
    """Django's handler500; Django has logged the fault with its trace."""
    return _answer(request, Code.INTERNAL_ERROR)
