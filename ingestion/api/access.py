"""Who may send records and read numbers: who has an API key, and programs on this machine."""

from __future__ import annotations

import re

from django.conf import settings

from ingestion.addresses import is_loopback
from ingestion.api.requests import ApiRequest
from ingestion.api_keys import KEY_PREFIX, KeysNotKnownError, known_keys
from ingestion.outcomes import AccessError, Code
from ingestion.sources import ANONYMOUS, LOCAL

# A proxy on this machine speaks for somebody else. Beside these, all that begin with X-Forwarded-:
# a proxy may well say the scheme alone.
_FORWARDING_HEADERS = {"forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip"}

_OURS = re.compile(r"[ \t]*api-key(?:[ \t]+(?P<key>.*?))?[ \t]*", re.IGNORECASE | re.DOTALL)
# How a proxy in front asks for a password. It hands the header on.
_OF_A_PROXY = re.compile(r"(?:basic|digest|negotiate) ", re.IGNORECASE)


def client_name(request: ApiRequest, scope: str) -> str:
    """The name of the client that sends this request, as it stands in a message's `source`.

    `scope` is what the client wants, one of `ingestion.api_keys.SCOPES`. A key that is sent is
    never overlooked, in whatever form: it decides, also where none is needed. Without one, who is
    on this machine is let in, and everybody where `OPEN_WITHOUT_KEY` is set. The peer is asked and
    not the address that the server was bound to, so that this holds under any web server.

    Raises `AccessError` for everybody else, and while nobody can say which keys are good.
    """
    authorization = request.headers.get("Authorization")
    if authorization is not None and (ours := _OURS.fullmatch(authorization)):
        return _client_of(ours["key"] or "", request, scope)
    if settings.OPEN_WITHOUT_KEY:
        if _is_for_a_proxy(authorization, request.headers.get("X-API-Key")):
            return ANONYMOUS
    elif (
        authorization is None
        and "X-API-Key" not in request.headers
        and is_loopback(request.META.get("REMOTE_ADDR", ""))
        and not any(
            header in _FORWARDING_HEADERS or header.startswith("x-forwarded-")
            for header in map(str.lower, request.headers)
        )
    ):
        return LOCAL
    raise AccessError(Code.UNAUTHENTICATED)


def _is_for_a_proxy(authorization: str | None, api_key: str | None) -> bool:
    """Whether none of the two headers holds a key that is meant for us.

    Who opens the site leaves it to a proxy in front who may come in, with a password for example.
    """
    return (authorization is None or bool(_OF_A_PROXY.match(authorization))) and not (
        api_key and KEY_PREFIX in api_key
    )


def _client_of(key: str, request: ApiRequest, scope: str) -> str:
    try:
        grant = known_keys.grant(key)
    except KeysNotKnownError:
        raise AccessError(Code.SERVER_BUSY, retry_after_seconds=1) from None
    if grant is None:
        raise AccessError(Code.UNAUTHENTICATED)
    request.log_facts["client"] = grant.client
    if scope not in grant.scopes:
        raise AccessError(Code.FORBIDDEN, detail=f"The key lacks the scope {scope}.")
    return grant.client
