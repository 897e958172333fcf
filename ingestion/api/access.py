"""Who may send records: for now, programs on this machine, or everybody where a setting says so."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest

from ingestion.addresses import is_loopback
from ingestion.outcomes import AccessError, Code

# A proxy on this machine speaks for somebody else. Beside these, all that begin with X-Forwarded-:
# a proxy may well say the scheme alone.
_FORWARDING_HEADERS = {"forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip"}


def client_name(request: HttpRequest) -> str:
    """The name of the client that sends this request, as it stands in a message's `source`.

    Raises `AccessError` for a request that could have come over a network, unless
    `OPEN_WITHOUT_KEY` is set. The peer is asked and not the address that the server was bound to,
    so that this holds under any web server.
    """
    if settings.OPEN_WITHOUT_KEY:
        return "anonymous"
    if is_loopback(request.META.get("REMOTE_ADDR", "")) and not any(
        header in _FORWARDING_HEADERS or header.startswith("x-forwarded-")
        for header in map(str.lower, request.headers)
    ):
        return "local"
    raise AccessError(Code.UNAUTHENTICATED)
