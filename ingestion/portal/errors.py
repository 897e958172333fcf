"""The pages that people see when a page of the portal cannot be shown."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

from ingestion.portal.pages import RightMissing, page
from ingestion.portal.site import site
from ingestion.times import duration


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """400, with the portal's navigation if the person is known to be staff."""
    title = "This request cannot be read"
    sentence = (
        "The address or the form has a value that this site does not use. Nothing was changed."
    )
    # Some requests are refused before the portal knows who sent them.
    if not hasattr(request, "user") or not site.has_permission(request):
        return _alone(HTTPStatus.BAD_REQUEST, title, sentence)
    return page(
        request,
        "portal/error.html",
        title=title,
        context={
            "sentence": sentence,
            "advice": "Use the navigation to find what you are looking for.",
        },
        status=HTTPStatus.BAD_REQUEST,
    )


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """403, with the missing permission if it is known."""
    right = exception.name if isinstance(exception, RightMissing) else None
    return page(
        request,
        "portal/error.html",
        title="Your account may not do this",
        context={
            "sentence": f"It needs the permission “{right}”." if right else "",
            "advice": "If it is part of your work, ask an administrator of this portal.",
        },
        status=HTTPStatus.FORBIDDEN,
    )


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """404."""
    return page(
        request,
        "portal/error.html",
        title="Page not found",
        context={
            "sentence": "The address is misspelled, or the page no longer exists.",
            "advice": "Use the navigation to find what you are looking for.",
        },
        status=HTTPStatus.NOT_FOUND,
    )


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """403 for a form of another site, or one that was loaded before the last sign-in."""
    return _alone(
        HTTPStatus.FORBIDDEN,
        "This form has expired",
        "Nothing was changed. Go back, reload the page and send the form again. If that does not "
        "help, allow cookies for this site.",
    )


def too_many_tries(
    request: HttpRequest, response: HttpResponse, credentials: Mapping[str, str] | None
) -> HttpResponse:
    """429 after too many failed attempts to sign in, whether the account exists or not."""
    seconds = settings.SIGN_IN_COOL_OFF_SECONDS
    answer = _alone(
        HTTPStatus.TOO_MANY_REQUESTS,
        "Too many attempts to sign in",
        f"Signing in to this account or from your address failed too often. Wait "
        f"{duration(seconds)}, then try again. If you have forgotten your password, ask an "
        "administrator of this portal for a new one.",
    )
    answer["Retry-After"] = str(seconds)
    return answer


def server_error(request: HttpRequest) -> HttpResponse:
    """500. This page does not use the database or the session: they may have caused the error."""
    return _alone(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "Something went wrong",
        "This is our error. Try again. If it happens again, tell an administrator the time and the "
        "address of the page: the log has the details.",
    )


def _alone(status: HTTPStatus, title: str, sentence: str) -> HttpResponse:
    document = render_to_string(
        "portal/error.html",
        {"title": title, "sentence": sentence, "site_title": site.site_title},
    )
    return HttpResponse(document, status=status)
