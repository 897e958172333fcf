"""Who may send records and read numbers: who has an API key, and programs on this machine."""

from __future__ import annotations

from django.conf import settings

from ingestion.addresses import is_loopback
from ingestion.api.requests import ApiRequest
from ingestion.api_keys import KeysNotKnownError, known_keys
from ingestion.outcomes import AccessError, Code

# A proxy on this machine speaks for somebody else. Beside these, all that begin with X-Forwarded-:
# a proxy may well say the scheme alone.
_FORWARDING_HEADERS = {"forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip"}


def client_name(request: ApiRequest, scope: str) -> str:
    """The name of the client that sends this request, as it stands in a message's `source`.

    `scope` is what the client wants, one of `ingestion.api_keys.SCOPES`. A key that is sent is
    never overlooked: it decides, also where none is needed. Without one, who is on this machine is
    let in, and everybody where `OPEN_WITHOUT_KEY` is set. The peer is asked and not the address
    that the server was bound to, so that this holds under any web server.

    Raises `AccessError` for everybody else, and while nobody can say which keys are good.
    """
    scheme, _, key = request.headers.get("Authorization", "").strip().partition(" ")
    # Another scheme is for somebody else, such as the proxy in front.
    if scheme.lower() == "api-key":
        return _client_of(key.strip(), request, scope)
    if settings.OPEN_WITHOUT_KEY:
        return "anonymous"
    if is_loopback(request.META.get("REMOTE_ADDR", "")) and not any(
        header in _FORWARDING_HEADERS or header.startswith("x-forwarded-")
        for header in map(str.lower, request.headers)
    ):
        return "local"
    raise AccessError(Code.UNAUTHENTICATED)


def _client_of(key: str, request: ApiRequest, scope: str) -> str:
    try:
        grant = known_keys.grant(key)
    except KeysNotKnownError:
        raise AccessError(Code.SERVER_BUSY, retry_after_seconds=1) from None
    if grant is None:
        raise AccessError(Code.UNAUTHENTICATED)
    request.log_facts["client"] = grant.client
    if scope not in grant.scopes:
        raise AccessError(Code.FORBIDDEN)
    return grant.client
