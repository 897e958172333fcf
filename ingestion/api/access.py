"""Who may send records and read numbers: clients with an API key, and programs on this machine."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from django.conf import settings

from ingestion.addresses import is_loopback
from ingestion.api.requests import ApiRequest
from ingestion.api_keys import KEY_PREFIX, Grant, KeysNotKnownError, known_keys
from ingestion.outcomes import AccessError, Code
from ingestion.sources import ANONYMOUS, LOCAL

# A proxy on this machine sends for somebody else. All headers that begin with X-Forwarded- count
# too: a proxy may send only the scheme.
_FORWARDING_HEADERS = {"forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip"}

_OURS = re.compile(r"[ \t]*api-key(?:[ \t]+(?P<key>.*?))?[ \t]*", re.IGNORECASE | re.DOTALL)
# How a proxy in front asks for a password. It passes the header on.
_OF_A_PROXY = re.compile(r"(?:basic|digest|negotiate) ", re.IGNORECASE)


def client_name(request: ApiRequest, scope: str) -> str:
    """The name of the client that sends this request (see `client_of`), also for its log line."""
    address = request.META.get("REMOTE_ADDR", "")
    return client_of(request.headers, address, scope, facts=request.log_facts)


def client_of(
    headers: Mapping[str, str],
    address: str,
    scope: str,
    *,
    facts: dict[str, Any],
    grant_of: Callable[[str], Grant | None] = known_keys.grant,
) -> str:
    """The name of the client with these headers, as a message's `source` holds it.

    `headers` finds a value by the header's name in small letters. `scope` is what the client wants,
    one of `ingestion.api_keys.SCOPES`. A key in any form is never ignored: it decides, even if no
    key is needed. Without a key, programs on this machine may send, and everybody if
    `OPEN_WITHOUT_KEY` is set. The check uses the peer and not the address that the server listens
    on, so it works under any web server. `grant_of` looks a key up. The name is added to `facts`.

    Raises `AccessError` for everybody else, and while it is not known which keys are valid.
    """
    authorization = headers.get("authorization")
    if authorization is not None and (ours := _OURS.fullmatch(authorization)):
        grant = _grant(ours["key"] or "", grant_of)
        facts["client"] = grant.client
        if scope not in grant.scopes:
            raise AccessError(Code.FORBIDDEN, detail=f"The key lacks the scope {scope}.")
        return grant.client
    if settings.OPEN_WITHOUT_KEY:
        if _is_for_a_proxy(authorization, headers.get("x-api-key")):
            facts["client"] = ANONYMOUS
            return ANONYMOUS
    elif (
        authorization is None
        and "x-api-key" not in headers
        and is_loopback(address)
        and not any(
            header in _FORWARDING_HEADERS or header.startswith("x-forwarded-")
            for header in map(str.lower, headers)
        )
    ):
        facts["client"] = LOCAL
        return LOCAL
    raise AccessError(Code.UNAUTHENTICATED)


def _is_for_a_proxy(authorization: str | None, api_key: str | None) -> bool:
    """Whether neither header holds a key for us.

    An open site leaves access to a proxy in front, which may ask for a password for example.
    """
    return (authorization is None or bool(_OF_A_PROXY.match(authorization))) and not (
        api_key and KEY_PREFIX in api_key
    )


def _grant(key: str, grant_of: Callable[[str], Grant | None]) -> Grant:
    try:
        grant = grant_of(key)
    except KeysNotKnownError:
        raise AccessError(Code.SERVER_BUSY, retry_after_seconds=1) from None
    if grant is None:
        raise AccessError(Code.UNAUTHENTICATED)
    return grant
