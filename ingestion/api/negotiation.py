"""Every answer is JSON: there is nothing to negotiate."""

from __future__ import annotations

from typing import Any

from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request


class AlwaysJSON(BaseContentNegotiation):
    """Every answer is JSON, whatever the Accept header asks for; our own code reads bodies."""

    def select_parser(self, request: Request, parsers: Any) -> None:
        """None, because no view uses DRF's parsers."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> Any:
        """The first and only renderer."""
        return renderers[0], renderers[0].media_type
