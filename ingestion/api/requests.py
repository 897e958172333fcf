"""What a request carries here beyond the framework's own; the site's middleware puts it there."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from rest_framework.request import Request


class IdentifiedRequest(HttpRequest):
    """`request_id` names the request; `log_facts` join its line in the log."""

    request_id: str
    log_facts: dict[str, Any]


class ApiRequest(Request):
    """The same seen through REST framework, which passes such attributes on."""

    request_id: str
    log_facts: dict[str, Any]
