"""Whose failed tries to sign in are counted together."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest

from ingestion.addresses import client_address


def counted_address(request: HttpRequest) -> str | None:
    """The address that a try to sign in counts for; None if there is none, as on a socket file."""
    return client_address(
        request.META.get("REMOTE_ADDR", ""),
        request.headers.get("X-Forwarded-For", ""),
        proxies=settings.TRUSTED_PROXIES,
    )
