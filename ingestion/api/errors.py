"""One shape for every error, and the one place that maps a fault to its HTTP status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from django.core.exceptions import DisallowedHost, SuspiciousOperation
from django.http import HttpResponse
from msgspec import UNSET, Struct
from msgspec.json import encode
from rest_framework import exceptions

from ingestion.api import answers
from ingestion.api.requests import ApiRequest, IdentifiedRequest
from ingestion.outcomes import (
    Code,
    FieldError,
    IntakeError,
)
from ingestion.times import utc_timestamp

logger = structlog.get_logger(__name__)

# Errors that the framework raises itself, in our words.
_FRAMEWORK_CODES: tuple[tuple[type[Exception], Code], ...] = (
    (exceptions.MethodNotAllowed, Code.METHOD_NOT_ALLOWED),
    (exceptions.NotFound, Code.NOT_FOUND),
    (SuspiciousOperation, Code.MALFORMED_REQUEST),
)
_STRANGE_HOST = (
    "Its Host header names no host of this site (ALLOWED_HOSTS lists them; a name and its address "
    "are two hosts)."
)


def answered(answer: Struct, **options: Any) -> HttpResponse:
    """The response with this body; `options` are Django's."""
    return HttpResponse(encode(answer), content_type="application/json", **options)


def error(
    code: Code,
    *,
    request_id: str,
    errors: Sequence[FieldError] = (),
    outcome_unknown: bool = False,
    detail: str = "",
) -> answers.Error:
    """The body of every refused request (contract, section 2, Errors).

    `detail` is an additional sentence of ours, or the reason that staff gave for a pause.
    """
    return answers.Error(
        error=f"{code.sentence} {detail}".rstrip(),
        code=code,
        timestamp=utc_timestamp(),
        request_id=request_id,
        errors=answers.field_errors(errors) if errors else UNSET,
        outcome="unknown" if outcome_unknown else UNSET,
    )


def refusal(
    request: IdentifiedRequest | ApiRequest,
    code: Code,
    *,
    headers: Mapping[str, str] | None = None,
    **facts: Any,
) -> HttpResponse:
    """The answer to a refused request; `facts` go to `error`. Notes the code for the log.

    It renders itself, so that an error is JSON even if the requested page would be HTML.
    """
    request.log_facts["code"] = code.value
    return answered(
        error(code, request_id=request.request_id, **facts),
        status=code.status,
        headers=headers,
    )


def exception_handler(fault: Exception, context: dict[str, Any]) -> HttpResponse:
    """Django REST framework's hook: every exception of a view becomes an answer in our form.

    An error of ours is logged with its trace and answered with a plain 500.
    """
    code, headers, facts = explained(fault)
    if code is Code.INTERNAL_ERROR:
        logger.error("request_failed", exc_info=fault)
    return refusal(context["request"], code, headers=headers, **facts)


def explained(fault: Exception) -> tuple[Code, dict[str, str], dict[str, Any]]:
    """The code of the fault, the headers of its answer, and what `error` says of it."""
    headers: dict[str, str] = {}
    facts: dict[str, Any] = {}
    if isinstance(fault, IntakeError):
        code = fault.code
        facts = {"outcome_unknown": fault.outcome_unknown, "detail": fault.detail}
        if fault.retry_after_seconds is not None:
            headers["Retry-After"] = str(fault.retry_after_seconds)
    else:
        code = next((word for kind, word in _FRAMEWORK_CODES if isinstance(fault, kind)), None) or (
            Code.INTERNAL_ERROR
        )
    if code is Code.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Api-Key"
    if code is Code.UNSUPPORTED_ENCODING:
        headers["Accept-Encoding"] = "gzip, identity"
    return code, headers, facts


def bad_request(request: IdentifiedRequest, exception: Exception) -> HttpResponse:
    """Django's handler400. The log gets only the type of the error."""
    request.log_facts["fault"] = type(exception).__name__
    detail = _STRANGE_HOST if isinstance(exception, DisallowedHost) else ""
    return refusal(request, Code.MALFORMED_REQUEST, detail=detail)


def permission_denied(request: IdentifiedRequest, exception: Exception) -> HttpResponse:
    """Django's handler403."""
    return refusal(request, Code.FORBIDDEN)


def page_not_found(request: IdentifiedRequest, exception: Exception) -> HttpResponse:
    """Django's handler404."""
    return refusal(request, Code.NOT_FOUND)


def server_error(request: IdentifiedRequest) -> HttpResponse:
    """Django's handler500; Django has logged the fault with its trace."""
    return refusal(request, Code.INTERNAL_ERROR)
