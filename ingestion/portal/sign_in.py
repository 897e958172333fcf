"""Attempts to sign in: which attempts are counted together, and how they are counted."""

from __future__ import annotations

from typing import Any

from axes.backends import AxesStandaloneBackend
from axes.handlers.database import AxesDatabaseHandler
from axes.handlers.proxy import AxesProxyHandler
from axes.helpers import get_failure_limit
from axes.models import AccessAttempt
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import F
from django.http import HttpRequest

from ingestion.addresses import client_address


def counted_address(request: HttpRequest) -> str | None:
    """The address for which an attempt counts; None if there is none, as on a socket file."""
    return client_address(
        request.META.get("REMOTE_ADDR", ""),
        request.headers.get("X-Forwarded-For", ""),
        proxies=settings.TRUSTED_PROXIES,
    )


class CountedTries(AxesStandaloneBackend):  # type: ignore[misc]
    """Counts an attempt before the password is checked, so that simultaneous attempts all count.

    The database holds the count for all processes and servers. An attempt counts as a failure until
    it is known to be a success. If the count is then above the limit, the attempt is refused.
    """

    def authenticate(
        self,
        request: HttpRequest,
        username: str | None = None,
        password: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Raise `PermissionDenied` if this account or this address may not try now."""
        super().authenticate(request, username, password, **kwargs)
        credentials = {"username": username}
        request.counted_try = _count_try(request, username)  # type: ignore[attr-defined]
        if AxesProxyHandler.get_failures(request, credentials) > get_failure_limit(
            request, credentials
        ):
            _take_back(request)
            request.axes_locked_out = True  # type: ignore[attr-defined]
            raise PermissionDenied


class Tries(AxesDatabaseHandler):  # type: ignore[misc]
    """Records how a counted attempt ended."""

    def user_login_failed(
        self,
        sender: object,
        credentials: dict[str, Any],
        request: HttpRequest | None = None,
        **kwargs: Any,
    ) -> None:
        """Record the failure in the row of the attempt: the count for others does not change."""
        with transaction.atomic():
            _take_back(request)
            super().user_login_failed(sender, credentials, request, **kwargs)

    def user_logged_in(
        self, sender: object, request: HttpRequest, user: Any, **kwargs: Any
    ) -> None:
        """The attempt was a success and no longer counts."""
        _take_back(request)
        super().user_logged_in(sender, request, user, **kwargs)


def _count_try(request: Any, username: str | None) -> int:
    """Count a failure; returns the row that holds it."""
    with transaction.atomic():
        # An expired row would not count.
        AxesProxyHandler.get_implementation().clean_expired_user_attempts(request)
        row, _ = AccessAttempt.objects.get_or_create(
            username=username,
            ip_address=request.axes_ip_address,
            user_agent=request.axes_user_agent,
            defaults={"failures_since_start": 0, "attempt_time": request.axes_attempt_time},
        )
        AccessAttempt.objects.filter(pk=row.pk).update(
            failures_since_start=F("failures_since_start") + 1
        )
    return int(row.pk)


def _take_back(request: Any) -> None:
    counted = getattr(request, "counted_try", None)
    if counted is None:
        return
    request.counted_try = None
    with transaction.atomic():
        AccessAttempt.objects.filter(pk=counted, failures_since_start__gt=0).update(
            failures_since_start=F("failures_since_start") - 1
        )
        AccessAttempt.objects.filter(pk=counted, failures_since_start=0).delete()
