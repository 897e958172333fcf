"""What browsers may load on a page of the portal."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase
from django.urls import reverse

# Everything comes from this site, and nothing is inline. So even a value that is not escaped by
# mistake cannot run as a script.
POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'"
)


class ContentSecurityPolicyMiddleware:
    """Sends the policy with every answer of the portal, error pages included."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer the request."""
        response = self._get_response(request)
        if in_portal(request):
            response["Content-Security-Policy"] = POLICY
        return response


def in_portal(request: HttpRequest) -> bool:
    """Whether the address belongs to the staff portal."""
    return request.path.startswith(reverse("admin:index"))
